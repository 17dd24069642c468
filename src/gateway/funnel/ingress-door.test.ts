import { once } from "node:events";
import http2 from "node:http2";
import net from "node:net";
import tls from "node:tls";
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { makeHello } from "../../../test/suites/client-hellos.ts";
import { listening } from "../../../test/suites/listening.ts";
import { mapNode, networkMap } from "../../../test/suites/network-map.ts";
import { certificateOf } from "../../../test/suites/proxy-scene.ts";
import { parsePrefix } from "../../base/address.ts";
import { FakeClock } from "../../base/clock.ts";
import type { Proof } from "../../base/conn.ts";
import { connPair } from "../../base/conn-pair.ts";
import { asDuplex, type ConnDuplex } from "../../base/duplex.ts";
import { silentLog } from "../../base/log.ts";
import { MapCallers } from "../../identity/map-callers.ts";
import { ReverseProxy } from "../../proxy/proxy.ts";
import { capabilitiesOf } from "../../wire/capabilities.ts";
import type { ServeConfig } from "../../wire/serve-config.ts";
import type { FilterRule, Node } from "../../wire/tailcfg.ts";
import type { VisitorRules } from "../../wire/visitor-rules.ts";
import { PeerApi } from "../peer-api.ts";
import { IngressDoor, type IngressDoorOptions } from "./ingress-door.ts";

const WAIT = { timeout: 20_000, interval: 2 };
const NAME = "box.tail.test";
const SECRET = "secret.tail.test";
const key = (digit: string): string => digit.repeat(64);
const RELAY = key("9");
const PEER = key("2");

const node = (ID: number, hex: string, address: string, more: Partial<Node> = {}): Node =>
  mapNode(ID, { Key: `nodekey:${hex}`, Addresses: [`${address}/32`], AllowedIPs: [`${address}/32`], ...more });

const GRANT: FilterRule = {
  SrcIPs: ["100.64.0.9"],
  CapGrant: [{ Dsts: ["100.64.0.5/32"], CapMap: { "https://tailscale.com/cap/ingress": null } }],
} as FilterRule;

interface Scene {
  config: ServeConfig;
  filter: readonly FilterRule[];
  readonly clock: FakeClock;
  /** As the map has it. */
  readonly relay: { Online?: boolean };
  readonly door: IngressDoor;
  readonly proxy: ReverseProxy;
  /** A connection to our peerapi from the peer with that key, at that address. */
  connect(nodeKey?: string, address?: string): ConnDuplex;
  /** What the backend was sent, by connection. */
  readonly backend: { readonly port: number; readonly heard: string[]; readonly sockets: net.Socket[] };
}

let scene: Scene;

async function openScene(more: Partial<IngressDoorOptions> = {}): Promise<Scene> {
  const backend: Scene["backend"] = await openBackend();
  const clock = new FakeClock();
  const peers = [node(9, RELAY, "100.64.0.9", { Tags: ["tag:relay"] }), node(2, PEER, "100.64.0.2")];
  const map = networkMap(peers, {
    self: node(5, key("5"), "100.64.0.5"),
    users: new Map([[1, { ID: 1, LoginName: "alice@example.com", DisplayName: "Alice" }]]),
  });
  const callers = new MapCallers((source, destination) => capabilitiesOf(made.filter, source, destination));
  callers.setMap(map);
  const made = { config: openConfig(backend.port), filter: [GRANT] as readonly FilterRule[] };
  const proxy = new ReverseProxy({
    config: () => made.config,
    selfName: () => NAME,
    selfAddresses: () => ["100.64.0.5"],
    callers,
    secureContext: async (name) => tls.createSecureContext(await certificateOf(name)),
    log: silentLog,
    clock,
  });
  onTestFinished(() => proxy.close());
  const door = new IngressDoor({
    config: () => made.config,
    ownName: () => "box.tail.test",
    packetFilter: () => made.filter,
    peerByAddress: (address) => peers.find(({ Addresses }) => Addresses.includes(`${address}/32`)),
    accept: (conn, port) => proxy.accept(conn, port),
    clock,
    log: silentLog,
    ...more,
  });
  const api = new PeerApi({ addresses: () => ["100.64.0.5"], ingress: door, clock });
  onTestFinished(() => api.close());
  const connect = (nodeKey: string = RELAY, address: string = "100.64.0.9"): ConnDuplex => {
    const destination = { address: "100.64.0.5", port: 39291 };
    const proof: Proof = { kind: "mesh", nodeKey, source: { address, port: 40_000 }, destination };
    const [near, far] = connPair(proof);
    api.accept(far);
    const client = asDuplex(near);
    client.on("error", () => void client.destroy());
    onTestFinished(() => void client.destroy());
    return client;
  };
  return Object.assign(made, { clock, relay: peers[0]!, door, proxy, connect, backend });
}

