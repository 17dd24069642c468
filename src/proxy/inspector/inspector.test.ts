import { request as httpRequest, type IncomingHttpHeaders, IncomingMessage, ServerResponse } from "node:http";
import { Socket } from "node:net";
import { text } from "node:stream/consumers";
import { afterEach, describe, expect, test } from "vitest";
import {
  closeScenes,
  GATE,
  http2Client,
  onClose,
  type ProxyScene,
  proxyScene,
  read,
  webConfig,
} from "../../../test/suites/proxy-scene.ts";
import { fieldLines, type RecordingBackend, recordingBackend } from "../../../test/suites/recording-backend.ts";
import { FakeClock, systemClock } from "../../base/clock.ts";
import type { Caller, Callers } from "../../identity/caller.ts";
import { MapCallers } from "../../identity/map-callers.ts";
import type { Front } from "../options.ts";
import type { RouteRules } from "../route-rules.ts";
import { addressOf, curlOf } from "./exports.ts";
import { Inspector } from "./inspector.ts";
import { Recorder } from "./recorder.ts";

afterEach(closeScenes);

interface Stage extends ProxyScene {
  readonly backend: RecordingBackend;
  readonly recorder: Recorder;
  readonly inspector: Inspector;
  readonly clock: FakeClock;
}

const PATIENT = { timeout: 20_000, interval: 10 };
const LONG = "x".repeat(200_000);
const ALICE: Caller = {
  kind: "user",
  nodeKey: "aa",
  nodeName: "alice",
  login: "alice@example.com",
  displayName: "Alice",
  profilePicture: "",
  address: "100.64.0.2",
};

async function stage(answer?: string, rules: RouteRules = {}): Promise<Stage> {
  const backend = await recordingBackend(answer);
  const recorder = new Recorder(systemClock, () => ["X-Gate"]);
  const target = { Proxy: `http://127.0.0.1:${backend.port}` };
  // Whoever comes with the proof of a peer is Alice; the rest is as it is on a gateway.
  const others = new MapCallers(() => ({}));
  const callers: Callers = {
    of: (proof, now) => (proof.kind === "mesh" ? ALICE : others.of(proof, now)),
    capabilities: () => undefined,
    epoch: 0,
    revoked: () => new AbortController().signal,
  };
  const scene = proxyScene(webConfig({ "/": target, "/text": { Text: "hello" } }), {
    recorder,
    callers,
    rulesOf: () => rules,
  });
  const clock = new FakeClock();
  const inspector = await Inspector.open({ recorder, target: scene.proxy, clock });
  onClose(() => inspector.close());
  return Object.assign(scene, { backend, recorder, inspector, clock });
}

async function send({ connect, recorder }: Stage, head: string, body: string = ""): Promise<void> {
  const before = recorder.list()[0]?.id ?? 0;
  const client = connect(80);
  client.resume();
  const length = body === "" ? "" : `Content-Length: ${body.length}\r\n`;
  client.write(`${head}\r\nHost: ${GATE}\r\n${length}\r\n${body}`, "latin1");
  const isAnswered = (): boolean => recorder.list().some(({ id, answer }) => id > before && answer !== undefined);
  await expect.poll(isAnswered, PATIENT).toBe(true);
  client.destroy();
}

