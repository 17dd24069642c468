import { once } from "node:events";
import http2 from "node:http2";
import type { TLSSocket } from "node:tls";
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { makeHello } from "../../../test/suites/client-hellos.ts";
import {
  ACCEPTED,
  answerTo,
  forTarget,
  get,
  heardNoIdentity,
  type IngressDoorScene,
  NAME,
  openIngressDoor,
  request,
  SECRET,
  visitorTls,
} from "../../../test/suites/ingress-door-scene.ts";
import { formatAddress, parsePrefix } from "../../base/address.ts";
import type { VisitorRules } from "../../wire/visitor-rules.ts";

const WAIT = { timeout: 20_000, interval: 2 };

let scene: IngressDoorScene;

beforeEach(async () => {
  scene = await openIngressDoor();
});
afterEach(() => heardNoIdentity(scene));

describe("FN-10 what the owner asks, also where the relay does not know it", () => {
  const BUSY = /^HTTP\/1\.1 503 .*too many visitors/s;

  test("a visitor who is not wanted is denied like one of a private name, and cut when he is here", async () => {
    let rules: VisitorRules | undefined;
    scene = await openIngressDoor({ rulesOf: ({ port }) => (port === 443 ? rules : undefined) });
    const here = await scene.enter(request());
    const other = await scene.enter(forTarget(`${NAME}:443`, "198.51.100.7:1"));
    rules = { deny: [parsePrefix("203.0.113.0/24")!] };
    expect(await answerTo(scene.connect(), request())).toMatch(/^HTTP\/1\.1 403 Forbidden\r\n.*\r\n\r\ndenied\n$/s);
    expect(await answerTo(scene.connect(), forTarget(`${NAME}:8443`))).toBe(ACCEPTED);
    scene.door.review();
    await expect.poll(() => here.destroyed, WAIT).toBe(true);
    expect(other.destroyed).toBe(false);
    rules = { allow: [parsePrefix("203.0.113.0/24")!] };
    scene.door.review();
    await expect.poll(() => other.destroyed, WAIT).toBe(true);
    expect(await answerTo(scene.connect(), request())).toBe(ACCEPTED);
  });

  test("what a visitor sends reaches the backend no faster than the rules let it", async () => {
    scene = await openIngressDoor({ rulesOf: () => ({ bytesPerSecond: 100_000 }) });
    const client = await scene.enter(forTarget(`${NAME}:8443`));
    const hello = makeHello({ name: NAME });
    const sent = 1_000_000;
    client.write(Buffer.concat([hello, Buffer.alloc(sent)]));
    const heard = (): number => scene.backend.heard[0]?.length ?? 0;
    await expect.poll(heard, WAIT).toBeGreaterThan(100_000);
    for (let i = 0; i < 50; i++) await new Promise<void>((resolve) => setImmediate(resolve));
    expect(heard()).toBeLessThan(sent); // time stands still
    await expect
      .poll(() => {
        scene.clock.advance(1000);
        return heard();
      }, WAIT)
      .toBeGreaterThanOrEqual(sent + hello.length);
  });

  test("all names under a wildcard are one site, and a name of its own is another", async () => {
    scene = await openIngressDoor({ rulesOf: () => ({ connections: 2 }) });
    const [wild, own] = ["*.shop.example.org:443", "own.shop.example.org:443"];
    const web = scene.config.Web![`${NAME}:443`]!;
    scene.config = { ...scene.config, Web: { [wild]: web, [own]: web }, AllowFunnel: { [wild]: true, [own]: true } };
    await scene.enter(forTarget("a.shop.example.org:443"));
    await scene.enter(forTarget("b.shop.example.org:443", "198.51.100.7:1"));
    expect(await answerTo(scene.connect(), forTarget("c.shop.example.org:443", "198.51.100.8:1"))).toMatch(BUSY);
    await scene.enter(forTarget(own));
    await scene.enter(forTarget(own));
    expect(await answerTo(scene.connect(), forTarget(own))).toMatch(BUSY);
  });

  test("how many at once and how fast, of all and of one visitor", async () => {
    let rules: VisitorRules = { connections: 3, visitorConnections: 2 };
    scene = await openIngressDoor({ rulesOf: () => rules });
    const [first] = [await scene.enter(request()), await scene.enter(request())];
    expect(await answerTo(scene.connect(), request())).toMatch(BUSY);
    await scene.enter(forTarget(`${NAME}:443`, "198.51.100.7:1"));
    expect(await answerTo(scene.connect(), forTarget(`${NAME}:443`, "198.51.100.8:1"))).toMatch(BUSY);
    await scene.enter(forTarget(`${NAME}:8443`, "198.51.100.8:1")); // each site has its own
    first!.destroy();
    await expect.poll(() => scene.door.open, WAIT).toBe(3);
    await scene.enter(request());
    rules = { visitorConnectionsPerSecond: 1 };
    const visitor = forTarget(`${NAME}:443`, "[2001:db8::1]:1");
    for (let i = 0; i < 2; i++) await scene.enter(visitor);
    expect(await answerTo(scene.connect(), forTarget(`${NAME}:443`, "[2001:db8::2]:9"))).toMatch(BUSY);
    scene.clock.advance(1000);
    await scene.enter(visitor);
  });
});

