import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { asDuplex } from "../src/base/duplex.ts";
import { makeHello } from "./suites/client-hellos.ts";
import { FunnelMesh, publicTcp } from "./suites/funnel-mesh.ts";

const WAIT = { timeout: 60_000, interval: 20 };
const NAME = "web.tail.test";
const HELLO = makeHello({ name: NAME });
const bin = path.resolve(import.meta.dirname, "../src/bin.ts");
const scratch = mkdtempSync(path.join(tmpdir(), "sp-"));
const DESCRIPTORS = 256;
const CLIENTS = 400;
/** Others of them are the process's own. */
const LEAST_SERVED = 150;
const CPU_SHARE = 0.2;
const MOST_LINES = 20;
const address = "127.0.4.9";
const port = 20_000 + ((process.pid + 5000) % 10_000);
let mesh: FunnelMesh;

beforeAll(async () => {
  mesh = await FunnelMesh.open({ funnelPorts: [port] });
  mesh.defer(() => rmSync(scratch, { recursive: true, force: true }));
}, 60_000);

afterAll(() => mesh.close());

interface Poor {
  readonly child: ChildProcess;
  readonly lines: () => readonly string[];
  readonly descriptors: () => number;
  /** Of one core, until `ms` are over. */
  readonly cpuShare: (ms: number) => Promise<number>;
}

/** `sallyport`, with so few descriptors. */
async function startPoor(tag: string, ...args: readonly string[]): Promise<Poor> {
  const { key } = await mesh.server.coordinator.createAuthKey({ tags: [`tag:${tag}`] }, "test");
  writeFileSync(`${scratch}/${tag}.key`, key, { mode: 0o600 });
  const joins = [
    "--login-server",
    mesh.server.url,
    "--auth-key",
    `file:${scratch}/${tag}.key`,
    "--hostname",
    `poor-${tag}`,
  ];
  const [command, ...more] = [...args, ...joins, "--state", `${scratch}/${tag}`];
  const limited = ["-c", `ulimit -n ${DESCRIPTORS}; exec "$0" "$@"`, process.execPath];
  const child = spawn("sh", [...limited, "--disable-warning=ExperimentalWarning", bin, command!, ...more], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  mesh.defer(() => void child.kill("SIGKILL"));
  let log = "";
  child.stderr!.on("data", (chunk) => {
    log += String(chunk);
  });
  const ticks = (): number => {
    const [, rest = ""] = readFileSync(`/proc/${child.pid}/stat`, "utf8").split(") ");
    const [user, system] = rest.split(" ").slice(11, 13).map(Number);
    return user! + system!;
  };
  return {
    child,
    lines: () => log.trim().split("\n"),
    descriptors: () => readdirSync(`/proc/${child.pid}/fd`).length,
    cpuShare: async (ms) => {
      const [before, began] = [ticks(), performance.now()];
      await expect.poll(() => performance.now() - began, WAIT).toBeGreaterThan(ms);
      return ((ticks() - before) * 10) / (performance.now() - began); // a tick is 10 ms
    },
  };
}

type State = "waiting" | "served" | "refused";

interface Client {
  readonly state: () => State;
  readonly leave: () => void;
}

const count = (clients: readonly Client[], wanted: State): number =>
  clients.filter(({ state }) => state() === wanted).length;

async function outlast(poor: Poor, come: () => Client): Promise<void> {
  await expect
    .poll(async () => {
      const one = come();
      await expect.poll(one.state, WAIT).not.toBe("waiting");
      one.leave();
      return one.state();
    }, WAIT)
    .toBe("served");
  const [own, said] = [poor.descriptors(), poor.lines().length];
  const clients = Array.from({ length: CLIENTS }, come);
  await expect.poll(() => count(clients, "waiting"), WAIT).toBe(0);
  expect(poor.descriptors()).toBeGreaterThan(DESCRIPTORS - 10);
  const served = count(clients, "served");
  expect(served).toBeGreaterThan(LEAST_SERVED);
  expect(await poor.cpuShare(2000)).toBeLessThan(CPU_SHARE);
  expect(count(clients, "served")).toBe(served); // who is here stays
  expect(poor.lines().length - said).toBeLessThan(MOST_LINES);
  for (const { leave } of clients) leave();
  await expect.poll(poor.descriptors, WAIT).toBeLessThan(own + 5);
  const [one, other] = [come(), come()];
  await expect.poll(() => [one.state(), other.state()], WAIT).toEqual(["served", "served"]);
  expect(poor.child.exitCode).toBe(null);
}

test(`PR-4 an ingress with ${DESCRIPTORS} descriptors and ${CLIENTS} visitors serves whom it can, and others when they are gone`, {
  timeout: 120_000,
}, async () => {
  const gateway = await mesh.gateway();
  await gateway.setServeConfig(publicTcp(NAME, port, await mesh.echo()));
  const where = ["--address", address, "--ports", String(port), "--http-port", "0"];
  let number = 0;
  const come = (): Client => {
    // Many visitors, none of whom has more connections than he may.
    const socket = net.connect({ port, host: address, localAddress: `127.7.0.${1 + (number++ % 40)}` });
    let state: State = "waiting";
    socket.on("error", () => void socket.destroy()).on("close", () => (state = "refused"));
    socket.on("data", () => (state = "served"));
    socket.write(HELLO);
    return { state: () => state, leave: () => void socket.removeAllListeners("close").destroy() };
  };
  await outlast(await startPoor("relay", "ingress", ...where), come);
});

test(`PR-4 a gateway with ${DESCRIPTORS} descriptors and ${CLIENTS} callers`, { timeout: 120_000 }, async () => {
  const backend = await mesh.echo();
  const file = `${scratch}/services.hujson`;
  const endpoint = { listen: "tcp", target: `tcp://127.0.0.1:${backend}` };
  writeFileSync(file, JSON.stringify({ version: "0.0.1", node: { endpoints: { "tcp:8000": endpoint } } }));
  const caller = await mesh.gateway(await mesh.joining("db"));
  const poor = await startPoor("web", "run", "--config", file, "--socket", `${scratch}/web.sock`);
  const find = () => [...caller.node.map!.peers.values()].find(({ Name }) => Name.startsWith("poor-web."));
  await expect.poll(find, WAIT).toBeDefined();
  const [there = ""] = find()!.Addresses;
  const come = (): Client => {
    let state: State = "waiting";
    let leave = (): void => undefined;
    caller.node.dial({ address: there.replace(/\/.*/, ""), port: 8000 }).then(
      (conn) => {
        const stream = asDuplex(conn);
        stream.on("error", () => void stream.destroy()).on("close", () => (state = "refused"));
        stream.on("data", () => (state = "served"));
        stream.write("hello");
        leave = () => void stream.removeAllListeners("close").destroy();
      },
      () => (state = "refused"),
    );
    return { state: () => state, leave: () => leave() };
  };
  await outlast(poor, come);
});