describe("what is kept", () => {
  test("SE-1 requests and answers as they were, but for what is secret", async () => {
    const made = await stage(
      "HTTP/1.1 200 OK\r\nSet-Cookie: sid=s3cr3t\r\nContent-Type: application/json\r\nContent-Length: 18\r\n\r\n" +
        '{"token":"s3cr3t"}',
    );
    const fields = [
      "Cookie: a=s3cr3t",
      "Authorization: Bearer s3cr3t",
      "X-Gate: s3cr3t",
      "X-Plain: seen",
      "Content-Type: application/json",
    ];
    await send(made, `POST /a?x=1&api_key=s3cr3t HTTP/1.1\r\n${fields.join("\r\n")}`, '{"password":"s3cr3t","n":1}');
    expect(made.backend.requests[0], "the backend gets it whole").toContain('{"password":"s3cr3t","n":1}');
    const [record] = made.recorder.list();
    expect(record).toMatchObject({
      method: "POST",
      target: "/a?x=1&api_key=REDACTED",
      from: { kind: "mesh", address: "100.64.0.2" },
      body: { text: '{"password":"REDACTED","n":1}', isWhole: true, totalBytes: 27 },
      answer: { status: 200, body: { text: '{"token":"REDACTED"}', isWhole: true, totalBytes: 18 }, isCut: false },
    });
    expect(record!.fields).toContainEqual(["X-Plain", "seen"]);
    expect(JSON.stringify(record)).not.toContain("s3cr3t");
  });

  test("HTTP/2 too, texts and refusals too, and of what visitors tell a door nothing", async () => {
    const made = await stage();
    const session = await http2Client(made);
    for (const path of ["/text", "/.sallyport/door/friends/link/x", "/%2Esallyport/door/x", "/b"]) {
      const stream = session.request({ ":path": path });
      stream.resume();
      await new Promise<void>((resolve) => stream.once("close", () => resolve()));
    }
    await send(made, "GET /../%zz HTTP/1.1");
    await expect.poll(() => made.recorder.list().every(({ answer }) => answer !== undefined), PATIENT).toBe(true);
    expect(made.recorder.list().map(({ target, answer, version }) => [target, answer?.status, version])).toEqual([
      ["/../%zz", 400, "1.1"],
      ["/b", 200, "2.0"],
      ["/text", 200, "2.0"],
    ]);
  });

  test("HTTP/2: a short answer was shown, and its bytes counted, twice", async () => {
    const made = await stage();
    const session = await http2Client(made);
    session.request({ ":path": "/text" }).resume();
    await expect
      .poll(() => made.recorder.list()[0]?.answer?.body, PATIENT)
      .toMatchObject({
        text: "hello",
        totalBytes: 5,
      });
    expect(made.recorder.list()[0]!.answer).toMatchObject({ status: 200, isCut: false });
  });

  test("of a long body the beginning, of many requests the last hundred", async () => {
    const made = await stage(`HTTP/1.1 200 OK\r\nContent-Length: ${LONG.length}\r\n\r\n${LONG}`);
    await send(made, "GET /long HTTP/1.1");
    const [long] = made.recorder.list();
    expect([long!.answer!.body.text.length, long!.answer!.body.totalBytes]).toEqual([65_536, 200_000]);
    const client = made.connect(80);
    client.resume();
    for (let i = 0; i < 110; i++) client.write(`GET /text?${i} HTTP/1.1\r\nHost: ${GATE}\r\n\r\n`);
    await expect.poll(() => made.recorder.list()[0]?.target, PATIENT).toBe("/text?109");
    expect(made.recorder.list()).toHaveLength(100);
  });

  test("RT-4 a thousand streams under way each held the beginning of what they had sent, listed or not, also after `off`", () => {
    const recorder = new Recorder(systemClock);
    const proof = { kind: "public", source: { address: "192.0.2.7", port: 1 } } as const;
    const front: Front = {
      proof: { ...proof, destination: { address: "192.0.2.1", port: 80 } },
      port: 80,
      serverName: undefined,
      service: undefined,
      unsent: () => 0,
    };
    const stream = (): ServerResponse => {
      const request = new IncomingMessage(new Socket());
      const response = new ServerResponse(request);
      recorder.watch(front, request, response, false);
      for (let part = 0; part < 3; part++) {
        request.emit("data", Buffer.alloc(32_768));
        response.write(Buffer.alloc(32_768));
      }
      return response;
    };
    const streams = Array.from({ length: 300 }, stream);
    expect([recorder.list().length, recorder.heldBytes]).toEqual([100, 100 * 2 * 65_536]);
    streams.at(-1)!.emit("close");
    expect(recorder.list()[0]!.answer!.body.totalBytes).toBe(3 * 32_768);
    recorder.clear();
    for (const response of streams) {
      response.write(Buffer.alloc(32_768));
      response.emit("close");
    }
    expect([recorder.list().length, recorder.heldBytes]).toEqual([0, 0]);
  });

  test("a request for a whole address was shown, and its `curl` command was, as `http://gw.tail.testhttp://…`", async () => {
    const made = await stage();
    await send(made, `GET http://${GATE}/text?a=1 HTTP/1.1`);
    await send(made, "OPTIONS * HTTP/1.1");
    const [all, one] = made.recorder.list();
    expect([addressOf(one!), addressOf(all!)]).toEqual([`http://${GATE}/text?a=1`, `http://${GATE}/`]);
    expect(curlOf(one!)).toMatch(
      / --request-target 'http:\/\/gw\.tail\.test\/text\?a=1' -- 'http:\/\/gw\.tail\.test\/text\?a=1'$/,
    );
    expect(curlOf(all!)).toMatch(/ --request-target '\*' -- http:\/\/gw\.tail\.test\/$/);
  });

  test("an image was kept, shown and exported as replacement characters", async () => {
    const made = await stage("HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 6\r\n\r\n\x89PNG\r\n");
    await send(made, "PUT /a.png HTTP/1.1", "\xff\xd8\xff");
    const [record] = made.recorder.list();
    const binary = { text: "", isWhole: false };
    expect(record).toMatchObject({
      body: { ...binary, totalBytes: 3 },
      answer: { body: { ...binary, totalBytes: 6 } },
    });
    const long = `${"a".repeat(65_535)}\xc3\xbc`;
    const text = await stage(`HTTP/1.1 200 OK\r\nContent-Length: 65537\r\n\r\n${long}`);
    await send(text, "GET /long HTTP/1.1");
    expect(text.recorder.list()[0]!.answer!.body.text.slice(0, -1), "cut in a character").toBe("a".repeat(65_535));
  });

  test("SE-1 a password in UTF-16, as PowerShell sends it, was kept", async () => {
    const made = await stage();
    const body = Buffer.from('{"password":"hunter2"}', "utf16le").toString("latin1");
    await send(made, "POST /a HTTP/1.1\r\nContent-Type: application/json; charset=utf-16", body);
    expect(made.recorder.list()[0]!.body).toEqual({ text: "", isWhole: false, totalBytes: 44 });
  });

  test.each([80, 443])("who went before the answer came was shown as answered with 200 (port %i)", async (port) => {
    const made = await stage("HTTP/1.1 200"); // and no more
    if (port === 80) {
      const client = made.connect(80);
      client.write(`GET /a HTTP/1.1\r\nHost: ${GATE}\r\n\r\n`);
      await expect.poll(() => made.backend.requests.length, PATIENT).toBe(1);
      client.destroy();
    } else {
      const stream = (await http2Client(made)).request({ ":path": "/a" });
      stream.on("error", () => undefined);
      await expect.poll(() => made.backend.requests.length, PATIENT).toBe(1);
      stream.close();
    }
    await expect.poll(() => made.recorder.list()[0]?.answer, PATIENT).toMatchObject({ status: 0, isCut: true });
    const { cookie, pages } = await browser(made);
    expect((await open(`${pages}/`, { headers: { cookie } })).body).toContain("<td>none</td>");
  });

  test("a body that comes slowly, and an answer that does, go through as they would", async () => {
    const made = await stage();
    const client = made.connect(80);
    const done = read(client, (all) => all.endsWith("ok"));
    client.write(`PUT /slow HTTP/1.1\r\nHost: ${GATE}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n`);
    client.write("3\r\ndef\r\n0\r\n\r\n");
    expect((await done).text).toContain("200 OK");
    expect(made.recorder.list()[0]!.body).toEqual({ text: "abcdef", isWhole: true, totalBytes: 6 });
  });
});

interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

function open(address: string, init: { method?: string; headers?: Record<string, string> } = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = httpRequest(address, init, (response) => {
      text(response).then((body) => resolve({ status: response.statusCode!, headers: response.headers, body }), reject);
    });
    asked.once("error", reject);
    asked.end();
  });
}

/** A browser that has been let in. */
async function browser({ inspector }: Stage): Promise<{ cookie: string; origin: string; pages: string }> {
  const address = inspector.invite();
  const { headers } = await open(address);
  const { origin } = new URL(address);
  return { cookie: headers["set-cookie"]![0]!.split(";")[0]!, origin, pages: origin + headers.location!.slice(0, -1) };
}

describe("the pages", () => {
  test("CF-5 a token opens once, in one browser, within ten minutes", async () => {
    const made = await stage();
    const [first, late] = [made.inspector.invite(), made.inspector.invite()];
    expect(first).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/\?token=[\w-]{43}$/);
    const entered = await open(first);
    expect([entered.status, entered.headers.location]).toEqual([303, expect.stringMatching(/^\/[0-9a-f]{32}\/$/)]);
    // Cookies know no ports: below any other path the programs of this machine would be sent it, too.
    const [, cookie, path] = /^([^;]+); Path=(\/[^;]+); HttpOnly; SameSite=Lax$/.exec(
      entered.headers["set-cookie"]![0]!,
    )!;
    expect(path).toBe(entered.headers.location);
    expect((await open(new URL("/", first).href, { headers: { cookie: cookie! } })).status).toBe(404);
    expect((await open(first)).status).toBe(403);
    made.clock.advance(10 * 60_000 + 1);
    expect((await open(late)).status).toBe(403);
    expect((await open(new URL("/", first).href)).status).toBe(403);
    expect((await open(`${new URL("/", first).href}?token=guess`)).status).toBe(403);
  });

  test("CF-5 a night in which the laptop slept was none of the ten minutes of a token", async () => {
    const made = await stage();
    const address = made.inspector.invite();
    const woken = made.clock.wall() + 8 * 3_600_000;
    made.clock.wall = () => woken;
    expect((await open(address)).status).toBe(403);
  });

  test("CF-5 under another name, from another site, or without the cookie nothing is shown or done", async () => {
    const made = await stage();
    await send(made, "GET /text HTTP/1.1");
    const { cookie, origin, pages } = await browser(made);
    const own = await open(`${pages}/`, { headers: { cookie } });
    expect([own.status, own.headers["access-control-allow-origin"]]).toEqual([200, undefined]);
    expect(own.headers["content-security-policy"]).toContain("default-src 'none'");
    expect(own.body).not.toMatch(/<script|src=|https?:\/\/(?!127)/);
    const { port } = new URL(origin);
    for (const host of ["evil.example", `evil.example:${port}`, "127.0.0.1", `127.0.0.1:${port}.`, "localhost"]) {
      expect((await open(`${pages}/`, { headers: { cookie, host } })).status, host).toBe(403);
    }
    const post = (headers: Record<string, string>) => open(`${pages}/clear`, { method: "POST", headers });
    for (const headers of [
      { cookie },
      { cookie, origin: "https://evil.example" },
      { cookie, origin: "null" },
      { origin },
    ]) {
      expect((await post(headers as Record<string, string>)).status).toBe(403);
    }
    expect(made.recorder.list()).toHaveLength(1);
    expect((await post({ cookie, origin })).status).toBe(303);
    expect(made.recorder.list()).toHaveLength(0);
  });

  test("list, one request, HAR, curl; whatever a stranger sent is text", async () => {
    const made = await stage();
    await send(made, 'GET /<script>alert(1)</script>?"><img HTTP/1.1\r\nX-Evil: <script>'.replaceAll("<", "%3C"));
    await send(made, "POST /text HTTP/1.1\r\nX-Evil: <script>alert(1)</script>", "<script>");
    const { cookie, pages } = await browser(made);
    const get = (path: string) => open(pages + path, { headers: { cookie } });
    for (const path of ["/", "/requests/1", "/requests/2"]) {
      const { status, body } = await get(path);
      expect([path, status]).toEqual([path, 200]);
      expect(body).not.toContain("<script");
    }
    expect((await get("/requests/2")).body).toContain("&#60;script&#62;alert(1)");
    expect((await get("/requests/2/curl")).body).toMatch(
      /^curl .*--data-raw '<script>' -- http:\/\/gw\.tail\.test\/text\n$/,
    );
    expect(JSON.parse((await get("/all.har")).body).log.entries).toHaveLength(2);
    expect((await get("/requests/1/har")).headers["content-disposition"]).toContain("attachment");
    for (const path of ["/requests/99", "/requests/x", "/requests/1/replay", "/nothing"]) {
      expect((await get(path)).status, path).toBe(404);
    }
  });
});