async function openBackend(): Promise<Scene["backend"]> {
  const heard: string[] = [];
  const sockets: net.Socket[] = [];
  const server = net.createServer((socket) => {
    const index = sockets.push(socket) - 1;
    heard[index] = "";
    socket.on("error", () => undefined);
    socket.on("data", (chunk) => {
      heard[index] += chunk.toString("latin1");
      if (heard[index]!.startsWith("GET ") && heard[index]!.endsWith("\r\n\r\n")) {
        socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
      }
    });
  });
  const port = await listening(server);
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { port, heard, sockets };
}

/** Public: 443 of NAME, raw 8443, ended TLS on 10000. Not public: SECRET on 443, port 22. */
function openConfig(backend: number): ServeConfig {
  const Handlers = { "/": { Proxy: `http://127.0.0.1:${backend}` } };
  return {
    TCP: {
      ...{ 443: { HTTPS: true }, 80: { HTTP: true }, 22: { TCPForward: `127.0.0.1:${backend}` } },
      8443: { TCPForward: `127.0.0.1:${backend}`, ProxyProtocol: 1 },
      10000: { TCPForward: `127.0.0.1:${backend}`, TerminateTLS: NAME, ProxyProtocol: 1 },
    },
    Web: { [`${NAME}:443`]: { Handlers }, [`${SECRET}:443`]: { Handlers }, [`${NAME}:80`]: { Handlers } },
    AllowFunnel: {
      ...{ [`${NAME}:443`]: true, [`${NAME}:8443`]: true, [`${NAME}:10000`]: true, [`${NAME}:80`]: true },
      ...{ [`${NAME}:22`]: false, [`${NAME}:9`]: true },
    },
  };
}

const FIELDS = [
  "Host: 100.64.0.5:39291",
  "Tailscale-Ingress-Src: 203.0.113.9:51514",
  `Tailscale-Ingress-Target: ${NAME}:443`,
  "Content-Length: 0",
];
const EARLY = "Sallyport-Ingress-Early: ?1";
const request = (fields: readonly string[] = FIELDS, line = "POST /v0/ingress HTTP/1.1"): string =>
  [line, ...fields, "", ""].join("\r\n");
const withField = (name: string, value: string | undefined): string[] => [
  ...FIELDS.filter((field) => !field.startsWith(`${name}:`)),
  ...(value === undefined ? [] : [`${name}: ${value}`]),
];
const forTarget = (target: string, source = "203.0.113.9:51514"): string =>
  request([
    "Host: 100.64.0.5:39291",
    `Tailscale-Ingress-Src: ${source}`,
    `Tailscale-Ingress-Target: ${target}`,
    "Content-Length: 0",
  ]);

/** All that comes until the end, or a cut. */
async function answerTo(client: ConnDuplex, text: string): Promise<string> {
  let heard = "";
  client.on("data", (chunk: Buffer) => {
    heard += chunk.toString("latin1");
  });
  client.write(text);
  await expect
    .poll(() => client.readableEnded || client.destroyed || heard.startsWith("HTTP/1.1 101"), WAIT)
    .toBe(true);
  return heard;
}

const ACCEPTED = "HTTP/1.1 101 Switching Protocols\r\n\r\n";

/** A visitor who was let in by the relay's request. */
async function enter(text: string): Promise<ConnDuplex> {
  const client = scene.connect();
  client.write(text);
  let head = "";
  while (head.length < ACCEPTED.length) {
    const part = client.read(ACCEPTED.length - head.length) as Buffer | null;
    if (part === null) await once(client, "readable");
    else head += part.toString("latin1");
  }
  expect(head).toBe(ACCEPTED);
  return client;
}

async function visitorTls(
  client: ConnDuplex,
  servername: string,
  alpn: string[] = ["http/1.1"],
): Promise<tls.TLSSocket> {
  const secure = tls.connect({ socket: client, servername, ALPNProtocols: alpn, rejectUnauthorized: false });
  await once(secure, "secureConnect");
  return secure;
}

