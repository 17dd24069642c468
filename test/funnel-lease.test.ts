import { once } from "node:events";
import net from "node:net";
import tls from "node:tls";
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { memoryStore, type Store } from "../src/base/store.ts";
import { LocalClient } from "../src/cli/local-client.ts";
import { serveConfigEtag } from "../src/config/serve-document.ts";
import { leasesOf } from "../src/funnel/mesh-names.ts";
import { probe } from "../src/funnel/probe.ts";
import { GatewayAdmin } from "../src/gateway/admin.ts";
import { Gateway } from "../src/gateway/gateway.ts";
import type { Relay } from "../src/server/relay.ts";
import type { ServeConfig } from "../src/wire/serve-config.ts";
import { makeHello } from "./suites/client-hellos.ts";
import { freePorts } from "./suites/free-ports.ts";
import { brings, FunnelMesh, funnelPolicy, publicTcp } from "./suites/funnel-mesh.ts";
import { openLocalSocket } from "./suites/local-gateway.ts";
import { type Screen, type Typed, type Typing, typedFunnel } from "./suites/typed-command.ts";

const WAIT = { timeout: 30_000, interval: 10 };
const BANNER = "SSH-2.0-test\r\n";

interface Node {
  gateway: Gateway;
  readonly name: string;
  readonly store: Store;
  /** What a services file says that is there when it begins. */
  declared?: ServeConfig;
}

const nodeOf = (name: string): Node => ({
  gateway: undefined as never,
  name: `${name}.tail.test`,
  store: memoryStore(),
});

/** Server, relay and two gateways of one mesh on loopback; a backend that speaks first, then says what it hears. */
let mesh: FunnelMesh;
const first = nodeOf("first");
const second = nodeOf("second");
let relay: Relay;
let backend: number;
/** Two that the policy grants and the ingress lets, one that only the ingress lets, one that only the policy grants. */
let ports: { one: number; other: number; ungranted: number; closed: number };
const policy = (granted: readonly number[], names: readonly string[] = ["demo.example.org"]): string =>
  funnelPolicy(`"attr": ["funnel", "https"], "app": {
    "sallyport.dev/domains": [{ "names": ${JSON.stringify(names)} }],
    "sallyport.dev/ports": [{ "ports": ${JSON.stringify(granted.map((port) => `${port}-${port}`))} }],
  }`);
/** What the backend heard, of all its callers. */
let heard = Buffer.alloc(0);

beforeAll(async () => {
  const [one, other, ungranted, closed] = (await freePorts(4)) as [number, number, number, number];
  ports = { one, other, ungranted, closed };
  mesh = await FunnelMesh.open({ policy: policy([one, other, closed]) });
  backend = await mesh.listen(
    net.createServer((socket) => {
      socket.on("error", () => undefined);
      socket.write(BANNER);
      socket.on("data", (chunk: Buffer) => {
        heard = Buffer.concat([heard, chunk]);
        socket.write(chunk);
      });
    }),
  );
  relay = await mesh.relay({
    leases: { ranges: [one, other, ungranted].map((port) => ({ first: port, last: port })), address: "127.0.0.1" },
  });
  for (const who of [first, second]) {
    await begin(who);
    mesh.defer(() => who.gateway.close());
  }
  await Promise.all([first.gateway.node.ready(), second.gateway.node.ready()]);
}, 60_000);

async function begin(who: Node): Promise<void> {
  who.gateway = await Gateway.open({
    ...(await mesh.joining("web", who.name.split(".")[0]!)),
    store: who.store,
    allowsLoopbackVisitors: true,
    ...(who.declared === undefined ? {} : { declared: who.declared }),
  });
}

afterAll(async () => {
  await mesh.close();
});

beforeEach(async () => {
  for (const { gateway } of [first, second]) await gateway.setServeConfig({});
  await expect.poll(() => relay.leasedPorts, WAIT).toEqual([]);
  heard = Buffer.alloc(0);
});

const typed = ({ gateway }: Node, words: readonly string[], how?: Typing): Promise<Typed> =>
  typedFunnel(gateway, words, how);

interface Call {
  readonly socket: net.Socket;
  readonly heard: () => string;
  readonly isOver: () => boolean;
}