describe("a visitor's request", () => {
  test("carries no identity, says that it came by Funnel, and nothing that the visitor claims", async () => {
    const secure = await visitorTls(await scene.enter(request()), NAME);
    const answer = await get(secure, [
      `Host: ${NAME}`,
      "Tailscale-User-Login: root@example.com",
      "Tailscale_User_Name: Root",
      "Tailscale-App-Capabilities: {}",
      "Sallyport-Guest: {}",
      "X-Forwarded-For: 100.64.0.2",
    ]);
    expect(answer).toMatch(/^HTTP\/1\.1 200 /);
    const [head = ""] = scene.backend.heard;
    expect(head).toMatch(/\r\nTailscale-Funnel-Request: \?1\r\n/i);
    expect(head).toMatch(/\r\nSallyport-Caller-Kind: anonymous\r\n/i);
    expect(head).toMatch(/\r\nX-Forwarded-For: 203\.0\.113\.9\r\n/i);
    expect(head).not.toMatch(/root/i);
  });

  test("FN-5 a hello for another name than the relay's target reaches nothing", async () => {
    for (const [target, name] of [
      [`${NAME}:443`, SECRET],
      [`${NAME}:443`, SECRET.toUpperCase()],
      [`${NAME}:443`, `${SECRET}.`],
      [`${NAME}:443`, undefined],
      [`${NAME}:8443`, SECRET],
      [`${NAME}:8443`, undefined],
      [`${NAME}:10000`, SECRET],
    ] as const) {
      const client = await scene.enter(forTarget(target));
      client.write(makeHello(name === undefined ? {} : { name }));
      const [alert] = (await once(client, "data")) as [Buffer];
      expect(alert.toString("hex")).toBe("15030300020270");
      await expect.poll(() => client.readableEnded, WAIT).toBe(true);
    }
    expect(scene.backend.sockets).toEqual([]);
    await expect
      .poll(() => {
        scene.clock.advance(1000);
        return scene.door.open;
      }, WAIT)
      .toBe(0);
  });

  test.each([
    ...[SECRET, `${SECRET}:443`, SECRET.toUpperCase(), `${SECRET}.`, "100.64.0.5", "localhost", `${NAME}.evil.test`],
  ])("FN-5 an authority for another name reaches nothing: %s", async (host) => {
    const secure = await visitorTls(await scene.enter(request()), NAME);
    expect(await get(secure, [`Host: ${host}`])).toMatch(/^HTTP\/1\.1 421 /);
    expect(scene.backend.sockets).toEqual([]);
  });

  test("FN-5 an authority for another name reaches nothing by HTTP/2 either, nor behind a good request", async () => {
    const secure = await visitorTls(await scene.enter(request()), NAME, ["h2"]);
    const session = http2.connect(`https://${NAME}`, { createConnection: () => secure });
    onTestFinished(() => session.destroy());
    const statusOf = async (fields: http2.OutgoingHttpHeaders): Promise<unknown> => {
      const stream = session.request({ ":path": "/", ...fields }).resume();
      const [head] = (await once(stream, "response")) as [http2.IncomingHttpHeaders];
      return head[":status"];
    };
    const others = [SECRET, `${SECRET}:443`, SECRET.toUpperCase(), `${SECRET}.`, "100.64.0.5", "localhost"];
    for (const other of others) expect(await statusOf({ ":authority": other })).toBe(421);
    expect(await statusOf({ ":authority": NAME, host: SECRET })).toBe(400);
    expect(scene.backend.sockets).toEqual([]);
    expect(await statusOf({ ":authority": NAME })).toBe(200);

    const kept = await visitorTls(await scene.enter(request()), NAME);
    expect(await get(kept, [`Host: ${NAME}`])).toMatch(/^HTTP\/1\.1 200 /);
    expect(await get(kept, [`Host: ${SECRET}`])).toMatch(/^HTTP\/1\.1 421 /);
    expect(scene.backend.heard.join("")).not.toContain(SECRET);
  });

  test("FN-5 a site served to the mesh alone was open to the world where a wildcard above it was public", async () => {
    const wild = "*.shop.example.org:443";
    const [own, other, off] = ["admin.shop.example.org", "a.shop.example.org", "off.shop.example.org"];
    const web = { Handlers: { "/": { Proxy: `http://127.0.0.1:${scene.backend.port}` } } };
    const open = { [wild]: true, [`${off}:443`]: false };
    scene.config = { ...scene.config, Web: { [wild]: web, [`${own}:443`]: web }, AllowFunnel: open };
    const admin = own.toUpperCase();
    for (const target of [own, `${own}.`, admin, off])
      expect(await answerTo(scene.connect(), forTarget(`${target}:443`))).toMatch(/^HTTP\/1\.1 403 /);
    const secure = await visitorTls(await scene.enter(forTarget(`${other}:443`)), other);
    expect(await get(secure, [`Host: ${own}`])).toMatch(/^HTTP\/1\.1 421 /);
    expect(scene.backend.sockets).toEqual([]);
    secure.destroy();

    // Public by a name of its own, and taken back.
    scene.config = { ...scene.config, AllowFunnel: { ...open, [`${own}:443`]: true } };
    const here = await scene.enter(forTarget(`${own}:443`));
    scene.config = { ...scene.config, AllowFunnel: open };
    scene.door.review();
    here.resume();
    await expect.poll(() => here.destroyed, WAIT).toBe(true);
  });

  test("FN-5 what is no hello, or does not come to its end", async () => {
    const plain = await scene.enter(request());
    plain.write("GET / HTTP/1.1\r\n\r\n");
    await expect.poll(() => plain.readableEnded || plain.read() !== null, WAIT).toBe(true);
    const slow = await scene.enter(request());
    slow.resume();
    slow.write(makeHello({ name: NAME }).subarray(0, 50));
    await new Promise<void>((resolve) => setImmediate(resolve));
    scene.clock.advance(10_001);
    await expect.poll(() => slow.readableEnded, WAIT).toBe(true);
    expect(scene.backend.sockets).toEqual([]);
  });
});