async function get(secure: tls.TLSSocket, fields: readonly string[]): Promise<string> {
  secure.write(["GET / HTTP/1.1", ...fields, "", ""].join("\r\n"));
  let heard = "";
  secure.on("data", (chunk: Buffer) => {
    heard += chunk.toString("latin1");
  });
  await expect.poll(() => heard, WAIT).toMatch(/\r\n\r\n/);
  return heard;
}

beforeEach(async () => {
  scene = await openScene();
});
afterEach(() => {
  expect(scene.backend.heard.join("")).not.toMatch(/tailscale-user|tailscale-app|sallyport-guest/i);
});

describe("FN-4 the node checks the relay, with upstream's statuses", () => {
  test.each<readonly [string, string, number, string]>([
    ["GET", request(FIELDS, "GET /v0/ingress HTTP/1.1"), 405, "only POST allowed"],
    ["no source", request(withField("Tailscale-Ingress-Src", undefined)), 400, "Tailscale-Ingress-Src header not set"],
    ["an empty source", request(withField("Tailscale-Ingress-Src", "")), 400, "Tailscale-Ingress-Src header not set"],
    ["a source without port", request(withField("Tailscale-Ingress-Src", "203.0.113.9")), 400, "want ip:port"],
    ["a name as source", request(withField("Tailscale-Ingress-Src", "evil.test:1")), 400, "want ip:port"],
    ["two sources", request([...FIELDS, "Tailscale-Ingress-Src: 203.0.113.7:1"]), 400, "want ip:port"],
    [
      "no target",
      request(withField("Tailscale-Ingress-Target", undefined)),
      400,
      "Tailscale-Ingress-Target header not set",
    ],
    ["a target without port", request(withField("Tailscale-Ingress-Target", NAME)), 400, "want host:port"],
    ["two targets", request([...FIELDS, `Tailscale-Ingress-Target: ${NAME}:443`]), 400, "want host:port"],
    ["Origin", request([...FIELDS, "Origin: https://evil.test"]), 403, "invalid peerapi request"],
    ["Referer", request([...FIELDS, "Referer: https://evil.test/"]), 403, "invalid peerapi request"],
    ["another Host", request(withField("Host", "evil.test")), 403, "invalid peerapi request"],
    ["Host of another node", request(withField("Host", "100.64.0.2:39291")), 403, "invalid peerapi request"],
    ["two Hosts", request([...FIELDS, "Host: peer"]), 400, "Bad Request"],
    ["no Host", request(withField("Host", undefined)), 400, "Bad Request"],
    ["a body", request(withField("Content-Length", "3")), 400, "no body allowed"],
    ["a chunked body", request([...FIELDS, "Transfer-Encoding: chunked"]), 400, "no body allowed"],
    ["a pipelined second request", request() + request(), 400, "bytes before the answer"],
    ["the visitor's bytes before the 101", `${request()}x`, 400, "bytes before the answer"],
    [
      "… though they could come",
      `${request([...FIELDS, "Sallyport-Ingress-Early: ?0"])}x`,
      400,
      "bytes before the answer",
    ],
    ["… in doubt", `${request([...FIELDS, EARLY, EARLY])}x`, 400, "bytes before the answer"],
    ["a query", request(FIELDS, "POST /v0/ingress?x HTTP/1.1"), 400, "Bad Request"],
    ["HTTP/1.0", request(FIELDS, "POST /v0/ingress HTTP/1.0"), 400, "Bad Request"],
    ["a folded field", request([...FIELDS, " Tailscale-Ingress-Src: 1.2.3.4:5"]), 400, "Bad Request"],
    ["a space before the colon", request([...FIELDS, "Host : peer"]), 400, "Bad Request"],
    ["a bare line feed", request().replace("\r\nContent", "\nContent"), 400, "Bad Request"],
  ])("%s", async (_, text, status, reason) => {
    const answer = await answerTo(scene.connect(), text);
    expect(answer).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
    expect(answer).toContain(reason);
    expect(scene.backend.sockets).toEqual([]);
  });

  test("an ingress that speaks HTTP/2 is refused", async () => {
    const answer = await answerTo(scene.connect(), "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    expect(answer).toMatch(/^(?:HTTP\/1\.1 400 |$)/);
  });

  test("a peer without the ingress capability, and an address that the relay only routes", async () => {
    const noCap = "denied; no ingress cap";
    expect(await answerTo(scene.connect(PEER, "100.64.0.2"), request())).toContain(noCap);
    expect(await answerTo(scene.connect(PEER, "100.64.0.2"), request(FIELDS, "GET /v0/ingress HTTP/1.1"))).toContain(
      noCap,
    );
    expect(await answerTo(scene.connect(PEER, "100.64.0.9"), request())).toContain(noCap); // not the owner's tunnel
    expect(await answerTo(scene.connect(RELAY, "10.0.0.9"), request())).toContain(noCap);
    scene.filter = [];
    expect(await answerTo(scene.connect(), request())).toContain(noCap);
    expect(scene.backend.sockets).toEqual([]);
  });

  test.each([`nodekey:${RELAY}`, "tag:relay"])("trusted by our own configuration: %s", async (who) => {
    scene = await openScene({ trusted: [who] });
    scene.filter = [];
    expect(await answerTo(scene.connect(), request())).toBe(ACCEPTED);
    expect(await answerTo(scene.connect(PEER, "100.64.0.2"), request())).toContain("denied; no ingress cap");
  });

  test("however the request is cut, it is the same request", async () => {
    for (const size of [1, 7, 40]) {
      const client = scene.connect();
      const text = request();
      for (let at = 0; at < text.length; at += size) client.write(text.slice(at, at + size));
      expect(await answerTo(client, "")).toBe(ACCEPTED);
    }
  });

  test("upstream's relay gets a bare 101, and ours is told that we take early words", async () => {
    const told = ACCEPTED.replace(/\r\n$/, `${EARLY}\r\n\r\n`);
    expect(await answerTo(scene.connect(), request())).toBe(ACCEPTED);
    for (const word of ["?0", "?1"]) {
      const text = request([...FIELDS, `Sallyport-Ingress-Early: ${word}`]);
      expect(await answerTo(scene.connect(), text)).toBe(told);
    }
    expect(await answerTo(scene.connect(), request([...FIELDS, "Sallyport-Ingress-Early: yes"]))).toBe(ACCEPTED);
  });

  test("a hello behind the request is the visitor's, however both are cut", async () => {
    const fields = [...FIELDS.filter((field) => !field.startsWith("Tailscale-Ingress-Target")), EARLY];
    const text = request([...fields, `Tailscale-Ingress-Target: ${NAME}:8443`]);
    const hello = makeHello({ name: NAME });
    const all = Buffer.concat([Buffer.from(text), hello, Buffer.from("and more")]);
    const cuts = [
      [],
      [1],
      [text.length - 1],
      [text.length],
      [text.length + 1],
      [all.length - 9],
      [60, text.length + 40],
    ];
    for (const [index, cut] of cuts.entries()) {
      const client = scene.connect();
      const ends = [...cut, all.length];
      for (const [part, end] of ends.entries()) {
        client.write(all.subarray(ends[part - 1] ?? 0, end));
        await new Promise((resolve) => setImmediate(resolve));
      }
      const line = `PROXY TCP4 203.0.113.9 100.64.0.5 51514 ${scene.backend.port}\r\n`;
      const wanted = `${line}${hello.toString("latin1")}and more`;
      await expect.poll(() => scene.backend.heard[index], WAIT).toBe(wanted);
    }
  });

  test("FN-5 a hello behind the request that asks for another name reaches nothing", async () => {
    const client = scene.connect();
    const text = Buffer.from(request([...FIELDS, EARLY]));
    client.write(Buffer.concat([text, makeHello({ name: SECRET })]));
    const heard: Buffer[] = [];
    for await (const part of client) heard.push(part as Buffer);
    expect(Buffer.concat(heard).toString("hex")).toMatch(/15030300020270$/);
    expect(scene.backend.sockets).toEqual([]);
  });

  test("a visitor whose TLS hello is refused hears the alert, behind the 101", async () => {
    const client = scene.connect();
    client.write(Buffer.concat([Buffer.from(request([...FIELDS, EARLY])), makeHello({ name: NAME })]));
    const heard: Buffer[] = [];
    client.on("data", (part: Buffer) => heard.push(part));
    await expect.poll(() => client.readableEnded || client.destroyed, WAIT).toBe(true);
    const all = Buffer.concat(heard);
    expect(all.toString("latin1")).toMatch(/^HTTP\/1\.1 101 /);
    expect(all.subarray(-7).toString("hex")).toMatch(/^1503..000202..$/);
  });

  test("a delivery behind another request is none", async () => {
    const client = scene.connect();
    const first = "HEAD / HTTP/1.1\r\nHost: peer\r\n\r\n";
    const answer = await answerTo(client, first + request());
    expect(answer).toMatch(/^HTTP\/1\.1 200 OK.*\r\n\r\nHTTP\/1\.1 404 Not Found/s);
  });

  test("a head that does not come to its end is waited for 10 s", async () => {
    const client = scene.connect();
    client.write("POST /v0/ingress HT");
    await new Promise<void>((resolve) => setImmediate(resolve));
    scene.clock.advance(10_001);
    await expect.poll(() => client.destroyed, WAIT).toBe(true);
  });
});

describe("FN-6 only what this node's own configuration makes public", () => {
  test.each([
    ...[`${NAME}:22`, `${NAME}:8080`, `${NAME}:0`, `${NAME}:65536`, `${NAME}:443x`, `${NAME}:0443`, `${NAME}:+443`],
    ...[
      `${SECRET}:443`,
      `other.test:443`,
      "__proto__:443",
      "constructor:443",
      `${NAME.toUpperCase()}:443`,
      `${NAME}.:443`,
    ],
    `${NAME}:80`, // no TLS there: nothing would say whom the visitor means
    `${NAME}:9`, // nothing is served there
  ])("%s is denied", async (target) => {
    const answer = await answerTo(scene.connect(), forTarget(target));
    expect(answer).toMatch(/^HTTP\/1\.1 403 Forbidden\r\n.*\r\n\r\ndenied\n$/s);
  });

  test("a wildcard is public for one label more, and for nothing else", async () => {
    const wild = "*.shop.example.org:443";
    scene.config = { ...scene.config, AllowFunnel: { [wild]: true } };
    expect(await answerTo(scene.connect(), forTarget("a.shop.example.org:443"))).toBe(ACCEPTED);
    for (const target of [wild, "shop.example.org:443", "a.b.shop.example.org:443", "a.shop.example.org:8443"]) {
      expect(await answerTo(scene.connect(), forTarget(target))).toMatch(/^HTTP\/1\.1 403 /);
    }
  });

  test("where nothing is configured, nobody is let in", async () => {
    scene.config = {};
    expect(await answerTo(scene.connect(), request())).toMatch(/^HTTP\/1\.1 403 /);
  });
});

describe("FN-10 what the owner asks, also where the relay does not know it", () => {
  const BUSY = /^HTTP\/1\.1 503 .*too many visitors/s;

  test("a visitor who is not wanted is denied like one of a private name, and cut when he is here", async () => {
    let rules: VisitorRules | undefined;
    scene = await openScene({ rulesOf: ({ port }) => (port === 443 ? rules : undefined) });
    const here = await enter(request());
    const other = await enter(forTarget(`${NAME}:443`, "198.51.100.7:1"));
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
    scene = await openScene({ rulesOf: () => ({ bytesPerSecond: 100_000 }) });
    const client = await enter(forTarget(`${NAME}:8443`));
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

  test("how many at once and how fast, of all and of one visitor", async () => {
    let rules: VisitorRules = { connections: 3, visitorConnections: 2 };
    scene = await openScene({ rulesOf: () => rules });
    const [first] = [await enter(request()), await enter(request())];
    expect(await answerTo(scene.connect(), request())).toMatch(BUSY);
    await enter(forTarget(`${NAME}:443`, "198.51.100.7:1"));
    expect(await answerTo(scene.connect(), forTarget(`${NAME}:443`, "198.51.100.8:1"))).toMatch(BUSY);
    await enter(forTarget(`${NAME}:8443`, "198.51.100.8:1")); // each site has its own
    first!.destroy();
    await expect.poll(() => scene.door.open, WAIT).toBe(3);
    await enter(request());
    rules = { visitorConnectionsPerSecond: 1 };
    const visitor = forTarget(`${NAME}:443`, "[2001:db8::1]:1");
    for (let i = 0; i < 2; i++) await enter(visitor);
    expect(await answerTo(scene.connect(), forTarget(`${NAME}:443`, "[2001:db8::2]:9"))).toMatch(BUSY);
    scene.clock.advance(1000);
    await enter(visitor);
  });
});

describe("a visitor's request", () => {
  test("carries no identity, says that it came by Funnel, and nothing that the visitor claims", async () => {
    const secure = await visitorTls(await enter(request()), NAME);
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
      const client = await enter(forTarget(target));
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
    const secure = await visitorTls(await enter(request()), NAME);
    expect(await get(secure, [`Host: ${host}`])).toMatch(/^HTTP\/1\.1 421 /);
    expect(scene.backend.sockets).toEqual([]);
  });

  test("FN-5 an authority for another name reaches nothing by HTTP/2 either, nor behind a good request", async () => {
    const secure = await visitorTls(await enter(request()), NAME, ["h2"]);
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

    const kept = await visitorTls(await enter(request()), NAME);
    expect(await get(kept, [`Host: ${NAME}`])).toMatch(/^HTTP\/1\.1 200 /);
    expect(await get(kept, [`Host: ${SECRET}`])).toMatch(/^HTTP\/1\.1 421 /);
    expect(scene.backend.heard.join("")).not.toContain(SECRET);
  });

  test("FN-5 what is no hello, or does not come to its end", async () => {
    const plain = await enter(request());
    plain.write("GET / HTTP/1.1\r\n\r\n");
    await expect.poll(() => plain.readableEnded || plain.read() !== null, WAIT).toBe(true);
    const slow = await enter(request());
    slow.resume();
    slow.write(makeHello({ name: NAME }).subarray(0, 50));
    await new Promise<void>((resolve) => setImmediate(resolve));
    scene.clock.advance(10_001);
    await expect.poll(() => slow.readableEnded, WAIT).toBe(true);
    expect(scene.backend.sockets).toEqual([]);
  });
});

describe("a raw port", () => {
  const RAW = 2222;
  const lease = (more: Record<string, boolean> = {}, port: number = RAW): void => {
    scene.config = {
      ...scene.config,
      TCP: { ...scene.config.TCP, [RAW]: { TCPForward: `127.0.0.1:${scene.backend.port}` } },
      AllowFunnel: { ...scene.config.AllowFunnel, [`*:${port}`]: true, ...more },
    };
  };

  test("the backend speaks first, and the visitor says no hello", async () => {
    lease();
    const client = await enter(forTarget(`${NAME}:${RAW}`));
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
      const client = await enter(forTarget(target));
      client.write("SSH-2.0-there\r\n");
      await expect.poll(() => client.readableEnded || client.read() !== null, WAIT).toBe(true);
    }
    expect(scene.backend.sockets).toEqual([]);
  });

  test("FN-8 who came by the lease goes with it, though the port is public by name now", async () => {
    lease();
    const client = await enter(forTarget(`${NAME}:${RAW}`));
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

/** Sources that a relay may name, by what becomes of them. */
const CLAIMS: readonly (readonly [outcome: 400 | 403 | "told", claims: readonly string[]])[] = [
  [
    403,
    ["127.0.0.1:1", "127.255.255.254:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "[::ffff:7f00:1]:1", "[::127.0.0.1]:1"],
  ],
  [403, ["100.64.0.0:1", "100.64.0.2:1", "100.127.255.255:1", "[::ffff:100.64.0.2]:1", "[::ffff:6440:2]:1"]],
  [403, ["[fd7a:115c:a1e0::1]:1", "[FD7A:115C:A1E0::2]:1", "[fd7a:115c:a1e0:ab12:4843:cd96:6265:6667]:1"]],
  [403, ["[0:0:0:0:0:ffff:100.64.0.5]:1", "[::100.64.0.2]:1", "[::ffff:0:100.64.0.2]:1", "[64:ff9b::100.64.0.2]:1"]],
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
    const client = await enter(forTarget(`${NAME}:8443`));
    const hello = makeHello({ name: NAME });
    client.write(hello);
    const line = `PROXY TCP4 203.0.113.9 100.64.0.5 51514 ${scene.backend.port}\r\n`;
    await expect.poll(() => scene.backend.heard[0], WAIT).toBe(line + hello.toString("latin1"));
    scene.backend.sockets[0]!.write("answer");
    expect(String((await once(client, "data"))[0])).toBe("answer");
  });

  test("ended TLS: what was inside, behind the same line", async () => {
    const secure = await visitorTls(await enter(forTarget(`${NAME}:10000`, "[2001:db8::9]:7")), NAME, []);
    secure.write("inside");
    await expect
      .poll(() => scene.backend.heard[0], WAIT)
      .toBe(`PROXY TCP6 2001:db8::9 ::1 7 ${scene.backend.port}\r\ninside`);
  });

  test("63 claims of who calls: malformed ones are 400, those of nobody 403, and the others are told as they are", async () => {
    const all = CLAIMS.flatMap(([outcome, claims]) => claims.map((claim) => [outcome, claim] as const));
    expect(all.length).toBe(63);
    for (const [outcome, claim] of all) {
      const client = scene.connect();
      const answer = await answerTo(client, forTarget(`${NAME}:8443`, claim));
      if (outcome !== "told") {
        expect(`${claim}: ${answer.slice(0, 12)}`).toBe(`${claim}: HTTP/1.1 ${outcome}`);
        continue;
      }
      const index = scene.backend.sockets.length;
      client.write(makeHello({ name: NAME }));
      await expect.poll(() => scene.backend.heard[index] ?? "", WAIT).toContain("\r\n");
      const [, family, source, , port] = scene.backend.heard[index]!.split(/[ \r]/);
      const told = family === "TCP6" ? `[${source}]:${port}` : `${source}:${port}`;
      expect(told).toBe(AS_TOLD[claim] ?? claim);
    }
  });
});

describe("FN-8 off is at once", () => {
  test("100 open connections are cut, and new ones denied", async () => {
    const raw = await Promise.all(Array.from({ length: 50 }, () => enter(forTarget(`${NAME}:8443`))));
    for (const client of raw) client.write(makeHello({ name: NAME }));
    const web = await Promise.all(Array.from({ length: 50 }, async () => visitorTls(await enter(request()), NAME)));
    await expect.poll(() => scene.backend.heard.filter((text) => text.includes("PROXY")).length, WAIT).toBe(50);
    expect(scene.door.open).toBe(100);
    for (const secure of web) secure.on("error", () => undefined);
    for (const client of raw) client.resume();
    scene.config = { ...scene.config, AllowFunnel: {} };
    scene.door.review();
    expect(scene.door.open).toBe(0);
    await expect.poll(() => raw.every(({ destroyed }) => destroyed), WAIT).toBe(true);
    await expect.poll(() => web.every(({ destroyed }) => destroyed), WAIT).toBe(true);
    await expect.poll(() => scene.backend.sockets.every(({ destroyed }) => destroyed), WAIT).toBe(true);
    expect(await answerTo(scene.connect(), request())).toMatch(/^HTTP\/1\.1 403 /);
  });

  test("what stays public stays open; a relay that loses its right loses its visitors", async () => {
    const raw = await enter(forTarget(`${NAME}:8443`));
    raw.write(makeHello({ name: NAME }));
    await expect.poll(() => scene.backend.sockets.length, WAIT).toBe(1);
    scene.config = { ...scene.config, AllowFunnel: { [`${NAME}:8443`]: true } };
    scene.door.review();
    expect(scene.door.open).toBe(1);
    scene.filter = [];
    scene.door.review();
    raw.resume();
    await expect.poll(() => raw.destroyed, WAIT).toBe(true);
  });
});

test("FN-13 visitors of a relay that is gone are cut within a minute, those of one that comes back are not", async () => {
  const client = await enter(forTarget(`${NAME}:8443`));
  client.resume();
  client.write(makeHello({ name: NAME }));
  await expect.poll(() => scene.backend.sockets.length, WAIT).toBe(1);
  const look = (isOnline: boolean, ms: number): void => {
    scene.relay.Online = isOnline;
    for (let i = 0; i < ms; i += 2000) {
      scene.door.review();
      scene.clock.advance(2000);
    }
  };
  look(false, 16_000);
  look(true, 4000);
  look(false, 16_000);
  expect(scene.door.open).toBe(1);
  look(false, 10_000);
  await expect.poll(() => client.destroyed && scene.backend.sockets[0]!.destroyed, WAIT).toBe(true);
});

test("FN-10 one relay has so many visitors and no more", async () => {
  scene = await openScene({ limits: { relayOpen: 2 } });
  const first = await enter(request());
  await enter(request());
  expect(await answerTo(scene.connect(), request())).toMatch(/^HTTP\/1\.1 503 /);
  first.destroy();
  await expect.poll(() => scene.door.open, WAIT).toBe(1);
  expect(await answerTo(scene.connect(), request())).toBe(ACCEPTED);
});
