import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Gateway } from "../src/gateway/gateway.ts";
import { makeHello } from "./suites/client-hellos.ts";
import { freePorts } from "./suites/free-ports.ts";
import { FunnelMesh, funnelPolicy, publicTcp } from "./suites/funnel-mesh.ts";

const WAIT = { timeout: 60_000, interval: 20 };
const NAME = "web.tail.test";
const HELLO = makeHello({ name: NAME });
/** `SALLYPORT_LOST=200`: all of the row, which takes half a minute more. */
const LOST = Number(process.env["SALLYPORT_LOST"] ?? 40);
const HALF_OPEN_MS = 60_000;
const bin = path.resolve(import.meta.dirname, "../src/bin.ts");
const scratch = mkdtempSync(path.join(tmpdir(), "sp-"));
let mesh: FunnelMesh;
let gateway: Gateway;
/** The public port of every ingress: none that the system gives out by itself. */
const port = 20_000 + (process.pid % 10_000);

/** A server and a gateway that echoes here; the ingresses are processes. */
beforeAll(async () => {
  mesh = await FunnelMesh.open({ funnelPorts: [port] });
  mesh.defer(() => rmSync(scratch, { recursive: true, force: true }));
  const { key } = await mesh.server.coordinator.createAuthKey({ tags: ["tag:relay"], reusable: true }, "test");
  writeFileSync(`${scratch}/key`, key, { mode: 0o600 });
  gateway = await mesh.gateway();
  await gateway.setServeConfig(publicTcp(NAME, port, await mesh.echo()));
}, 60_000);

afterAll(async () => {
  await mesh.close();
});

/** Those that the gateway has for ingresses. */
const connections = (): number => {
  const { connections: all = 0, timeWait = 0 } = gateway.node.counters["netstack"]!;
  return all - timeWait;
};

interface IngressProcess {
  readonly address: string;
  readonly child: ChildProcess;
  readonly ended: Promise<number | null>;
  /** What `sallyport` says of it: `health`, `metrics`. */
  readonly ask: (word: string) => Promise<{ readonly status: number; readonly said: string }>;
}

/** `sallyport ingress`, once it brings visitors to the gateway. */
async function startIngress(number: number, ...more: readonly string[]): Promise<IngressProcess> {
  const address = `127.0.4.${number}`;
  const state = `${scratch}/ingress${number}`;
  const flags = [
    "--login-server",
    mesh.server.url,
    "--auth-key",
    `file:${scratch}/key`,
    "--hostname",
    `ingress${number}`,
  ];
  const where = ["--state", state, "--address", address, "--ports", String(port), "--http-port", "0"];
  const child = spawnSallyport("ingress", ...flags, ...where, ...more);
  const ended = new Promise<number | null>((resolve) => child.once("exit", resolve));
  mesh.defer(() => void child.kill("SIGKILL"));
  let isOver = false;
  void ended.then(() => {
    isOver = true;
  });
  const ask: IngressProcess["ask"] = (word) => run("--socket", `${state}/ingress.sock`, word);
  await expect.poll(async () => isOver || (await answerAt(address)) === "served", WAIT).toBe(true);
  expect(isOver).toBe(false);
  return { address, child, ended, ask };
}

function spawnSallyport(...args: readonly string[]): ChildProcess {
  return spawn(process.execPath, ["--disable-warning=ExperimentalWarning", bin, ...args], {
    stdio: ["ignore", "pipe", "ignore"],
  });
}

/** A command that ends by itself. */
async function run(...args: readonly string[]): Promise<{ readonly status: number; readonly said: string }> {
  const child = spawnSallyport(...args);
  let said = "";
  child.stdout!.on("data", (chunk) => {
    said += String(chunk);
  });
  const [status] = (await once(child, "close")) as [number];
  return { status, said };
}

interface Visit {
  readonly socket: net.Socket;
  readonly answer: Promise<"served" | "refused" | "ended">;
  readonly heard: () => number;
}

function visit(address: string): Visit {
  const socket = net.connect(port, address);
  mesh.defer(() => socket.destroy());
  let length = 0;
  const answer = new Promise<"served" | "refused" | "ended">((resolve) => {
    socket.on("error", (error) => resolve("code" in error && error.code === "ECONNREFUSED" ? "refused" : "ended"));
    socket.on("close", () => resolve("ended"));
    socket.on("data", (chunk: Buffer) => {
      length += chunk.length;
      if (length >= HELLO.length) resolve("served");
    });
  });
  socket.write(HELLO);
  return { socket, answer, heard: () => length - HELLO.length };
}

/** What a visitor hears who leaves again. */
async function answerAt(address: string): Promise<string> {
  const { socket, answer } = visit(address);
  const heard = await answer;
  socket.destroy();
  return heard;
}