function call(port: number): Call {
  const socket = net.connect(port, "127.0.0.1");
  onTestFinished(() => void socket.destroy());
  let text = "";
  let isOver = false;
  socket.on("error", () => undefined);
  socket.on("data", (chunk: Buffer) => {
    text += chunk.toString("latin1");
  });
  socket.once("close", () => {
    isOver = true;
  });
  return { socket, heard: () => text, isOver: () => isOver };
}

const lease = (port: number): readonly string[] => ["--lease", String(port), String(backend)];

const isOpen = (port: number) => expect.poll(() => relay.leasedPorts.includes(port), WAIT).toBe(true);

describe("a raw port", () => {
  test("ssh's way: the server speaks first, both speak, and `off` cuts and closes", async () => {
    const { code, stdout } = await typed(first, ["--bg", "--public", ...lease(ports.one)]);
    expect([code, stdout]).toEqual([0, expect.stringContaining(`tcp://${first.name}:${ports.one} (raw port)\n`)]);
    expect(stdout).toContain(`sallyport funnel --lease=${ports.one} off\n`);
    await isOpen(ports.one);
    const visitor = call(ports.one);
    await expect.poll(visitor.heard, WAIT).toBe(BANNER);
    visitor.socket.write("hello");
    await expect.poll(visitor.heard, WAIT).toBe(`${BANNER}hello`);

    const status = await typed(first, ["status"]);
    expect(status.stdout).toContain(`tcp://${first.name}:${ports.one} (raw port)\n`);
    expect(status.stdout).toContain("(Funnel on, raw port)");
    expect(JSON.parse((await typed(first, ["status", "--json"])).stdout)).toMatchObject({
      AllowFunnel: { [`*:${ports.one}`]: true },
      Claims: [{ Claim: String(ports.one), State: "held" }],
    });

    expect((await typed(first, ["--lease", String(ports.one), "off"])).code).toBe(0);
    await expect.poll(visitor.isOver, WAIT).toBe(true);
    await expect.poll(() => relay.leasedPorts, WAIT).toEqual([]);
    expect(first.gateway.storedServeConfig).toEqual({});
    const late = call(ports.one);
    await expect.poll(late.isOver, WAIT).toBe(true);
    expect(late.heard()).toBe("");
  });

  test.each([
    ["something else", 1],
    ["the same", 0],
  ])("a stock `serve --tcp` of %s over it makes it the tailnet's alone: who is here is cut", async (_what, more) => {
    expect((await typed(first, ["--bg", "--public", ...lease(ports.one)])).code).toBe(0);
    await isOpen(ports.one);
    const visitor = call(ports.one);
    await expect.poll(visitor.heard, WAIT).toBe(BANNER);
    const { gateway } = first;
    const admin = new GatewayAdmin(gateway);
    await using local = await openLocalSocket(admin);
    const client = new LocalClient(local.path, new AbortController().signal);
    // As upstream's serve_v2.go: another port changes nothing of it; on this one, `<own name>:port` is taken out.
    const { config, etag } = await client.serveConfig();
    await client.setServeConfig({ ...config, TCP: { ...config?.TCP, 9: { TCPForward: "127.0.0.1:9" } } }, etag);
    expect(gateway.storedServeConfig?.AllowFunnel).toEqual(config?.AllowFunnel);
    expect(relay.leasedPorts).toEqual([ports.one]);
    const open = Object.entries(config?.AllowFunnel ?? {}).filter(([key]) => key !== `${first.name}:${ports.one}`);
    const TCP = { [ports.one]: { TCPForward: `127.0.0.1:${backend + more}` } };
    expect(open).toEqual([[`*:${ports.one}`, true]]);
    const stock = { ...config, TCP, AllowFunnel: Object.fromEntries(open) };
    await client.setServeConfig(stock, (await client.serveConfig()).etag);
    expect(gateway.storedServeConfig).toEqual({ TCP });
    await expect.poll(visitor.isOver, WAIT).toBe(true);
    await expect.poll(() => relay.leasedPorts, WAIT).toEqual([]);
  });

  test("FN-14 visitors stayed on a port and a domain that the policy had taken back", async () => {
    const { one, other, closed } = ports;
    onTestFinished(() => mesh.server.setPolicy(policy([one, other, closed]), "test"));
    const { TCP = {} } = publicTcp("", 443, backend);
    await first.gateway.setServeConfig({
      TCP: { ...TCP, [one]: { TCPForward: `127.0.0.1:${backend}` }, [other]: { TCPForward: `127.0.0.1:${backend}` } },
      AllowFunnel: { [`*:${one}`]: true, [`*:${other}`]: true, "demo.example.org:443": true },
    });
    for (const port of [one, other]) await isOpen(port);
    await expect.poll(() => brings(relay, "demo.example.org"), WAIT).toBe(true);
    const [stays, goes, named] = [call(other), call(one), call(relay.ports[0]!)];
    named.socket.write(makeHello({ name: "demo.example.org" }));
    for (const { heard: text } of [stays, goes, named]) await expect.poll(text, WAIT).toContain(BANNER);
    await mesh.server.setPolicy(policy([other], []), "test");
    await expect.poll(() => [goes, named].map(({ isOver }) => isOver()), WAIT).toEqual([true, true]);
    stays.socket.write("still here");
    await expect.poll(stays.heard, WAIT).toBe(`${BANNER}still here`);
    await mesh.server.setPolicy(policy([one, other]), "test");
    await isOpen(one); // and it is as if nothing had been
    await expect.poll(() => brings(relay, "demo.example.org"), WAIT).toBe(true);
  });

  test("a port that is served in the foreground is not public by a lease of the background", async () => {
    expect((await typed(first, ["--bg", "--public", ...lease(ports.one)])).code).toBe(0);
    await isOpen(ports.one);
    const part: ServeConfig = { TCP: { [ports.one]: { TCPForward: "127.0.0.1:9" } } };
    const { gateway } = first;
    const before = gateway.storedServeConfig;
    await gateway.setServeConfig({ ...before, Foreground: { session: part } }, serveConfigEtag(before));
    await expect.poll(() => relay.leasedPorts, WAIT).toEqual([]);
    const now = gateway.storedServeConfig;
    const { Foreground: _, ...background } = now ?? {};
    await gateway.setServeConfig(background, serveConfigEtag(now));
    await isOpen(ports.one);
  });

  test("in the foreground, as long as the command runs", async () => {
    const ended = new AbortController();
    let told = "";
    const words = ["--public", "--lease", String(ports.one), String(backend)];
    const onText = ({ stdout }: Screen): void => {
      told = stdout;
    };
    const command = typed(first, words, { signal: ended.signal, onText });
    await expect.poll(() => told, WAIT).toContain("Press Ctrl+C to exit.\n");
    await isOpen(ports.one);
    const visitor = call(ports.one);
    await expect.poll(visitor.heard, WAIT).toBe(BANNER);
    ended.abort();
    await command;
    await expect.poll(visitor.isOver, WAIT).toBe(true);
    await expect.poll(() => relay.leasedPorts, WAIT).toEqual([]);
  });

  test("with TLS ended at the gateway, whatever port it is", async () => {
    const words = ["--lease", String(ports.one), "--tls-terminated-tcp", String(ports.one), String(backend)];
    expect((await typed(first, ["--bg", "--public", ...words])).code).toBe(0);
    await isOpen(ports.one);
    const ca = await first.gateway.certificates.authority();
    const socket = tls.connect({ host: "127.0.0.1", port: ports.one, servername: first.name, ca });
    onTestFinished(() => void socket.destroy());
    const [banner] = (await once(socket, "data")) as [Buffer];
    expect(banner.toString()).toBe(BANNER);
    const other = tls.connect({ host: "127.0.0.1", port: ports.one, servername: second.name, ca });
    const [refused] = (await once(other, "error")) as [NodeJS.ErrnoException];
    expect(refused.code).toBe("ERR_SSL_TLSV1_UNRECOGNIZED_NAME");
  });

  test("FN-7 the PROXY header has the visitor's address, and says that it is Funnel's", async () => {
    const words = ["--lease", String(ports.one), "--proxy-protocol", "2", String(backend)];
    expect((await typed(first, ["--bg", "--public", ...words])).code).toBe(0);
    await isOpen(ports.one);
    const visitor = call(ports.one);
    await expect.poll(visitor.heard, WAIT).toMatch(/^SSH-2\.0-test\r\n.+funnel$/s);
    expect(heard.subarray(0, 16).toString("hex")).toBe(`0d0a0d0a000d0a515549540a2111${"0015"}`);
    expect([...heard.subarray(16, 20)]).toEqual([127, 0, 0, 1]); // where visitors of this test are
    expect(heard.readUInt16BE(24)).toBe(visitor.socket.localPort);
    expect(heard.subarray(28).toString("latin1")).toBe("\xe0\x00\x06funnel");
  });

  test("a port that is public by name takes no raw bytes, and the leased one no other name", async () => {
    await first.gateway.setServeConfig(publicTcp(first.name, 443, backend));
    await expect.poll(() => brings(relay, first.name), WAIT).toBe(true);
    const raw = call(relay.ports[0]!);
    raw.socket.write("SSH-2.0-visitor\r\n");
    await expect.poll(raw.isOver, WAIT).toBe(true);
    const named = call(relay.ports[0]!);
    const hello = makeHello({ name: first.name });
    named.socket.write(hello);
    await expect.poll(named.heard, WAIT).toBe(BANNER + hello.toString("latin1"));
    expect(heard.equals(hello)).toBe(true);
  });

  test("FN-9 it is seen from outside, and a dead backend too", async () => {
    const look = async () => {
      const findings = [];
      const way = { name: first.name, port: ports.one, isHttp: false, isRaw: true };
      const signal = AbortSignal.timeout(30_000);
      for await (const one of probe({ ...way, resolve: async () => ["127.0.0.1"], signal })) findings.push(one);
      return findings.map(({ hop, isGood }) => `${hop} ${isGood}`);
    };
    expect((await typed(first, ["--bg", "--public", ...lease(ports.one)])).code).toBe(0);
    await isOpen(ports.one);
    expect(await look()).toEqual(["dns true", "ingress true", "backend true"]);
    const dead = String((await freePorts(1))[0]);
    expect((await typed(first, ["--bg", "--public", "--lease", String(ports.one), dead])).code).toBe(0);
    expect(await look()).toEqual(["dns true", "ingress true", "backend false"]);
    expect((await typed(first, ["--lease", String(ports.one), "off"])).code).toBe(0);
    await expect.poll(() => relay.leasedPorts, WAIT).toEqual([]);
    expect(await look()).toEqual(["dns true", "ingress false"]);
  });
});