const RAW = 2222;

describe("a raw port", () => {
  const lease = (more: Record<string, boolean> = {}, port: number = RAW): void => {
    scene.config = {
      ...scene.config,
      TCP: { ...scene.config.TCP, [RAW]: { TCPForward: `127.0.0.1:${scene.backend.port}` } },
      AllowFunnel: { ...scene.config.AllowFunnel, [`*:${port}`]: true, ...more },
    };
  };

  test("the backend speaks first, and the visitor says no hello", async () => {
    lease();
    const client = await scene.enter(forTarget(`${NAME}:${RAW}`));
    await expect.poll(() => scene.backend.sockets.length, WAIT).toBe(1);
    scene.backend.sockets[0]!.write("SSH-2.0-here\r\n");
    expect(String((await once(client, "data"))[0])).toBe("SSH-2.0-here\r\n");
    client.write("SSH-2.0-there\r\n");
    await expect.poll(() => scene.backend.heard[0], WAIT).toBe("SSH-2.0-there\r\n");
  });

  test.each([
    ...[`*:${RAW}`, `${SECRET}:${RAW}`, `${NAME}.:${RAW}`, `${NAME.toUpperCase()}:${RAW}`, `0.0.0.0:${RAW}`],
    ...[`lease:${RAW}`, `:${RAW}`, `${NAME}:0${RAW}`, `${NAME}:${RAW + 1}`],
  ])("FN-6 under this node's own name, letter for letter, and not %s", async (target) => {
    lease();
    expect(await answerTo(scene.connect(), forTarget(target))).toMatch(/^HTTP\/1\.1 40[03] /);
    expect(scene.backend.sockets).toEqual([]);
  });

  test("FN-5 raw bytes reach nothing on a port that is public by name, nor on HTTPS by a lease of it", async () => {
    lease({}, 443);
    for (const target of [`${NAME}:443`, `${NAME}:8443`]) {
      const client = await scene.enter(forTarget(target));
      client.write("SSH-2.0-there\r\n");
      await expect.poll(() => client.readableEnded || client.read() !== null, WAIT).toBe(true);
    }
    expect(scene.backend.sockets).toEqual([]);
  });

  test("FN-5 a lease of the port of a website does not take the hello's name out of the question", async () => {
    lease({}, 443);
    const client = await scene.enter(forTarget(`${NAME}:443`));
    client.write(makeHello({ name: SECRET }));
    const [alert] = (await once(client, "data")) as [Buffer];
    expect(alert.toString("hex")).toBe("15030300020270");
    scene.config = { ...scene.config, AllowFunnel: { "*:443": true } };
    expect(await answerTo(scene.connect(), forTarget(`${NAME}:443`))).toMatch(/^HTTP\/1\.1 403 /);
    expect(scene.backend.sockets).toEqual([]);
  });

  test("FN-8 who came by the lease goes with it, though the port is public by name now", async () => {
    lease();
    const client = await scene.enter(forTarget(`${NAME}:${RAW}`));
    client.resume();
    await expect.poll(() => scene.backend.sockets.length, WAIT).toBe(1);
    scene.door.review();
    expect(scene.door.open).toBe(1);
    lease({ [`*:${RAW}`]: false, [`${NAME}:${RAW}`]: true });
    scene.door.review();
    await expect.poll(() => client.destroyed, WAIT).toBe(true);
    expect(scene.door.open).toBe(0);
  });
});