describe("V1 sending again", () => {
  test.each([80, 443])("what Alice sent comes as from nobody, without what was secret (port %i)", async (port) => {
    const made = await stage();
    const forged =
      "Tailscale-User-Login: root@example.com\r\nSallyport-Caller-Kind: user\r\nX-Forwarded-For: 127.0.0.1";
    if (port === 80) await send(made, `POST /a?token=t HTTP/1.1\r\nCookie: s=1\r\nX-Plain: seen\r\n${forged}`, "hello");
    else {
      const session = await http2Client(made);
      const stream = session.request({
        ":path": "/a?token=t",
        ":method": "POST",
        cookie: "s=1",
        "x-plain": "seen",
        "tailscale-user-login": "root",
      });
      stream.resume();
      stream.end("hello");
      await new Promise<void>((resolve) => stream.once("close", () => resolve()));
    }
    expect(made.backend.requests[0]).toContain("Tailscale-User-Login: alice@example.com");
    const { cookie, origin, pages } = await browser(made);
    const again = await open(`${pages}/requests/1/replay`, { method: "POST", headers: { cookie, origin } });
    expect([again.status, origin + again.headers.location]).toEqual([303, `${pages}/requests/2`]);
    const request = made.backend.requests[1]!;
    const fields = new Map(fieldLines(request).map(([name, value]) => [name.toLowerCase(), value]));
    expect(request).toMatch(/^POST \/a\?token=REDACTED HTTP\/1\.1\r\n/);
    expect(request.endsWith("hello")).toBe(true);
    expect(fields.get("x-plain")).toBe("seen");
    expect(fields.get("sallyport-caller-kind")).toBe("anonymous");
    expect(fields.get("x-forwarded-for")).toBe("192.0.2.1");
    expect([...fields.keys()].filter((name) => name.startsWith("tailscale-") || name === "cookie")).toEqual([]);
    expect(made.recorder.find(2)).toMatchObject({ replayOf: 1, from: { kind: "public" }, answer: { status: 200 } });
  });

  test("a repetition got to what the policy keeps closed to strangers", async () => {
    const made = await stage(undefined, { visitorsNeedDoor: true });
    await send(made, "GET /a HTTP/1.1");
    const { cookie, origin, pages } = await browser(made);
    await open(`${pages}/requests/1/replay`, { method: "POST", headers: { cookie, origin } });
    expect(made.recorder.list().map(({ answer }) => answer?.status)).toEqual([403, 200]);
    expect(made.backend.requests).toHaveLength(1);
  });

  test("a body that is no text was sent again with other bytes", async () => {
    const made = await stage();
    await send(made, "POST /a HTTP/1.1", "\xff\xfe");
    const { cookie, origin, pages } = await browser(made);
    const refused = await open(`${pages}/requests/1/replay`, { method: "POST", headers: { cookie, origin } });
    expect([refused.status, refused.body.includes("no text")]).toEqual([502, true]);
    expect(made.backend.requests).toHaveLength(1);
  });

  test("a secret that is longer than what stands for it kept a request from being sent again", async () => {
    const made = await stage();
    const json = "POST /a HTTP/1.1\r\nContent-Type: application/json";
    await send(made, json, `{"password":"${"x".repeat(40)}","n":1}`);
    const { cookie, origin, pages } = await browser(made);
    const again = await open(`${pages}/requests/1/replay`, { method: "POST", headers: { cookie, origin } });
    expect(again.status).toBe(303);
    expect(made.backend.requests[1]!.endsWith('{"password":"REDACTED","n":1}')).toBe(true);
  });

  test.each(["after 30 s", "as the inspector is switched off"])(
    "a repetition of a request for events never ended: it does %s",
    async (when) => {
      const made = await stage("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n");
      const client = made.connect(80);
      const begun = read(client, (all) => all.includes("data: 1"));
      client.write(`GET /events HTTP/1.1\r\nHost: ${GATE}\r\n\r\n`);
      await begun;
      client.destroy();
      const { cookie, origin, pages } = await browser(made);
      const again = open(`${pages}/requests/1/replay`, { method: "POST", headers: { cookie, origin } });
      again.catch(() => undefined);
      await expect.poll(() => made.backend.requests.length, PATIENT).toBe(2);
      const isOver = (): boolean => made.recorder.find(2)?.answer !== undefined;
      if (when === "after 30 s") {
        await expect.poll(() => made.recorder.heldBytes, PATIENT).toBeGreaterThan("data: 1\n\n".length);
        made.clock.advance(30_000);
        await expect.poll(isOver, PATIENT).toBe(true);
        expect([303, 502], "502 where not even the head had come back").toContain((await again).status);
      } else {
        await made.inspector.close();
        await expect.poll(isOver, PATIENT).toBe(true);
      }
    },
  );

  test("what was not kept whole, or is served no more, is not sent", async () => {
    const made = await stage();
    await send(made, "POST /a HTTP/1.1", LONG);
    const { cookie, origin, pages } = await browser(made);
    const again = () => open(`${pages}/requests/1/replay`, { method: "POST", headers: { cookie, origin } });
    const refused = await again();
    expect([refused.status, refused.body.includes("too long")]).toEqual([502, true]);
    expect(made.backend.requests).toHaveLength(1);
    made.recorder.clear();
    await send(made, "GET /a HTTP/1.1");
    await made.proxy.close();
    const closed = await open(`${pages}/requests/2/replay`, { method: "POST", headers: { cookie, origin } });
    expect([closed.status, closed.body.includes("not served")]).toEqual([502, true]);
  });
});
