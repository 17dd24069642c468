import net from "node:net";
import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test, vi } from "vitest";
import { parsePrefix } from "../src/base/address.ts";
import { systemClock } from "../src/base/clock.ts";
import { silentLog } from "../src/base/log.ts";
import { visitorRules } from "../src/config/node-serve-config.ts";
import { parseServices } from "../src/config/services.ts";
import { Ingress } from "../src/funnel/ingress.ts";
import type { Gateway } from "../src/gateway/gateway.ts";
import type { Relay } from "../src/server/relay.ts";
import { rulesAt } from "../src/wire/visitor-rules.ts";
import { makeHello } from "./suites/client-hellos.ts";
import { FunnelMesh, publicTcp } from "./suites/funnel-mesh.ts";
import { type Typed, typedFunnel } from "./suites/typed-command.ts";

const WAIT = { timeout: 30_000, interval: 10 };
const NAME = "web.tail.test";
const UNRECOGNIZED = "15030300020270";
const INTERNAL = "15030300020250";
let mesh: FunnelMesh;
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
  mesh = await FunnelMesh.open();
  echoPort = await mesh.listen(echo);
  relay = await mesh.relay();
  gateway = await mesh.gateway();
}, 60_000);

afterAll(async () => {
  await mesh.close();
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
  gateway.declare(publicTcp(NAME, 443, echoPort), { visitorRulesOf: ({ port }) => visitorRules(services, port) });
  await expect
    .poll(() => {
      const known = relay.names.find(NAME, 443);
      return known?.peerApi === undefined ? "unknown" : known.rules && rulesAt(known.rules, NAME, 443);
    }, WAIT)
    .toEqual(rules);
}

const typed = (...words: readonly string[]): Promise<Typed> => typedFunnel(gateway, words);

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
    stderr: "",
  });
  await expect.poll(() => visit("127.0.0.1").heard, WAIT).toBe("served");
  expect(await visit("127.0.0.2").heard).toBe(UNRECOGNIZED);
  expect(await visit("127.0.0.5").heard).toBe(UNRECOGNIZED);
  const shown = "# Visitors:\n#     - web.tail.test:443: only from 127.0.0.0/30; not from 127.0.0.2/32\n";
  expect((await typed("status")).stdout).toContain(shown);
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
  [["--allow-ip", ""], "wanted addresses, or all"],
  [["--deny-ip", "203.0.113.7/8"], "without host bits"],
  [["--deny-ip", "all"], "`off` closes it to everybody"],
])("%j is refused, and nothing is public", async (words, why) => {
  gateway.declare({});
  const { code, stderr } = await typed("--bg", ...words, "--tcp=443", String(echoPort));
  expect([code > 0, stderr]).toEqual([true, expect.stringContaining(why)]);
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