test(`FN-13 of two ingresses one is killed during ${LOST} transfers: its visitors end at once, the other's go on`, {
  timeout: 240_000,
}, async () => {
  const [dying, staying] = await Promise.all([startIngress(1), startIngress(2)]);
  const block = Buffer.alloc(64 * 1024);
  const visits = (address: string, count: number) => Array.from({ length: count }, () => visit(address));
  const [lost, kept] = [visits(dying.address, LOST), visits(staying.address, 10)];
  for (const { socket, answer } of [...lost, ...kept]) {
    expect(await answer).toBe("served");
    // A write that fails is told at once, for ever, to who asks again.
    const more = (error?: Error | null): void => void (error != null || !socket.writable || socket.write(block, more));
    more();
  }
  for (const one of [...lost, ...kept]) await expect.poll(one.heard, WAIT).toBeGreaterThan(0);
  dying.child.kill("SIGKILL");
  const killed = performance.now();
  await expect.poll(() => lost.filter(({ socket }) => !socket.destroyed).length, WAIT).toBe(0);
  expect(await answerAt(dying.address)).toBe("refused");
  expect(await answerAt(staying.address)).toBe("served");
  for (const one of kept) {
    const before = one.heard();
    await expect.poll(one.heard, WAIT).toBeGreaterThan(before);
  }
  if (process.env["SALLYPORT_LOST"] !== undefined) {
    const timeout = HALF_OPEN_MS - (performance.now() - killed);
    await expect.poll(connections, { timeout, interval: 100 }).toBe(kept.length);
  }
  for (const { socket } of kept) socket.destroy();
  staying.child.kill("SIGTERM");
  expect(await staying.ended).toBe(0); // nobody is left
});

test("who drains takes nobody new, says so, and keeps whom it has until they go", { timeout: 120_000 }, async () => {
  const { address, child, ended, ask } = await startIngress(3, "--drain", "600");
  const here = visit(address);
  expect(await here.answer).toBe("served");
  expect(await ask("health")).toEqual({ status: 0, said: "ok\n" });
  expect((await ask("metrics")).said).toMatch(/^sallyport_ingress_events_total\{event="delivered"\} 2$/m);
  child.kill("SIGTERM");
  await expect.poll(() => answerAt(address), WAIT).toBe("refused");
  expect(await ask("health")).toEqual({
    status: 1,
    said: "failing\n- The ingress is draining: it takes no new visitors, 1 are left.\n",
  });
  here.socket.write("still here");
  await expect.poll(here.heard, WAIT).toBe("still here".length);
  here.socket.end();
  expect(await ended).toBe(0);
});

test("the ingress inside the server drains like one alone: whom it has stays, with the server that he needs", {
  timeout: 120_000,
}, async () => {
  const address = "127.0.4.6";
  const state = ["--state", `${scratch}/server`];
  const [control] = await freePorts(1);
  const where = ["--port", `${control}`, "--derp-port", "0", "--stun-port", "0", "--domain", "tail.test"];
  const visitors = ["--ingress-address", address, "--ingress-ports", String(port), "--ingress-http-port", "0"];
  writeFileSync(`${scratch}/policy`, funnelPolicy());
  const flags = [...state, ...where, ...visitors, "--policy", `${scratch}/policy`, "--drain", "600"];
  const child = spawnSallyport("server", ...flags);
  mesh.defer(() => void child.kill("SIGKILL"));
  const ended = once(child, "exit");
  const key = async () => (await run("server", ...state, "keys", "create", "--tags", "tag:web")).said.trim();
  await expect.poll(key, WAIT).toMatch(/^\S+$/);
  const gateway = await mesh.gateway({ controlUrl: `http://127.0.0.1:${control}`, authKey: await key() });
  await gateway.setServeConfig(publicTcp(NAME, port, await mesh.echo()));
  await expect.poll(() => answerAt(address), WAIT).toBe("served");

  const here = visit(address);
  expect(await here.answer).toBe("served");
  child.kill("SIGTERM");
  await expect.poll(() => answerAt(address), WAIT).toBe("refused");
  expect(await run("--socket", `${scratch}/server/server.sock`, "health")).toEqual({
    status: 1,
    said: "failing\n- The ingress is draining: it takes no new visitors, 1 are left.\n",
  });
  here.socket.write("still here");
  await expect.poll(here.heard, WAIT).toBe("still here".length);
  here.socket.end();
  expect(await ended).toEqual([0, null]);
});

test("who drains ends when its time is over, and at once by a second signal", { timeout: 120_000 }, async () => {
  const [patient, hasty] = await Promise.all([startIngress(4, "--drain", "600"), startIngress(5, "--drain", "1")]);
  const visits = [visit(patient.address), visit(hasty.address)];
  for (const { answer } of visits) expect(await answer).toBe("served");
  hasty.child.kill("SIGTERM");
  expect(await hasty.ended).toBe(0);
  patient.child.kill("SIGTERM");
  await expect.poll(() => answerAt(patient.address), WAIT).toBe("refused");
  expect(visits[0]!.socket.destroyed).toBe(false);
  patient.child.kill("SIGTERM");
  expect(await patient.ended).toBe(130);
  for (const { socket } of visits) await expect.poll(() => socket.destroyed, WAIT).toBe(true);
});
