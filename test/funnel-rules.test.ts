import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import net, { type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { Readable } from "node:stream";
import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test, vi } from "vitest";
import { parsePrefix } from "../src/base/address.ts";
import { systemClock } from "../src/base/clock.ts";
import { silentLog } from "../src/base/log.ts";
import { memoryStore } from "../src/base/store.ts";
import { main } from "../src/cli/main.ts";
import { visitorRules } from "../src/config/node-serve-config.ts";
import { parseServices } from "../src/config/services.ts";
import { MemoryCoordinationStore } from "../src/coordination/store/memory-store.ts";
import { Ingress } from "../src/funnel/ingress.ts";
import { GatewayAdmin } from "../src/gateway/admin.ts";
import { Gateway } from "../src/gateway/gateway.ts";
import { openLocalApi } from "../src/gateway/localapi/index.ts";
import { Relay } from "../src/server/relay.ts";
import { Server } from "../src/server/server.ts";
import { rulesAt } from "../src/wire/visitor-rules.ts";
import { makeHello } from "./suites/client-hellos.ts";

const WAIT = { timeout: 30_000, interval: 10 };
const NAME = "web.tail.test";
const UNRECOGNIZED = "15030300020270";
const INTERNAL = "15030300020250";
const POLICY = `{
  "tagOwners": { "tag:relay": [], "tag:web": [] },
  "acls": [{ "action": "accept", "src": ["*"], "dst": ["*:*"] }],
  "nodeAttrs": [
    { "target": ["tag:relay"], "attr": ["sallyport.dev/ingress"] },
    { "target": ["tag:web"], "attr": ["funnel"] },
  ],
}`;

const closers: (() => unknown)[] = [];
let gateway: Gateway;
let relay: Relay;
let echoPort: number;
/** Visitors as the backend sees them. */
const served = new Set<net.Socket>();

beforeAll(async () => {
  const echo = net.createServer((socket) => {
    served.add(socket);
    socket.on("error", () => undefined).once("close", () => served.delete(socket));
    socket.pipe(socket);
  });
  echo.listen(0, "127.0.0.1");
  await once(echo, "listening");
  closers.push(() => echo.close());
  echoPort = (echo.address() as AddressInfo).port;
  const server = await Server.open({
    store: new MemoryCoordinationStore(),
    state: memoryStore(),
    baseDomain: "tail.test",
    policy: POLICY,
  });
  closers.push(() => server.close());
  const join = async (hostname: string) => ({
    ...{ controlUrl: server.url, localAddresses: () => ["127.0.0.1"], log: silentLog, store: memoryStore(), hostname },
    authKey: (await server.coordinator.createAuthKey({ tags: [`tag:${hostname}`] }, "test")).key,
  });
  const listeners = [{ address: "127.0.0.1", port: 0, publicPort: 443 }];
  relay = await Relay.open({ ...(await join("relay")), listeners });
  closers.push(() => relay.close());
  gateway = await Gateway.open({ ...(await join("web")), allowsLoopbackVisitors: true });
  closers.push(() => gateway.close());
  await Promise.all([relay.node.ready(), gateway.node.ready()]);
}, 60_000);

afterAll(async () => {
  for (const close of closers.reverse()) await close();
});

/** Those of the test before are counted until they are gone everywhere. */
beforeEach(async () => {
  await expect.poll(() => served.size + relay.ingress.open, WAIT).toBe(0);
});

/** As `sallyport run` does when the services file was read again; done when the relay knows it. */
async function declare(funnel: object | true): Promise<void> {
  const file = {
    version: "0.0.1",
    node: { endpoints: { "tcp:443": { target: `tcp://127.0.0.1:${echoPort}`, funnel } } },
  };
  const services = parseServices(JSON.stringify(file), "services.hujson");
  const rules = visitorRules(services, 443);
  const target = { TCPForward: `127.0.0.1:${echoPort}` };
  gateway.declare(
    { TCP: { 443: target }, AllowFunnel: { [`${NAME}:443`]: true } },
    { visitorRulesOf: ({ port }) => visitorRules(services, port) },
  );
  await expect
    .poll(() => {
      const known = relay.names.find(NAME, 443);
      return known?.peerApi === undefined ? "unknown" : known.rules && rulesAt(known.rules, NAME, 443);
    }, WAIT)
    .toEqual(rules);
}

/** Our own command, at the gateway's own socket. */
async function typed(...words: readonly string[]): Promise<{ code: number; said: string; told: string }> {
  const folder = mkdtempSync(path.join(tmpdir(), "sallyport-rules-"));
  const socketPath = path.join(folder, "gate.sock");
  const api = await openLocalApi({ socketPath, backend: new GatewayAdmin(gateway), log: silentLog });
  let said = "";
  let told = "";
  const code = await main(["--socket", socketPath, "funnel", ...words], {
    stdout: (text) => {
      told += text;
    },
    stderr: (text) => {
      said += text;
    },
    stdin: Readable.from([]),
    isTerminal: false,
    env: {},
    signal: new AbortController().signal,
  });
  await api.close();
  rmSync(folder, { recursive: true });
  return { code, said, told };
}

interface Visit {
  readonly socket: net.Socket;
  /** What he hears: his own hello where he is let in. */
  readonly heard: Promise<"served" | "reset" | string>;
}

function visit(address: string, port: number = relay.ports[0]!): Visit {
  const socket = net.connect({ port, host: "127.0.0.1", localAddress: address });
  onTestFinished(() => void socket.destroy());
  socket.on("error", () => undefined);
  const hello = makeHello({ name: NAME });
  socket.write(hello);
  let text = "";
  const heard = new Promise<string>((resolve) => {
    socket.on("data", (chunk: Buffer) => {
      text += chunk.toString("hex");
      if (text === hello.toString("hex")) resolve("served");
    });
    socket.on("close", () => resolve(text === "" ? "reset" : text));
  });
  return { socket, heard };
}