describe("FN-14 who may claim what", () => {
  test.each(["port", "domain"] as const)(
    "a %s that another node holds: the command fails, nothing moves",
    async (kind) => {
      const domain = "demo.example.org";
      const words = kind === "port" ? lease(ports.one) : ["--domain", domain, String(backend)];
      const what = kind === "port" ? `port ${ports.one}` : domain;
      expect((await typed(first, ["--bg", "--public", ...words])).code).toBe(0);
      const holder = () =>
        kind === "port" ? relay.leasedPorts.includes(ports.one) : relay.names.find(domain, 443)?.owner;
      await expect.poll(holder, WAIT).toBeTruthy();
      const before = holder();
      for (const way of [["--bg"], []]) {
        const { code, stdout, stderr } = await typed(second, [...way, "--public", ...words]);
        expect([code, stdout]).toEqual([1, ""]);
        expect(stderr).toContain(`error: ${what} is not this node's: another node of this network holds it`);
        await expect.poll(() => second.gateway.storedServeConfig, WAIT).toEqual({});
      }
      expect(holder()).toBe(before);
      expect((await typed(first, [...words.slice(0, 2), "off"])).code).toBe(0);
      await expect.poll(holder, WAIT).toBeFalsy();
      expect((await typed(second, ["--bg", "--public", ...words])).code).toBe(0); // given up, it is free
      expect((await typed(second, ["status"])).stderr).not.toContain("is not this node's");
    },
  );

  test.each(["ungranted", "closed"] as const)("a port that is %s: the command says so", async (kind) => {
    const why = { ungranted: "the network's policy does not give it to this node", closed: "no ingress has it to let" };
    for (const way of [["--bg"], []]) {
      const { code, stdout, stderr } = await typed(first, [...way, "--public", ...lease(ports[kind])]);
      expect([code, stdout]).toEqual([1, ""]);
      expect(stderr).toContain(`error: port ${ports[kind]} is not this node's: ${why[kind]}`);
      await expect.poll(() => first.gateway.storedServeConfig, WAIT).toEqual({});
    }
    expect(relay.leasedPorts).toEqual([]);
  });

  test("a domain that the policy does not give", async () => {
    const { code, stderr } = await typed(first, ["--bg", "--public", "--domain", "other.example.org", String(backend)]);
    expect([code, stderr]).toEqual([1, expect.stringContaining("policy does not give it to this node")]);
    expect(first.gateway.storedServeConfig).toEqual({});
  });

  test("`funnel --domain NAME-OF-ANOTHER-NODE` told to change the policy, which cannot give it", async () => {
    const words = ["--bg", "--public", "--domain", second.name, String(backend)];
    const { code, stderr } = await typed(first, words);
    expect([code, stderr]).toEqual([1, expect.stringContaining(`error: ${second.name} is not this node's: `)]);
    expect(stderr).toContain("it is a name of the mesh, and public only on the node of that name: run `funnel` there");
    expect(stderr).not.toContain("nodeAttrs");
    expect(first.gateway.storedServeConfig).toEqual({});
  });

  test("what a file declares and another node holds is a warning that stays", async () => {
    expect((await typed(first, ["--bg", "--public", ...lease(ports.one)])).code).toBe(0);
    second.gateway.declare({
      TCP: { [ports.one]: { TCPForward: `127.0.0.1:${backend}` } },
      AllowFunnel: { [`*:${ports.one}`]: true },
    });
    const refused = expect.stringContaining(`port ${ports.one} is not this node's: another node`);
    await expect.poll(() => second.gateway.warnings, WAIT).toContainEqual(refused);
    expect((await typed(second, ["status"])).stderr).toContain(`Warning: port ${ports.one} is not this node's: `);
  });
});