/** One name, as clients and relays may spell it. */
const spellings = (name: string): readonly string[] => [
  name,
  name.toUpperCase(),
  name.replace(/^./, (letter) => letter.toUpperCase()),
  `${name}.`,
  `${name.toUpperCase()}.`,
  `${name}..`,
  `.${name}`,
  `${name}\u0000`,
  ` ${name}`,
  name.replace(".", "\u3002"), // IDEOGRAPHIC FULL STOP, a dot to IDNA
];
/** Of the public name those that are the same name (RFC 1034 section 3.1), as a hello and a Host field may say it. */
const SAME: ReadonlySet<string> = new Set(spellings(NAME).slice(0, 5));
const ALL: readonly string[] = [...spellings(NAME), ...spellings(SECRET), "localhost", "100.64.0.5", ""];

describe("FN-5 every pair of spellings of a public and a private name", () => {
  /** What is said first: bytes in hex, or that a backend was called. */
  async function firstWords(target: string, name: string): Promise<string> {
    const before = scene.backend.sockets.length;
    const client = await scene.enter(forTarget(target));
    client.write(makeHello({ name }));
    const said: Buffer[] = [];
    client.on("data", (part: Buffer) => said.push(part));
    await expect.poll(() => said.length > 0 || scene.backend.sockets.length > before, WAIT).toBe(true);
    client.destroy();
    return said[0]?.toString("hex", 0, 7) ?? "called";
  }

  test.each([443, 8443, 10_000])("the relay's target and the hello, port %i", async (port) => {
    for (const target of ALL.filter((text) => text !== NAME && text.trim() === text)) {
      const answer = await answerTo(scene.connect(), forTarget(`${target}:${port}`));
      expect(`${target} ${answer.slice(0, 12)}`).toMatch(/ HTTP\/1\.1 40[03]$/); // whatever a hello would ask for
    }
    for (const name of ALL) {
      const words = await firstWords(`${NAME}:${port}`, name);
      // The other alert: what is no name at all.
      if (!SAME.has(name)) expect(`${name} ${words}`).toMatch(/ 1503030002(?:0270|0232)$/);
      // Behind the door the gateway's own TLS has no cipher for this hello.
      else expect([name, words]).toEqual([name, port === 8443 ? "called" : "15030300020228"]);
    }
    expect(scene.backend.sockets.length).toBe(port === 8443 ? SAME.size : 0);
  });

  test.each(["http/1.1", "h2"])("the hello and the authority, by %s", async (protocol) => {
    for (const servername of SAME) {
      for (const host of ALL.filter((text) => text.trim() === text)) {
        const secure = await visitorTls(await scene.enter(request()), servername, [protocol]);
        const status = protocol === "h2" ? await statusByHttp2(secure, host) : await get(secure, [`Host: ${host}`]);
        const wanted = SAME.has(host) ? /^(?:HTTP\/1\.1 )?200/ : /^(?:HTTP\/1\.1 )?4(?:00|21)/;
        expect(status, `${servername} and ${host}`).toMatch(wanted);
        secure.destroy();
      }
    }
    const hosts = scene.backend.heard.join("").matchAll(/^host: *(.*)$/gim);
    for (const [, host = ""] of hosts) expect(host.toLowerCase()).toContain(NAME);
    expect(scene.backend.heard.join("").toLowerCase()).not.toContain("secret");
  });
});

