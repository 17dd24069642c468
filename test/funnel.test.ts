import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage } from "node:http";
import net from "node:net";
import tls from "node:tls";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { asDuplex } from "../src/base/duplex.ts";
import { memoryStore } from "../src/base/store.ts";
import { type Finding, probe } from "../src/funnel/probe.ts";
import { GatewayAdmin } from "../src/gateway/admin.ts";
import { openDoors } from "../src/gateway/doors/doors.ts";
import type { Gateway } from "../src/gateway/gateway.ts";
import type { Relay } from "../src/server/relay.ts";
import type { ServeConfig } from "../src/wire/serve-config.ts";
import { makeHello } from "./suites/client-hellos.ts";
import { brings, FunnelMesh, funnelPolicy } from "./suites/funnel-mesh.ts";
import { openLocalSocket } from "./suites/local-gateway.ts";
import { type Typed, typedAt, typedFunnel } from "./suites/typed-command.ts";

const WAIT = { timeout: 30_000, interval: 10 };
const NAME = "web.tail.test";
const UNRECOGNIZED = "15030300020270";
const INTERNAL = "15030300020250";

const WEB = `"attr": ["funnel"], "app": { "sallyport.dev/domains": [{ "names": ["demo.example.org", "*.wild.example.org"] }] }`;

/** Server, relay and gateway of one mesh on loopback, and a backend that says what it was asked. */
let mesh: FunnelMesh;
let gateway: Gateway;
let relay: Relay;
let httpPort: number;
let tcpPort: number;
const sockets = new Set<net.Socket>();
const kept = memoryStore();
const disk = {
  isFull: false,
  get: kept.get,
  delete: kept.delete,
  async set(name: string, value: Uint8Array): Promise<void> {
    if (this.isFull) throw new Error("disk full");
    await kept.set(name, value);
  },
};

beforeAll(async () => {
  mesh = await FunnelMesh.open({ policy: funnelPolicy(WEB) });
  const http = createServer((request: IncomingMessage, response) => response.end(JSON.stringify(request.headers)));
  httpPort = await mesh.listen(http);
  const tcp = net.createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined).once("close", () => sockets.delete(socket));
    socket.pipe(socket);
  });
  tcpPort = await mesh.listen(tcp);
  relay = await mesh.relay({
    listeners: [443, 8443].map((publicPort) => ({ address: "127.0.0.1", port: 0, publicPort })),
  });
  // An own domain would be Let's Encrypt's.
  gateway = await mesh.gateway({ store: disk, certificates: { authority: "internal" } });
}, 60_000);

afterAll(async () => {
  await mesh.close();
});

const config = (AllowFunnel: Record<string, boolean>): ServeConfig => ({
  TCP: { 443: { HTTPS: true }, 8443: { TCPForward: `127.0.0.1:${tcpPort}` } },
  Web: { [`${NAME}:443`]: { Handlers: { "/": { Proxy: `http://127.0.0.1:${httpPort}` } } } },
  AllowFunnel,
});

/** Off comes before on: what the test before switched off may still be on its way to the relay, and would cut our visitors. */
async function publish(): Promise<void> {
  const isKnown = (): boolean => brings(relay, NAME);
  await gateway.setServeConfig({});
  await expect.poll(isKnown, WAIT).toBe(false);
  await gateway.setServeConfig(config({ [`${NAME}:443`]: true, [`${NAME}:8443`]: true }));
  await expect.poll(isKnown, WAIT).toBe(true);
}

/** What a visitor hears who says only hello. */
async function hello(name: string, port: number = relay.ports[0]!): Promise<string> {
  const socket = net.connect(port, "127.0.0.1");
  onTestFinished(() => void socket.destroy());
  socket.on("error", () => undefined);
  socket.write(makeHello({ name }));
  let heard = Buffer.alloc(0);
  socket.on("data", (chunk: Buffer) => {
    heard = Buffer.concat([heard, chunk]);
  });
  await closing(socket);
  return heard.toString("hex");
}

const closing = (socket: net.Socket): Promise<void> => new Promise((resolve) => socket.once("close", () => resolve()));

async function raw(name: string = NAME): Promise<{ socket: net.Socket; heard: () => Buffer }> {
  const socket = net.connect(relay.ports[1]!, "127.0.0.1");
  onTestFinished(() => void socket.destroy());
  socket.on("error", () => undefined);
  const heard: Buffer[] = [];
  let length = 0;
  socket.on("data", (chunk: Buffer) => {
    heard.push(chunk);
    length += chunk.length;
  });
  const first = makeHello({ name });
  socket.write(first);
  await expect.poll(() => length, WAIT).toBe(first.length);
  return { socket, heard: () => Buffer.concat(heard).subarray(first.length) };
}

