import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { type AddressInfo, connect, createServer } from "node:net";
import { availableParallelism } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { findPeer } from "../test/peers.ts";
import type { Side } from "./link.ts";

/** The subject has a core of its own; load and backends share the other. */
export const SUBJECT_CORE = 0;
export const LOAD_CORE: number = availableParallelism() > 1 ? 1 : 0;

const TICKS_PER_SECOND = 100; // USER_HZ, proc(5)

/** A process on one core. It dies with this one. */
export function startPinned(
  core: number,
  command: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): ChildProcess {
  const binary = findPeer(command) ?? command;
  const child = spawn("taskset", ["-c", String(core), "setpriv", "--pdeathsig", "KILL", binary, ...args], {
    env: { ...process.env, ...env },
    stdio: ["pipe", "pipe", "pipe"],
  });
  child.stderr.on("data", () => undefined);
  child.on("error", () => undefined);
  return child;
}

/** A program of this folder that says one JSON line when it is ready, and one for every line that it is asked. */
export class OwnProcess {
  readonly child: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  #errors = "";

  private constructor(child: ChildProcess) {
    this.child = child;
    child.stderr!.on("data", (chunk) => {
      this.#errors = (this.#errors + String(chunk)).slice(-2000);
    });
    this.#lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
  }

  static start(core: number, file: string, args: readonly string[] = []): OwnProcess {
    return new OwnProcess(startPinned(core, process.execPath, commandLine(file, args)));
  }

  static inside(
    side: Side,
    core: number,
    file: string,
    args: readonly string[] = [],
    env: Readonly<Record<string, string>> = {},
  ): OwnProcess {
    return new OwnProcess(side.start(core, process.execPath, commandLine(file, args), env));
  }

  async next(): Promise<Record<string, unknown>> {
    const { value, done } = await this.#lines.next();
    if (done === true) throw new Error(`A process of the bench ended early: ${this.#errors}`);
    return JSON.parse(value) as Record<string, unknown>;
  }

  ask(question: string): Promise<Record<string, unknown>> {
    this.child.stdin!.write(`${question}\n`);
    return this.next();
  }

  end(): Promise<void> {
    return endOf(this.child);
  }
}

/** Node as `sallyport` starts it (src/bin.ts). */
const NODE_FLAGS = [
  "--disable-warning=ExperimentalWarning",
  "--max-semi-space-size=4",
  "--no-allocation-site-pretenuring",
];

/** `$SALLYPORT_BENCH_FLAGS` goes to our Node: `--cpu-prof` and the like. */
function commandLine(file: string, args: readonly string[]): string[] {
  const flags = (process.env["SALLYPORT_BENCH_FLAGS"] ?? "").split(" ").filter((flag) => flag !== "");
  return [...NODE_FLAGS, ...flags, path.join(import.meta.dirname, file), ...args];
}

export async function endOf(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  child.once("exit", () => resolve());
  child.kill("SIGKILL");
  await promise;
}

/** All that a process writes to standard output until it ends, whatever its status. */
export async function outputOf(child: ChildProcess): Promise<string> {
  let text = "";
  child.stdout!.on("data", (chunk) => {
    text += String(chunk);
  });
  const { promise, resolve } = Promise.withResolvers<void>();
  child.once("close", () => resolve());
  await promise;
  return text;
}

/** User and system seconds of a process, its children not counted. */
export function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]!.split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

/** Resident MB of a process. */
export function residentMb(pid: number): number {
  const text = readFileSync(`/proc/${pid}/status`, "utf8");
  return Number(/VmRSS:\s+(\d+)/.exec(text)![1]) / 1024;
}

export async function freePort(): Promise<number> {
  const server = createServer();
  const { promise, resolve } = Promise.withResolvers<void>();
  server.listen(0, "127.0.0.1", () => resolve());
  await promise;
  const { port } = server.address() as AddressInfo;
  server.close();
  return port;
}

/** Until somebody listens there. */
export async function untilListening(port: number, host = "127.0.0.1"): Promise<void> {
  const end = performance.now() + 10_000;
  for (;;) {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const socket = connect({ port, host });
    socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
    const isThere = await promise;
    socket.destroy();
    if (isThere) return;
    if (performance.now() > end) throw new Error(`Waited in vain for ${host} port ${port}`);
    await new Promise((done) => void setTimeout(done, 20));
  }
}
