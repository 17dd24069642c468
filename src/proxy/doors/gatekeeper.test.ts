import { once } from "node:events";
import type { IncomingHttpHeaders } from "node:http2";
import { text } from "node:stream/consumers";
import type { TLSSocket } from "node:tls";
import { afterEach, describe, expect, test } from "vitest";
import {
  ask,
  cookieOf,
  door,
  enter,
  HTML,
  MACHINE_TOKEN,
  ORIGIN,
  PASSWORD,
  secured,
  doorScene as stage,
} from "../../../test/suites/door-scene.ts";
import { ALICE, closeScenes, GATE, http2Client, type ProxyScene } from "../../../test/suites/proxy-scene.ts";
import { fieldLines } from "../../../test/suites/recording-backend.ts";
import { FakeClock } from "../../base/clock.ts";
import { Fault } from "../../base/fault.ts";
import { memoryStore } from "../../base/store.ts";
import type { RouteRules } from "../route-rules.ts";
import { doorPage } from "./door-pages.ts";
import { hashSecret } from "./secret-hash.ts";

afterEach(closeScenes);

describe("a stranger", () => {
  test.each([
    ["a browser", HTML, "GET", /^<!doctype html>.*type="password".*Who goes there|^<!doctype html>/s, "text/html"],
    ["a browser that sends a form", HTML, "POST", /<form method="post"/, "text/html"],
    [
      "a program",
      {},
      "GET",
      /^401 this place has a door: open https:\/\/gw\.tail\.test\/\.sallyport\/door\/friends /,
      "text/plain",
    ],
    ["curl", { accept: "*/*" }, "GET", /^401 this place/, "text/plain"],
    [
      "a JSON client",
      { accept: "application/json" },
      "POST",
      /^\{"error":"this place has a door","door":"friends"/,
      "application/json",
    ],
    ["a monitor", HTML, "HEAD", /^$/, "text/plain"],
  ])("%s is answered at the door, and no backend hears of it", async (_, headers, method, body, type) => {
    const scene = await stage();
    const answer = await ask(scene, "/page?q=1", { headers, method });
    expect(answer.status).toBe(401);
    expect(answer.headers["www-authenticate"]).toBe('Sallyport-Door realm="friends"');
    expect(answer.headers["cache-control"]).toBe("no-store");
    expect(answer.headers["content-type"]).toContain(type);
    expect(answer.body).toMatch(body);
    expect(scene.backend.requests).toEqual([]);
  });

  test("the page runs no script, is framed by nobody, labels its fields and comes back to where one was", async () => {
    const scene = await stage();
    const { body, headers } = await ask(scene, '/a/"><b>?x=1', { headers: HTML });
    expect(headers["content-security-policy"]).toMatch(
      /^default-src 'none'; style-src 'sha256-.*frame-ancestors 'none'/,
    );
    expect(headers["referrer-policy"]).toBe("same-origin");
    expect(body).not.toContain("<script");
    expect(body).not.toContain("<b>");
    expect(body).toContain('name="to" value="/a/%22%3E%3Cb%3E?x=1"');
    for (const way of ["password", "pin"]) expect(body).toMatch(new RegExp(`<label for="${way}">.*id="${way}"`, "s"));
    expect(body).toContain('<html lang="en">');
  });

  test("files, texts and names beyond ASCII have the same door; a route without one is open", async () => {
    const scene = await stage();
    for (const path of ["/text", "/%C3%A9", "/x"]) expect((await ask(scene, path)).status, path).toBe(401);
    expect((await ask(scene, "/open")).status).toBe(200);
  });

  test.each([
    ...["/TEXT", "/Open/x", "/oPEN;v=1", "/OPEN%2Fx", "/Text/?q"],
    ...[
      "/text%0A",
      "/%20text",
      "/open%09/x",
      "/text::$INDEX_ALLOCATION/x",
      "/Open:$I30:$INDEX_ALLOCATION",
      "/te%E2%80%8Bxt",
    ],
    ...["/text.", "/open%20/x", "/open.%20.", "/%EF%BC%B4ext", "/open%EF%BC%8Fx", "/e%CC%81", "/%C3%89"],
  ])("%s, which Express or Windows takes for what is behind the door, was a way around it by `/`", async (path) => {
    const scene = await stage({ open: ["/"] });
    expect((await ask(scene, path)).status).toBe(400);
    expect((await ask(scene, "/Opened")).status, "another place").toBe(200);
    expect((await ask(scene, "/open/X")).status).toBe(401);
    expect(scene.backend.requests).toHaveLength(1);
  });

  test("`curl -d secret=pässword` was a wrong guess: a script escapes nothing", async () => {
    const scene = await stage({ door: { password: await hashSecret("pässword", { log2: 4, blocks: 8, lanes: 1 }) } });
    const form = "way=password&secret=pässword";
    expect((await ask(scene, "/.sallyport/door/friends/enter", { form })).status).toBe(303);
  });

  test("a door for certificates alone said that only programs with a token may enter", async () => {
    const { password: _, pin: __, ...bare } = await door({ hasLinks: false });
    expect(doorPage(bare, "/")).toContain("given a certificate");
    expect(doorPage(bare, "/")).not.toContain("Only programs");
    expect(doorPage({ ...bare, hasCertificates: false }, "/")).toContain("Only programs");
  });

  test("plain HTTP has no door that opens", async () => {
    const scene = await stage();
    const client = scene.connect(80);
    client.write(
      `GET / HTTP/1.1\r\nHost: ${GATE}\r\nSallyport-Door-Token: ${MACHINE_TOKEN}\r\nConnection: close\r\n\r\n`,
    );
    expect(await text(client)).toMatch(/^HTTP\/1\.1 403 /);
    expect(scene.backend.requests).toEqual([]);
  });

  test("without its door, or while nobody can say who came, a route is closed", async () => {
    const scene = await stage();
    scene.keeper.setDoors([]);
    expect((await ask(scene, "/")).status).toBe(503);
    const other = await stage();
    other.caller = new Fault("IDENTITY_UNKNOWN_PEER", "Cannot identify");
    expect((await ask(other, "/")).status).toBe(503);
    expect((await ask(other, "/.sallyport/door/friends")).status).toBe(503);
    expect([...scene.backend.requests, ...other.backend.requests]).toEqual([]);
  });
});

describe("who passes", () => {
  test("ID-12 by password: a guest, with no name of a user and no cookie of the door at the backend", async () => {
    const scene = await stage();
    const cookie = await enter(scene, { to: "/back?x=1" });
    expect(cookie).toMatch(/^__Host-sallyport-friends=[\w-]{43}$/);
    const answer = await ask(scene, "/in", { headers: { cookie: `a=1; ${cookie}; b=2` } });
    expect([answer.status, answer.body]).toEqual([200, "ok"]);
    const fields = Object.fromEntries(fieldLines(scene.backend.requests.at(-1)!).map(([n, v]) => [n.toLowerCase(), v]));
    expect(fields["sallyport-caller-kind"]).toBe("guest");
    expect(JSON.parse(fields["sallyport-guest"]!)).toEqual({ iss: "urn:sallyport:door:friends", sub: "password" });
    expect(fields["x-forwarded-for"]).toBe("198.51.100.7");
    expect(fields["cookie"]).toBe("a=1; b=2");
    expect(Object.keys(fields).filter((name) => name.startsWith("tailscale-"))).toEqual([]);
  });

  test.each([
    ["a PIN with blanks", { way: "pin", secret: "482 913" }, "pin"],
    ["a password", { way: "password", secret: PASSWORD }, "password"],
  ])("by %s", async (_, form, subject) => {
    const scene = await stage();
    const cookie = await enter(scene, form);
    await ask(scene, "/", { headers: { cookie } });
    expect(scene.backend.requests.at(-1)).toContain(`"sub":"${subject}"`);
  });

  test("ID-20 by token: as the machine of that name, and the token stays here under every spelling", async () => {
    const scene = await stage();
    const spellings = ["sallyport-door-token", "Sallyport_Door_Token", "SALLYPORT.DOOR.TOKEN"];
    for (const name of spellings) {
      await ask(scene, "/", { headers: { "Sallyport-Door-Token": MACHINE_TOKEN, [name]: MACHINE_TOKEN } });
    }
    expect(scene.backend.requests).toHaveLength(3);
    for (const request of scene.backend.requests) {
      expect(request).not.toContain(MACHINE_TOKEN);
      expect(request).toContain('"sub":"token:ci"');
    }
    expect((await ask(scene, "/", { headers: { "Sallyport-Door-Token": `${MACHINE_TOKEN}x` } })).status).toBe(401);
  });

  test.each([
    ["X-Api-Key", (token: string) => token, true],
    ["Authorization", (token: string) => `Bearer ${token}`, true],
    ["Authorization", (token: string) => `bearer  ${token}`, true],
    ["Authorization", (token: string) => token, false],
    ["Authorization", (token: string) => `Basic ${token}`, false],
  ])("ID-20 a token in %s (%#)", async (tokenHeader, written, isIn) => {
    const scene = await stage({ door: { tokenHeader } });
    const answer = await ask(scene, "/", {
      headers: { [tokenHeader]: written(MACHINE_TOKEN), x_api_key: MACHINE_TOKEN },
    });
    expect(answer.status).toBe(isIn ? 200 : 401);
    expect(scene.backend.requests.join("")).not.toContain(MACHINE_TOKEN);
  });

  test("an Authorization that is the backend's own passes on with a guest of the session", async () => {
    const scene = await stage({ door: { tokenHeader: "Authorization" } });
    const cookie = await enter(scene);
    await ask(scene, "/", { headers: { cookie, authorization: "Bearer of-the-backend" } });
    expect(fieldLines(scene.backend.requests.at(-1)!)).toContainEqual(["authorization", "Bearer of-the-backend"]);
  });

  test("who has an identity in the mesh needs no door, unless it stops everyone; nobody's machine always does", async () => {
    const scene = await stage();
    scene.caller = ALICE;
    await ask(scene, "/", { headers: { "Sallyport-Door-Token": MACHINE_TOKEN } });
    expect(scene.backend.requests.at(-1)).toContain("Tailscale-User-Login: alice@example.com");
    scene.caller = { kind: "routed", via: "aa", address: "10.0.0.9" };
    expect((await ask(scene, "/")).status).toBe(401);
    const strict = await stage({ door: { stops: "everyone" } });
    strict.caller = ALICE;
    expect((await ask(strict, "/")).status).toBe(401);
    const cookie = await enter(strict);
    await ask(strict, "/", { headers: { cookie } });
    expect(strict.backend.requests.at(-1), "and stays who it is").toContain("Tailscale-User-Login: alice@example.com");
  });

  test("ID-9 guests who come and go on one connection are told apart", async () => {
    const scene = await stage();
    const session = await http2Client(scene);
    const [one, two] = [await enter(scene), await enter(scene, { way: "pin", secret: "482913" })];
    const subjects: string[] = [];
    for (const cookie of [one, two, one, undefined, two]) {
      const stream = session.request({ ":path": "/", ...(cookie === undefined ? {} : { cookie }) });
      const [status] = await new Promise<[number]>((resolve) =>
        stream.once("response", (headers) => resolve([headers[":status"]!])),
      );
      stream.resume();
      subjects.push(status === 200 ? /"sub":"(\w+)"/.exec(scene.backend.requests.at(-1)!)![1]! : String(status));
    }
    expect(subjects).toEqual(["password", "pin", "password", "401", "pin"]);
  });

  test("a route may take guests of one issuer for users: by a verified address, of that issuer only, and not by default", async () => {
    const issuer = "https://id.example.com";
    const guest = { issuer, subject: "7", mail: "carol@example.com", displayName: "Carol" };
    const cases: [RouteRules, Partial<typeof guest>, string | undefined][] = [
      [{}, {}, undefined],
      [{ guestsAsUsers: issuer }, {}, "carol@example.com"],
      [{ guestsAsUsers: "https://id.example.com/" }, {}, undefined],
      [{ guestsAsUsers: issuer }, { issuer: "https://other.example" }, undefined],
    ];
    for (const [rules, other, login] of cases) {
      const scene = await stage({ rules });
      const token = scene.keeper.sessions.start("friends", { ...guest, ...other }, "198.51.100.7", {
        idleMs: 1e6,
        longestMs: 1e6,
      });
      await ask(scene, "/", { headers: { cookie: `__Host-sallyport-friends=${token}` } });
      const fields = new Map(fieldLines(scene.backend.requests.at(-1)!));
      expect(fields.get("Tailscale-User-Login")).toBe(login);
      expect(fields.get("Sallyport-Caller-Kind")).toBe(login === undefined ? "guest" : "user");
      expect(fields.get("Tailscale-App-Capabilities")).toBeUndefined();
      expect(JSON.parse(fields.get("Sallyport-Guest")!)).toEqual({ iss: other.issuer ?? issuer, sub: "7" });
    }
    const { mail: _, ...unverified } = guest;
    const scene = await stage({ rules: { guestsAsUsers: issuer } });
    const token = scene.keeper.sessions.start("friends", unverified, "198.51.100.7", { idleMs: 1e6, longestMs: 1e6 });
    await ask(scene, "/", { headers: { cookie: `__Host-sallyport-friends=${token}` } });
    expect(scene.backend.requests.at(-1)).not.toContain("Tailscale-User");
  });
});

describe("the forms", () => {
  const enterWith = (scene: ProxyScene, form: Record<string, string>, headers: Record<string, string> = {}) =>
    ask(scene, "/.sallyport/door/friends/enter", { form: { way: "password", secret: PASSWORD, ...form }, headers });

  test.each([
    ["/in?x=1", "/in?x=1"],
    ["//evil.example", "/"],
    ["https://evil.example", "/"],
    ["/\\evil.example", "/"],
  ])("RT-5 lead back to this site alone: %s → %s", async (to, led) => {
    const answer = await enterWith(await stage(), { to });
    expect([answer.status, answer.headers.location]).toEqual([303, led]);
    expect(answer.headers["cache-control"]).toBe("no-store");
  });

  test.each([
    ["another site", { origin: "https://evil.example" }],
    ["a sandboxed frame", { origin: "null" }],
    ["our name without TLS", { origin: `http://${GATE}` }],
    ["another port of ours", { origin: `${ORIGIN}:8443` }],
  ])("ID-19 count only when a page of ours sends them, not %s", async (_, headers) => {
    const answer = await enterWith(await stage(), {}, headers);
    expect([answer.status, answer.headers["set-cookie"]]).toEqual([403, undefined]);
  });

  test("a wrong guess says so; too many wait, also for the right one, and the wait is told", async () => {
    const scene = await stage();
    for (let i = 0; i < 3; i++) {
      const { status, body } = await enterWith(scene, { way: "pin", secret: `${i}00000` });
      expect(status).toBe(401);
      expect(body).toContain('role="alert"');
    }
    const late = await enterWith(scene, { way: "pin", secret: "482913" });
    expect([late.status, Number(late.headers["retry-after"]) > 30]).toEqual([429, true]);
    scene.caller = { kind: "anonymous", address: "203.0.113.9" };
    expect((await enterWith(scene, { way: "pin", secret: "482913" })).status, "another visitor").toBe(303);
  });

  test.each([
    ["no secret", { form: { way: "password", secret: "" } }, 400],
    ["a way that this door has not", { form: { way: "magic" } }, 400],
    ["another type", { method: "POST", headers: { origin: ORIGIN, "content-type": "text/plain" } }, 400],
    ["too much", { form: { secret: "x".repeat(20_000) } }, 400],
    ["GET", { method: "GET" }, 200],
  ])("with %s", async (_, asked, status) => {
    const scene = await stage();
    expect((await ask(scene, "/.sallyport/door/friends/enter", asked)).status).toBe(status);
    expect(scene.backend.requests).toEqual([]);
  });

  test("leaving ends the session and takes the cookie", async () => {
    const scene = await stage();
    const cookie = await enter(scene);
    expect((await ask(scene, "/.sallyport/door/friends/leave", { headers: { cookie } })).status).toBe(200);
    expect((await ask(scene, "/", { headers: { cookie } })).status, "looking is not leaving").toBe(200);
    const left = await ask(scene, "/.sallyport/door/friends/leave", { form: {}, headers: { cookie } });
    expect(left.headers["set-cookie"]?.[0]).toContain("Max-Age=0");
    expect((await ask(scene, "/", { headers: { cookie } })).status).toBe(401);
  });

  test("whoever passes again gets another session, and the one before is over", async () => {
    const scene = await stage();
    const first = await enter(scene);
    const second = cookieOf(await enterWith(scene, {}, { cookie: first }));
    expect(second).not.toBe(first);
    expect((await ask(scene, "/", { headers: { cookie: first } })).status).toBe(401);
    expect((await ask(scene, "/", { headers: { cookie: second } })).status).toBe(200);
  });

  test("a site without a door has no such pages, and other doors' are not there", async () => {
    const scene = await stage();
    expect((await ask(scene, "/.sallyport/door/staff")).status).toBe(401); // as any path behind this door
    expect((await ask(scene, "/.sallyport/door/friends")).status).toBe(200);
  });
});

describe("links", () => {
  test("are looked at without being used, used once by a POST, and then are over", async () => {
    const store = memoryStore();
    const scene = await stage({ store });
    const { token } = await scene.keeper.passes.create({
      door: "friends",
      name: "Carol <3",
      lifeMs: 60_000,
      isOnce: true,
    });
    const path = `/.sallyport/door/friends/link/${token}?to=/photos`;
    for (let i = 0; i < 3; i++) {
      const { status, body } = await ask(scene, path, { headers: HTML, method: i === 0 ? "HEAD" : "GET" });
      expect(status).toBe(200);
      if (i > 0) expect(body).toContain("Carol &#60;3");
    }
    const [one, two] = await Promise.all([
      ask(scene, path, { form: { to: "/photos" } }),
      ask(scene, path, { form: { to: "/photos" } }),
    ]);
    expect([one.status, two.status].sort()).toEqual([303, 404]);
    const passed = one.status === 303 ? one : two;
    expect(passed.headers.location).toBe("/photos");
    await ask(scene, "/", { headers: { cookie: cookieOf(passed) } });
    expect(scene.backend.requests.at(-1)).toContain('"sub":"link:Carol <3"');
    expect((await ask(scene, path)).status).toBe(404);
    const restarted = await stage({ store });
    expect((await ask(restarted, path, { form: {} })).status).toBe(404);
  });

  test("ID-20 its address does not go on to the backend as where one came from", async () => {
    const scene = await stage();
    const { token } = await scene.keeper.passes.create({ door: "friends", name: "C", lifeMs: 60_000, isOnce: false });
    const path = `/.sallyport/door/friends/link/${token}`;
    const passed = await ask(scene, path, { form: {} });
    expect(passed.headers["referrer-policy"]).toBe("no-referrer");
    const cookie = cookieOf(passed);
    await ask(scene, "/", { headers: { cookie, referer: ORIGIN + path } });
    await ask(scene, "/", { headers: { cookie, referer: `${ORIGIN}/a` } });
    const [first, second] = scene.backend.requests;
    expect(first).not.toContain(token);
    expect(second).toContain(`referer: ${ORIGIN}/a`);
  });

  test("one that is taken back ends what it let in", async () => {
    const scene = await stage();
    const made = await scene.keeper.passes.create({ door: "friends", name: "Carol", lifeMs: 60_000, isOnce: false });
    const path = `/.sallyport/door/friends/link/${made.token}`;
    const cookies = [cookieOf(await ask(scene, path, { form: {} })), cookieOf(await ask(scene, path, { form: {} }))];
    const other = await enter(scene);
    expect(await scene.keeper.removePass(made.link.id)).toBe(true);
    for (const cookie of cookies) expect((await ask(scene, "/", { headers: { cookie } })).status).toBe(401);
    expect((await ask(scene, "/", { headers: { cookie: other } })).status).toBe(200);
  });
});

test("H2-5 a form that never ended was a failure of the gateway's own, and its stream stayed open", async () => {
  const clock = new FakeClock();
  const scene = await stage({ clock });
  const session = await http2Client(scene);
  const forms = [
    ["way=", () => clock.advance(15_000)],
    [`way=${"x".repeat(9000)}`, () => undefined],
  ] as const;
  for (const [begun, wait] of forms) {
    const stream = session.request({
      ...{ ":method": "POST", ":path": "/.sallyport/door/friends/enter", origin: ORIGIN },
      "content-type": "application/x-www-form-urlencoded",
    });
    stream.write(begun);
    const closed = once(stream, "close");
    const answered = once(stream, "response") as Promise<[IncomingHttpHeaders]>;
    if (begun.length < 9000) await expect.poll(() => clock.next, { timeout: 30_000, interval: 5 }).toBe(15_000);
    wait();
    expect((await answered)[0][":status"]).toBe(400);
    stream.resume();
    await closed;
    expect(stream.rstCode).toBe(0);
  }
});

test("with a full disk a guest whose link was taken back stayed inside", async () => {
  const disk = { isFull: false };
  const inner = memoryStore();
  const set: typeof inner.set = (...entry) => (disk.isFull ? Promise.reject(new Error("ENOSPC")) : inner.set(...entry));
  const scene = await stage({ store: { ...inner, set } });
  const made = await scene.keeper.passes.create({ door: "friends", name: "Carol", lifeMs: 60_000, isOnce: false });
  const path = `/.sallyport/door/friends/link/${made.token}`;
  const cookie = cookieOf(await ask(scene, path, { form: {} }));
  disk.isFull = true;
  await expect(scene.keeper.removePass(made.link.id)).rejects.toThrow("ENOSPC");
  expect((await ask(scene, "/", { headers: { cookie } })).status).toBe(401);
  expect((await ask(scene, path, { form: {} })).status).toBe(404);
});

describe("V10 revoked means cut", () => {
  const UPGRADE = [
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
  ].join("\r\n");

  async function upgraded(scene: ProxyScene, fields: string): Promise<{ socket: TLSSocket; first: string }> {
    const socket = await secured(scene);
    socket.write(`GET /ws HTTP/1.1\r\nHost: ${GATE}\r\n${UPGRADE}\r\n${fields}\r\n\r\n`);
    const first = await new Promise<string>((resolve) =>
      socket.once("data", (bytes: Buffer) => resolve(String(bytes))),
    );
    return { socket, first };
  }

  test("ID-19 an upgrade that carries the cookie needs our own origin; one with a token needs none", async () => {
    const scene = await stage();
    const cookie = await enter(scene);
    const statusWith = async (fields: string): Promise<string> => (await upgraded(scene, fields)).first.slice(9, 12);
    expect(await statusWith(`Cookie: ${cookie}\r\nOrigin: ${ORIGIN}`)).toBe("101");
    for (const origin of ["", "Origin: https://evil.example", "Origin: null", `Origin: http://${GATE}`]) {
      expect(await statusWith(`Cookie: ${cookie}${origin === "" ? "" : "\r\n"}${origin}`), origin).toBe("403");
    }
    expect(await statusWith(`Origin: ${ORIGIN}`)).toBe("401");
    expect(await statusWith(`Sallyport-Door-Token: ${MACHINE_TOKEN}`)).toBe("101");
    expect(scene.backend.requests).toHaveLength(2);
  });

  test("V10 an answer that is still coming ends with the session, over HTTP/1 and HTTP/2; the connection's others go on", async () => {
    const scene = await stage({ answer: "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegin" });
    const [mine, yours] = [await enter(scene), await enter(scene, { way: "pin", secret: "482913" })];
    const plain = await secured(scene);
    const begun = new Promise<void>((resolve) => plain.once("data", () => resolve()));
    plain.write(`GET / HTTP/1.1\r\nHost: ${GATE}\r\nCookie: ${mine}\r\n\r\n`);
    await begun;
    const session = await http2Client(scene);
    const streams = [mine, yours].map((cookie) => session.request({ ":path": "/", cookie }));
    for (const stream of streams) {
      stream.on("error", () => undefined);
      await new Promise<void>((resolve) => stream.once("data", () => resolve()));
    }
    const ended = [plain, streams[0]!].map((one) => new Promise<void>((resolve) => one.once("close", () => resolve())));
    expect(scene.keeper.sessions.revoke(({ subject }) => subject === "password")).toBe(1);
    await Promise.all(ended);
    expect([streams[1]!.closed, session.closed]).toEqual([false, false]);
    expect(scene.keeper.sessions.list()).toMatchObject([{ subject: "pin", connections: 1 }]);
  });

  test("WS-8 an open WebSocket ends with the session; another guest's goes on", async () => {
    const scene = await stage();
    const [mine, yours] = [await enter(scene), await enter(scene, { way: "pin", secret: "482913" })];
    const one = await upgraded(scene, `Cookie: ${mine}\r\nOrigin: ${ORIGIN}`);
    const two = await upgraded(scene, `Cookie: ${yours}\r\nOrigin: ${ORIGIN}`);
    expect([one.first, two.first].map((head) => head.slice(9, 12))).toEqual(["101", "101"]);
    expect(scene.keeper.sessions.list().map(({ connections }) => connections)).toEqual([1, 1]);
    const closed = new Promise<void>((resolve) => one.socket.once("close", () => resolve()));
    expect(scene.keeper.sessions.revoke(({ subject }) => subject === "password")).toBe(1);
    await closed;
    expect([two.socket.destroyed, (await ask(scene, "/", { headers: { cookie: mine } })).status]).toEqual([false, 401]);
  });

  test("other secrets, or no door any more, put out who came in by the old ones", async () => {
    const scene = await stage();
    const cookie = await enter(scene);
    scene.keeper.setDoors([await door()]);
    expect((await ask(scene, "/", { headers: { cookie } })).status, "read again unchanged").toBe(200);
    scene.keeper.setDoors([await door({ version: "2" })]);
    expect((await ask(scene, "/", { headers: { cookie } })).status).toBe(401);
  });

  test("who began to send the old password before it was changed was let in afterwards", async () => {
    const scene = await stage();
    const { token } = await scene.keeper.passes.create({
      door: "friends",
      name: "Carol",
      lifeMs: 60_000,
      isOnce: true,
    });
    const rooms = ["enter", `link/${token}`];
    const bodies = [`way=password&secret=${encodeURIComponent(PASSWORD)}`, "to=/"];
    const sent = await Promise.all(
      rooms.map(async (room, i) => {
        const socket = await secured(scene);
        const type = "Content-Type: application/x-www-form-urlencoded";
        const length = `Content-Length: ${bodies[i]!.length}`;
        const head = `POST /.sallyport/door/friends/${room} HTTP/1.1\r\nHost: ${GATE}\r\nOrigin: ${ORIGIN}`;
        socket.write(`${head}\r\n${type}\r\n${length}\r\nExpect: 100-continue\r\n\r\n`);
        const [first] = (await once(socket, "data")) as [Buffer];
        expect(first.toString()).toMatch(/^HTTP\/1\.1 100 /);
        return socket;
      }),
    );
    scene.keeper.setDoors([await door({ version: "2" })]);
    for (const [i, socket] of sent.entries()) {
      socket.write(bodies[i]!);
      const [answer] = (await once(socket, "data")) as [Buffer];
      expect(answer.toString()).toMatch(/^HTTP\/1\.1 403 /);
    }
    expect(scene.keeper.sessions.list()).toEqual([]);
    expect(scene.keeper.passes.list(), "the link is not spent").toHaveLength(1);
  });

  test("ID-19 an unsafe request with the cookie that another site's page makes is refused", async () => {
    const scene = await stage();
    const cookie = await enter(scene);
    const from = (headers: Record<string, string>) =>
      ask(scene, "/do", { method: "POST", headers: { cookie, ...headers } });
    expect((await from({ origin: "https://evil.example" })).status).toBe(403);
    expect((await from({ "sec-fetch-site": "cross-site" })).status).toBe(403);
    expect((await from({ origin: ORIGIN })).status).toBe(200);
    expect((await from({})).status).toBe(200);
  });

  test("every form of an application whose pages say `Referrer-Policy: no-referrer` (Helmet's own choice) was 403", async () => {
    const scene = await stage();
    const cookie = await enter(scene);
    const from = (site: string) =>
      ask(scene, "/do", { method: "POST", headers: { cookie, origin: "null", "sec-fetch-site": site } });
    expect((await from("same-origin")).status).toBe(200);
    for (const site of ["cross-site", "same-site", "none", "same-origin, same-origin"])
      expect((await from(site)).status, site).toBe(403);
  });
});

test("WS-2 what a stranger sends behind an upgrade that the door refuses is no request of anybody's", async () => {
  const scene = await stage();
  const cookie = await enter(scene);
  const upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13";
  const key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
  for (const fields of ["", `Cookie: ${cookie}`, `Cookie: ${cookie}\r\nOrigin: https://evil.example`]) {
    const socket = await secured(scene);
    let heard = "";
    socket.on("data", (bytes: Buffer) => {
      heard += bytes.toString("latin1");
    });
    const second = `GET /open HTTP/1.1\r\nHost: ${GATE}\r\n\r\n`;
    const extra = fields === "" ? "" : `${fields}\r\n`;
    socket.write(`GET /ws HTTP/1.1\r\nHost: ${GATE}\r\n${upgrade}\r\n${key}\r\n${extra}\r\n${second}`);
    await expect.poll(() => socket.readableEnded, { timeout: 30_000, interval: 5 }).toBe(true);
    expect(heard.match(/HTTP\/1\.1 \d+/g), fields).toEqual([`HTTP/1.1 ${fields === "" ? 401 : 403}`]);
  }
  expect(scene.backend.requests).toEqual([]);
});