async function secureVisit(): Promise<tls.TLSSocket> {
  const ca = await gateway.certificates.authority();
  const socket = tls.connect({ host: "127.0.0.1", port: relay.ports[0]!, servername: NAME, ca });
  onTestFinished(() => void socket.destroy());
  socket.on("error", () => undefined);
  await once(socket, "secureConnect");
  return socket;
}

const typed = (words: readonly string[], answer?: string): Promise<Typed> => typedFunnel(gateway, words, { answer });

/** The way of a visitor to the relay's first port, hop by hop, once it is open as far as the gateway. */
async function seen(name: string): Promise<readonly string[]> {
  const way = { name, port: relay.ports[0]!, isHttp: true, ca: await gateway.certificates.authority() };
  const findings: Finding[] = [];
  await expect
    .poll(async () => {
      findings.length = 0;
      const signal = AbortSignal.timeout(30_000);
      for await (const one of probe({ ...way, resolve: async () => ["127.0.0.1"], signal })) findings.push(one);
      return findings.length;
    }, WAIT)
    .toBe(5);
  return findings.map(({ hop, isGood, found }) => `${hop} ${hop === "backend" ? found : isGood}`);
}

const OPEN = ["dns true", "ingress true", "name true", "certificate true"];

describe("sallyport funnel", () => {
  test("FN-9 a name of one's own, seen from outside, and taken back without the node's own", async () => {
    const own = "demo.example.org";
    const { AllowFunnel: _, ...before } = config({});
    await gateway.setServeConfig(before);
    const { code, stdout, stderr } = await typed(["--bg", "--domain", own, String(httpPort)]);
    expect([code, stderr]).toEqual([
      0,
      expect.stringMatching(/^Warning: Anyone on the internet may use demo\.example\.org:443: /),
    ]);
    expect(stdout).toContain(`https://${own}/\n|-- proxy http://127.0.0.1:${httpPort}\n`);
    expect(await seen(own)).toEqual([...OPEN, "backend status 200"]);
    expect(await hello(NAME)).toBe(UNRECOGNIZED);
    expect((await typed(["--domain", own, "off"])).code).toBe(0);
    expect(gateway.storedServeConfig).toEqual(before);
    expect(await hello(own)).toBe(UNRECOGNIZED);
  });

  test("FN-9 a wildcard whose certificate visitors refuse was on without a word", async () => {
    const own = "*.wild.example.org";
    await gateway.setServeConfig({});
    const { code, stderr } = await typed(["--bg", "--public", "--domain", own, String(httpPort)]);
    expect([code, stderr]).toEqual([
      0,
      expect.stringMatching(/^Warning: visitors refuse the certificate of \*\.wild\./),
    ]);
    expect((await typed(["status"])).stderr).toBe(stderr);
    expect((await typed(["--bg", "--check", "--public", "--domain", own, String(httpPort)])).code).toBe(1);
  });

  test("a public wildcard was nothing to look at: `check` said that nothing is public, and took no name below it", async () => {
    await gateway.setServeConfig({});
    await using socket = await openLocalSocket(new GatewayAdmin(gateway));
    const at = (...words: readonly string[]): Promise<Typed> => typedAt(socket.path, ["funnel", ...words]);
    const wild = ["--bg", "--check=false", "--public", "--domain", "*.wild.example.org"];
    await at(...wild, "--deny-ip", "198.51.100.9", String(httpPort));
    const all = await at("check");
    expect([all.code, all.stderr]).toEqual([
      1,
      expect.stringMatching(/^\*\.wild\.example\.org:443 is every name below/),
    ]);
    expect((await at("status")).stdout).toContain("*.wild.example.org:443: not looked at yet");
    expect((await at("check", "https://Shop.wild.example.org/")).stdout).toMatch(
      /^shop\.wild\.example\.org:443\n {2}✗ dns/,
    );
    expect((await at("check", "wild.example.org")).stderr).toMatch(/is not public here: \*\.wild\.example\.org:443/);
    expect((await at("check", "shop.wild.example.org:8443")).code).toBe(1);
    const { stdout } = await at("status");
    expect(stdout).toContain("*.wild.example.org:443: not from 198.51.100.9/32\n");
    expect(stdout).toContain("#     - shop.wild.example.org:443: ✗ dns: ");
    expect(stdout).not.toContain("not looked at yet");
  });

  test("the node's own name as a domain was claimed, and waited for", async () => {
    await gateway.setServeConfig({});
    expect((await typed(["--bg", "--public", "--domain", NAME, String(httpPort)])).stderr).toBe("");
  });

  test('where the policy does not give `funnel`, "Available on the internet" was said, and nobody could come', async () => {
    await gateway.setServeConfig({});
    const mayBePublic = (): boolean => Object.hasOwn(gateway.node.map?.self.CapMap ?? {}, "funnel");
    await mesh.server.setPolicy(funnelPolicy('"attr": ["https"]'), "test");
    await expect.poll(mayBePublic, WAIT).toBe(false);
    const { code, stdout } = await typed(["--bg", "--public", String(httpPort)]);
    expect([code, stdout]).toEqual([
      0,
      expect.stringMatching(/^This network does not allow funnel on this node: .*"funnel"/),
    ]);
    expect(gateway.storedServeConfig).toEqual({});
    await gateway.setServeConfig(config({ [`${NAME}:443`]: true })); // of before the policy changed
    const why = "This network does not allow funnel on this node";
    expect((await typed(["status"])).stderr).toContain(`Warning: visitors are not brought here: ${why}`);
    expect((await typed(["check"])).stdout).toContain(`✗ policy       ${why}`);
    await mesh.server.setPolicy(funnelPolicy(WEB), "test");
    await expect.poll(mayBePublic, WAIT).toBe(true);
  });

  test.each([
    ["a port that is taken", NAME, []],
    ["a domain that is not granted", "other.example.org", ["--bg", "--domain", "other.example.org"]],
  ])("`funnel --public` for %s failed, and had opened the door and let everybody in", async (_, name, words) => {
    gateway.gatekeeper.setDoors(await openDoors({ friends: { pin: "env:PIN" } }, { PIN: "482913" }));
    const { Web } = config({});
    await gateway.setServeConfig({
      TCP: { 443: { HTTPS: true } },
      Web: { [`${name}:443`]: Web![`${NAME}:443`]! },
      AllowFunnel: { [`${name}:443`]: true },
    });
    await gateway.commandDoors.set(`${name}:443`, "friends");
    await gateway.visitorRules.set(`${name}:443`, ["127.0.0.2"], []);
    const { code, stderr } = await typed([...words, "--public", "--allow-ip", "all", String(httpPort)]);
    expect([code, stderr]).toEqual([1, expect.stringMatching(/already exists|is not this node's/)]);
    expect(gateway.doorAt({ name, port: 443, mount: "/" })).toBe("friends");
    expect(gateway.visitorRules.at({ name, port: 443 })?.allow).toMatchObject([{ bits: 32 }]);
    await gateway.setServeConfig({});
  });

  test("a door before what is public: strangers get 401, which is an answer, until it is said that anyone may come", async () => {
    gateway.gatekeeper.setDoors(await openDoors({ friends: { pin: "env:PIN" } }, { PIN: "482913" }));
    await gateway.setServeConfig({});
    expect((await typed(["--bg", "--door", "friends", String(httpPort)])).stderr).toBe("");
    expect(await seen(NAME)).toEqual([...OPEN, "backend status 401"]);
    expect((await typed(["--bg", "--set-path=/more", String(httpPort)])).stderr).toBe("");
    expect(await seen(NAME)).toEqual([...OPEN, "backend status 401"]);
    expect((await typed(["--bg", "--public", String(httpPort)])).stderr).toBe("");
    expect(await seen(NAME)).toEqual([...OPEN, "backend status 200"]);
  });

  test("`funnel --public --set-path=/open` opened all of the name, where a door stood before it", async () => {
    const doors = { friends: { pin: "env:PIN" }, staff: { pin: "env:PIN" } } as const;
    gateway.gatekeeper.setDoors(await openDoors(doors, { PIN: "482913" }));
    await gateway.setServeConfig({});
    const add = async (...words: readonly string[]): Promise<void> => {
      expect((await typed(["--bg", ...words, String(httpPort)])).stderr).toBe("");
    };
    await add("--door", "friends");
    await add("--public", "--set-path=/open");
    await add("--door", "staff", "--set-path=/open/staff");
    const { stdout } = await typed(["status"]);
    expect(stdout).toContain(
      `# Doors:\n#     - ${NAME}:443/: friends\n#     - ${NAME}:443/open: anyone\n#     - ${NAME}:443/open/staff: staff\n`,
    );
    expect(await seen(NAME)).toEqual([...OPEN, "backend status 401"]);
    await add("--public");
    expect((await typed(["status"])).stdout).toContain(`${NAME}:443/: anyone\n`);
    expect(gateway.doorAt({ name: NAME, port: 443, mount: "/open/staff" })).toBe("staff");
    await gateway.setServeConfig({});
  });

  test.each([
    ["n", {}, undefined],
    ["", {}, undefined],
    ["nobody", {}, undefined],
    ["friends", { [`${NAME}:443`]: true }, "friends"],
    ["yes", { [`${NAME}:443`]: true }, undefined],
  ])("on a terminal it is asked who may come: %j", async (answer, open, door) => {
    gateway.gatekeeper.setDoors(await openDoors({ friends: { pin: "env:PIN" } }, { PIN: "482913" }));
    await gateway.setServeConfig({});
    const { code, stdout } = await typed(["--bg", "--check=false", String(httpPort)], answer);
    expect([code, stdout]).toEqual([0, expect.stringContaining("Continue? [y/N, or the name of a door (friends)] ")]);
    expect(gateway.storedServeConfig?.AllowFunnel ?? {}).toEqual(open);
    expect(gateway.doorAt({ name: NAME, port: 443, mount: "/" })).toBe(door);
    const again = await typed(["--bg", "--check=false", "--public", String(httpPort)], "n");
    expect(again.stdout).not.toContain("Continue?");
  });

  test.each([
    [["--door", "nobody", "3000"], 'Cannot put door "nobody" before web.tail.test:443: there is none of this name'],
    [["--door", "friends", "--tcp=8443", "3000"], "--door needs HTTPS"],
    [["--door", "friends", "--public", "3000"], "found --public and --door, wanted one of them"],
    [["--domain", "localhost", "3000"], "wanted a full DNS name"],
    [["--domain", "", "3000"], "wanted a full DNS name"],
    [["--door", "", "3000"], "found --door without a name"],
  ])("%j is refused, and nothing is public", async (words, why) => {
    await gateway.setServeConfig({});
    const { code, stderr } = await typed(["--bg", ...words]);
    expect([code > 0, stderr]).toEqual([true, expect.stringContaining(why)]);
    expect(gateway.storedServeConfig).toEqual({});
  });
});

describe("a visitor from the Internet", () => {
  test("nothing is public until somebody says so", async () => {
    expect(await hello(NAME)).toBe(UNRECOGNIZED);
  });

  test("reaches the backend through relay and mesh, with TLS that ends at the gateway, as nobody", async () => {
    await publish();
    const socket = await secureVisit();
    socket.write(
      `GET / HTTP/1.1\r\nHost: ${NAME}\r\nTailscale-User-Login: root@example.com\r\nConnection: close\r\n\r\n`,
    );
    let text = "";
    for await (const chunk of socket) text += String(chunk);
    expect(text).toMatch(/^HTTP\/1\.1 200 OK/);
    const headers = JSON.parse(text.slice(text.indexOf("{"))) as Record<string, string>;
    expect(headers).toMatchObject({
      "tailscale-funnel-request": "?1",
      "sallyport-caller-kind": "anonymous",
      "x-forwarded-for": "127.0.0.1",
      host: NAME,
    });
    expect(Object.keys(headers).filter((name) => name.startsWith("tailscale-user"))).toEqual([]);
  });

  test.each([1, 1000, 100_000, 3_000_000])("FN-1 %i bytes there and back are the same bytes", async (size) => {
    await publish();
    const { socket, heard } = await raw();
    const sent = randomBytes(size);
    socket.end(sent);
    await once(socket, "end");
    expect(createHash("sha256").update(heard()).digest("hex")).toBe(createHash("sha256").update(sent).digest("hex"));
  });

  test("a visitor who says hello and ends is answered", async () => {
    await publish();
    const socket = net.connect(relay.ports[1]!, "127.0.0.1");
    onTestFinished(() => void socket.destroy());
    const sent = makeHello({ name: NAME });
    socket.end(sent);
    let heard = "";
    for await (const chunk of socket) heard += (chunk as Buffer).toString("hex");
    expect(heard).toBe(sent.toString("hex"));
  });

  test("a domain of one's own that the policy grants", async () => {
    const own = "demo.example.org";
    await publish();
    expect(await hello(own, relay.ports[1])).toBe(UNRECOGNIZED); // routed here, and not public by our configuration
    await gateway.setServeConfig(config({ [`${own}:8443`]: true }));
    await expect.poll(() => brings(relay, own, 8443), WAIT).toBe(true);
    const { socket, heard } = await raw(own);
    socket.end("hello from outside");
    await once(socket, "end");
    expect(heard().toString()).toBe("hello from outside");
    expect(await hello(NAME, relay.ports[1])).toBe(UNRECOGNIZED);
  });

  test("FN-6 a port that is not public", async () => {
    await gateway.setServeConfig(config({ [`${NAME}:443`]: true }));
    expect(await hello(NAME, relay.ports[1])).toBe(UNRECOGNIZED);
  });

  test("FN-11 the relay reaches the peerapi and nothing else, whatever the policy lets everybody do", async () => {
    await publish();
    const address = gateway.node.addresses[0]!;
    const reached: number[] = [];
    const giveUp = new AbortController();
    const dropped = (): number => gateway.node.counters["filter"]?.["dropped"] ?? 0;
    const before = dropped();
    const ports = [1, 22, 53, 80, 443, 3000, 5252, 8443, 10_000, httpPort, tcpPort];
    const dials = ports.map((port) =>
      relay.node.dial({ address, port }, { signal: giveUp.signal }).then(
        () => void reached.push(port),
        () => undefined,
      ),
    );
    await expect.poll(() => dropped() - before, WAIT).toBeGreaterThanOrEqual(ports.length);
    giveUp.abort();
    await Promise.all(dials);
    expect(reached).toEqual([]);
    const peerApi = relay.names.find(NAME, 443)!.peerApi!;
    const conn = asDuplex(await relay.node.dial(peerApi));
    onTestFinished(() => void conn.destroy());
    conn.write("GET /v0/metrics HTTP/1.1\r\nHost: peer\r\nConnection: close\r\n\r\n");
    expect(String((await once(conn, "data"))[0])).toMatch(/^HTTP\/1\.1 404 /);
  });

  test("FN-8 off cuts who is there, and refuses who comes", async () => {
    await publish();
    const visits = await Promise.all(Array.from({ length: 20 }, raw));
    expect(sockets.size).toBe(20);
    const gone = Promise.all(visits.map(({ socket }) => closing(socket)));
    await gateway.setServeConfig({});
    await gone;
    await expect.poll(() => sockets.size, WAIT).toBe(0);
    expect(await hello(NAME)).toBe(UNRECOGNIZED);
  });

  test("FN-8 off counts although it cannot be written down", async () => {
    await publish();
    const { socket } = await raw();
    const gone = closing(socket);
    disk.isFull = true;
    onTestFinished(() => {
      disk.isFull = false;
    });
    await expect(gateway.setServeConfig({})).rejects.toThrow(
      "disk full: what was public is closed until it is restarted",
    );
    await gone;
    expect(await hello(NAME)).toBe(UNRECOGNIZED);
  });

  test('`status` said "open to the internet" of what an `off` had closed that could not be written down', async () => {
    await publish();
    disk.isFull = true;
    onTestFinished(() => {
      disk.isFull = false;
    });
    const before = gateway.warnings;
    expect(before).toContain(`${NAME}:443 is open to the internet, without login`);
    await expect(gateway.setServeConfig({})).rejects.toThrow("disk full");
    const [open, closed] = ["is open to the internet, without login", "is closed to the internet until a restart"];
    const of = (port: number): readonly string[] =>
      gateway.warnings.filter((one) => one.startsWith(`${NAME}:${port} is`));
    for (const port of [443, 8443]) expect(of(port)).toEqual([expect.stringContaining(closed)]);
    await gateway.setServeConfig(config({ [`${NAME}:443`]: true })).catch(() => undefined);
    expect(of(443)).toEqual([expect.stringContaining(closed)]);
    disk.isFull = false;
    await gateway.setServeConfig(config({ [`${NAME}:443`]: true }));
    expect([of(443), of(8443)]).toEqual([[expect.stringContaining(open)], []]);
  });

  test("FN-3 a node that is away", async () => {
    await publish();
    const { ports } = await mesh.relay({ hostname: "hasty", limits: { answerMs: 1500 } });
    gateway.node.pause();
    await expect.poll(() => hello(NAME, ports[0]), { timeout: 60_000, interval: 100 }).toBe(INTERNAL);
    gateway.node.resume();
    await expect.poll(() => hello(NAME, ports[0]), { timeout: 60_000, interval: 100 }).not.toBe(INTERNAL);
  }, 130_000);
});