test.each(["commands", "a services file"])(
  "FN-14 by %s: who holds keeps it while his node begins anew, whoever waits for it",
  async (how) => {
    const config: ServeConfig = {
      TCP: { [ports.one]: { TCPForward: `127.0.0.1:${backend}` } },
      AllowFunnel: { [`*:${ports.one}`]: true },
    };
    const isFile = how === "a services file";
    if (isFile) first.gateway.declare(config);
    else await first.gateway.setServeConfig(config);
    await isOpen(ports.one);
    await second.gateway.setServeConfig(config);
    await expect.poll(() => second.gateway.warnings, WAIT).toContainEqual(expect.stringContaining("another node"));
    const holders = new Set<string>();
    const stop = relay.node.onMap((map) => {
      for (const { name } of leasesOf(map, false)) holders.add(name);
    });
    await first.gateway.close();
    if (isFile) {
      await first.store.delete("serve.json");
      first.declared = config;
    }
    await begin(first);
    onTestFinished(() => {
      delete first.declared;
    });
    await first.gateway.node.ready();
    if (isFile) first.gateway.declare(config);
    await expect.poll(() => first.gateway.claims.answers, WAIT).toEqual([{ claim: String(ports.one), state: "held" }]);
    const visitor = async (): Promise<string> => {
      const { socket, heard } = call(ports.one);
      await Promise.race([once(socket, "data"), once(socket, "close")]).catch(() => undefined);
      return heard();
    };
    await expect.poll(visitor, WAIT).toBe(BANNER);
    stop();
    expect([...holders]).toEqual([first.name]);
    expect(second.gateway.claims.answers).toEqual([{ claim: String(ports.one), state: "taken" }]);
  },
  60_000,
);

test.each([
  [["--lease", "2222", "--domain", "a.example.org", "22"], "a raw port has no name"],
  [["--lease", "0", "22"], "port 0 cannot be leased"],
  [["--lease", "2222", "--https", "443", "22"], "--lease is for TCP"],
  [["--lease", "2222", "--tcp", "2223", "22"], "name different ports"],
  [["--lease", "2222", "--door", "friends", "22"], "--door needs HTTPS"],
  [["--lease", "70000", "22"], "too high for lease flag"],
])("%j is refused", async (words, why) => {
  const { code, stderr } = await typed(first, ["--bg", ...words]);
  expect([code > 0, stderr]).toEqual([true, expect.stringContaining(why)]);
  expect(first.gateway.storedServeConfig).toEqual({});
});