/** Of a GET; a request that no client of HTTP/2 would make is refused with its stream. */
async function statusByHttp2(secure: TLSSocket, authority: string): Promise<string> {
  const session = http2.connect(`https://${NAME}`, { createConnection: () => secure });
  session.on("error", () => undefined);
  try {
    const stream = session.request({ ":path": "/", ":authority": authority }).resume();
    const [head] = (await once(stream, "response")) as [http2.IncomingHttpHeaders];
    return String(head[":status"]);
  } catch (thrown) {
    expect(thrown).toMatchObject({ code: "ERR_HTTP2_STREAM_ERROR" });
    return "400";
  } finally {
    session.destroy();
  }
}

/** Sources that a relay may name, by what becomes of them. */
const CLAIMS: readonly (readonly [outcome: 400 | 403 | "told", claims: readonly string[]])[] = [
  [
    403,
    ["127.0.0.1:1", "127.255.255.254:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "[::ffff:7f00:1]:1", "[::127.0.0.1]:1"],
  ],
  [403, ["100.64.0.0:1", "100.64.0.2:1", "100.127.255.255:1", "[::ffff:100.64.0.2]:1", "[::ffff:6440:2]:1"]],
  [403, ["[fd7a:115c:a1e0::1]:1", "[FD7A:115C:A1E0::2]:1", "[fd7a:115c:a1e0:ab12:4843:cd96:6265:6667]:1"]],
  [403, ["[0:0:0:0:0:ffff:100.64.0.5]:1", "[::100.64.0.2]:1", "[::ffff:0:100.64.0.2]:1", "[64:ff9b::100.64.0.2]:1"]],
  [403, ["[64:ff9b:1::100.64.0.2]:1", "[64:ff9b:1::127.0.0.1]:1"]],
  [403, ["[64:ff9b::127.0.0.1]:1", "[2002:6440:2::1]:1", "[2002:7f00:1::]:1"]],
  [403, ["0.0.0.0:1", "0.1.2.3:1", "[::]:1", "169.254.169.254:1", "[fe80::1]:1", "224.0.0.1:1", "255.255.255.255:1"]],
  [403, ["240.0.0.1:1", "[ff02::1]:1"]],
  [400, ["203.0.113.9", "203.0.113.9:", "203.0.113.9:x", "203.0.113.9:65536", "203.0.113.9:-1", "203.0.113.9:+1"]],
  [400, ["203.0.113.9:1:2", "203.0.113.9:1,127.0.0.1:1", ":1", "[]:1", "::1:1", "[::1]", "2001:db8::9:1"]],
  [400, ["0x7f000001:1", "2130706433:1", "0177.0.0.1:1", "127.1:1", "203.0.113.09:1", "203.0.113.256:1"]],
  [400, ["[fe80::1%eth0]:1", "[::1%lo]:1", "localhost:1", "box.tail.test:1", "unknown"]],
  ["told", ["203.0.113.9:1", "203.0.113.9:65535", "100.128.0.0:1", "[2001:db8::9]:7", "10.0.0.1:1"]],
  ["told", ["[::ffff:203.0.113.9]:1", "[2001:0DB8:0::9]:1", "[64:ff9b::203.0.113.9]:1", "203.0.113.9:01"]],
];
const AS_TOLD: Readonly<Record<string, string>> = {
  "[::ffff:203.0.113.9]:1": "203.0.113.9:1",
  "[2001:0DB8:0::9]:1": "[2001:db8::9]:1",
  "[64:ff9b::203.0.113.9]:1": "[64:ff9b::cb00:7109]:1",
  "203.0.113.9:01": "203.0.113.9:1",
};

describe("FN-7 forwarded TCP", () => {
  test("raw: the visitor's own bytes behind a PROXY line with his address", async () => {
    const client = await scene.enter(forTarget(`${NAME}:8443`));
    const hello = makeHello({ name: NAME });
    client.write(hello);
    const line = `PROXY TCP4 203.0.113.9 100.64.0.5 51514 ${scene.backend.port}\r\n`;
    await expect.poll(() => scene.backend.heard[0], WAIT).toBe(line + hello.toString("latin1"));
    scene.backend.sockets[0]!.write("answer");
    expect(String((await once(client, "data"))[0])).toBe("answer");
  });

  test("ended TLS: what was inside, behind the same line", async () => {
    const secure = await visitorTls(await scene.enter(forTarget(`${NAME}:10000`, "[2001:db8::9]:7")), NAME, []);
    secure.write("inside");
    await expect
      .poll(() => scene.backend.heard[0], WAIT)
      .toBe(`PROXY TCP6 2001:db8::9 ::1 7 ${scene.backend.port}\r\ninside`);
  });

  test.each([
    ["version 1 behind a name", 8443],
    ["version 2 on a raw port", RAW],
  ])(
    "65 claims of who calls, %s: malformed ones are 400, those of nobody 403, and the others are told as they are",
    async (_, port) => {
      const TCP = { ...scene.config.TCP, [RAW]: { TCPForward: `127.0.0.1:${scene.backend.port}`, ProxyProtocol: 2 } };
      scene.config = { ...scene.config, TCP, AllowFunnel: { ...scene.config.AllowFunnel, [`*:${RAW}`]: true } };
      const all = CLAIMS.flatMap(([outcome, claims]) => claims.map((claim) => [outcome, claim] as const));
      expect(all.length).toBe(65);
      for (const [outcome, claim] of all) {
        const index = scene.backend.sockets.length;
        const client = scene.connect();
        const answer = await answerTo(client, forTarget(`${NAME}:${port}`, claim));
        if (outcome !== "told") {
          expect(`${claim}: ${answer.slice(0, 12)}`).toBe(`${claim}: HTTP/1.1 ${outcome}`);
          continue;
        }
        if (port !== RAW) client.write(makeHello({ name: NAME }));
        await expect.poll(() => sourceIn(scene.backend.heard[index] ?? ""), WAIT).toBe(AS_TOLD[claim] ?? claim);
      }
      expect(scene.backend.sockets.length).toBe(all.filter(([outcome]) => outcome === "told").length);
    },
  );
});

/** The caller in a PROXY header; one of version 2 must say besides that he came by Funnel. */
function sourceIn(heard: string): string | undefined {
  const [, family, source, fromPort] = /^PROXY (TCP[46]) (\S+) \S+ (\d+) \d+\r\n/.exec(heard) ?? [];
  if (family !== undefined) return `${family === "TCP6" ? `[${source}]` : source}:${fromPort}`;
  const bytes = Buffer.from(heard, "latin1");
  if (bytes.length < 16 || bytes.length < 16 + bytes.readUInt16BE(14)) return undefined;
  expect(bytes.toString("latin1").endsWith("\xe0\x00\x06funnel")).toBe(true);
  const size = bytes[13] === 0x21 ? 16 : 4;
  const address = formatAddress(bytes.subarray(16, 16 + size));
  return `${size === 16 ? `[${address}]` : address}:${bytes.readUInt16BE(16 + 2 * size)}`;
}