const isCut = (socket: net.Socket) => expect.poll(() => socket.destroyed, WAIT).toBe(true);

test("FN-10 whom the owner does not want is refused at the relay, and cut where he is already in", async () => {
  await declare(true);
  const [wanted, unwanted] = [visit("127.0.0.1"), visit("127.0.0.2")];
  expect(await Promise.all([wanted.heard, unwanted.heard])).toEqual(["served", "served"]);
  await declare({ deny: ["127.0.0.2", "2001:db8::/32"] });
  await isCut(unwanted.socket);
  expect(wanted.socket.destroyed).toBe(false);
  const dial = vi.spyOn(relay.node, "dial");
  onTestFinished(() => dial.mockRestore());
  expect(await visit("127.0.0.2").heard).toBe(UNRECOGNIZED);
  expect(dial).not.toHaveBeenCalled();
  expect(await visit("127.0.0.3").heard).toBe("served");
  await declare({ allow: ["127.0.0.2/31"] });
  await isCut(wanted.socket);
  expect(await visit("127.0.0.1").heard).toBe(UNRECOGNIZED);
  expect(await visit("127.0.0.2").heard).toBe("served");
  await declare(true);
  expect(await visit("127.0.0.1").heard).toBe("served");
});

test("FN-10 how many at once, of all and of one visitor, is bounded at the relay", async () => {
  await declare({ limits: { connections: 3, visitorConnections: 2 } });
  const first = visit("127.0.0.2");
  expect(await first.heard).toBe("served");
  expect(await visit("127.0.0.2").heard).toBe("served");
  const dial = vi.spyOn(relay.node, "dial");
  onTestFinished(() => dial.mockRestore());
  expect(await visit("127.0.0.2").heard).toBe(INTERNAL);
  expect(dial).not.toHaveBeenCalled();
  expect(await visit("127.0.0.3").heard).toBe("served");
  expect(await visit("127.0.0.4").heard).toBe(INTERNAL);
  first.socket.destroy();
  await expect.poll(() => visit("127.0.0.4").heard, WAIT).toBe("served");
});

test("FN-10 a command says who may come, keeps to what the file says, and is forgotten with `off`", async () => {
  const target = ["--bg", "--tcp=443", String(echoPort)];
  gateway.declare({});
  expect(await typed("--allow-ip", "127.0.0.0/30", "--deny-ip=127.0.0.2", ...target)).toMatchObject({
    code: 0,
    said: "",
  });
  await expect.poll(() => visit("127.0.0.1").heard, WAIT).toBe("served");
  expect(await visit("127.0.0.2").heard).toBe(UNRECOGNIZED);
  expect(await visit("127.0.0.5").heard).toBe(UNRECOGNIZED);
  const shown = "# Visitors:\n#     - web.tail.test:443: only from 127.0.0.0/30; not from 127.0.0.2/32\n";
  expect((await typed("status")).told).toContain(shown);
  const again = await typed(...target); // nothing said: it stays
  expect(again.code).toBe(0);
  expect(await visit("127.0.0.2").heard).toBe(UNRECOGNIZED);
  gateway.declare(gateway.storedServeConfig ?? {}, { visitorRulesOf: () => ({ deny: ONE }) });
  await expect.poll(() => visit("127.0.0.1").heard, WAIT).toBe(UNRECOGNIZED);
  expect(await visit("127.0.0.3").heard).toBe("served");
  expect((await typed("--allow-ip=all", ...target)).code).toBe(0);
  await expect.poll(() => visit("127.0.0.2").heard, WAIT).toBe("served");
  expect(await visit("127.0.0.1").heard).toBe(UNRECOGNIZED); // the file's
  expect((await typed("--deny-ip=127.0.0.2", ...target)).code).toBe(0);
  expect((await typed("--tcp=443", "off")).code).toBe(0);
  expect(gateway.visitorRules.at({ name: NAME, port: 443 })).toEqual({ deny: ONE });
});

const ONE = [parsePrefix("127.0.0.1")!];

test.each([
  [["--allow-ip", "everybody"], '"everybody" is no IP address'],
  [["--deny-ip", "203.0.113.7/8"], "without host bits"],
])("%j is refused, and nothing is public", async (words, why) => {
  gateway.declare({});
  const { code, said } = await typed("--bg", ...words, "--tcp=443", String(echoPort));
  expect([code > 0, said]).toEqual([true, expect.stringContaining(why)]);
  expect(gateway.storedServeConfig).toEqual({});
});

test("a relay that was told nothing, or does not keep to it: the gateway refuses by itself", async () => {
  await declare(true);
  const known = relay.names;
  const careless = new Ingress({
    names: () => known,
    dial: (target, signal) => relay.node.dial(target, { signal }),
    clock: systemClock,
    log: silentLog,
  });
  onTestFinished(() => careless.close());
  const port = await careless.listen(0, "127.0.0.1", { publicPort: 443 });
  await declare({ deny: ["127.0.0.2"], limits: { visitorConnections: 1 } });
  expect(await visit("127.0.0.2", port).heard).toBe(UNRECOGNIZED);
  expect(await visit("127.0.0.3", port).heard).toBe("served");
  expect(await visit("127.0.0.3", port).heard).toBe(INTERNAL);
  expect(careless.counts).toMatchObject({ delivered: 1, unknown_name: 1, over_limit: 1 });
});
