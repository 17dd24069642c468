import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { findPeer } from "../test/peers.ts";

const MOST_OUTPUT_BYTES = 64 << 20;

/** One end of a cable: a network namespace with no route out. */
export interface Side {
  readonly name: string;
  /** On the cable. */
  readonly address: string;
  run(command: string, ...args: readonly string[]): string;
  /** A process on one core that dies with this one. */
  start(core: number, command: string, args: readonly string[], env?: Readonly<Record<string, string>>): ChildProcess;
}

/** Two namespaces and a veth pair between them. */
export interface Link extends Disposable {
  readonly load: Side;
  readonly subject: Side;
}

export function createLink(): Link {
  sweep();
  const ip = (...args: readonly string[]) => execFileSync("ip", args, { encoding: "utf8" });
  const [load, subject] = [side("load", "10.96.0.1"), side("subject", "10.96.0.2")] as const;
  ip("netns", "add", load.name);
  ip("netns", "add", subject.name);
  ip("-n", load.name, "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", subject.name);
  for (const { name, address } of [load, subject]) {
    ip("-n", name, "addr", "add", `${address}/30`, "dev", "wire");
    ip("-n", name, "link", "set", "wire", "up");
    ip("-n", name, "link", "set", "lo", "up");
  }
  return {
    load,
    subject,
    [Symbol.dispose]() {
      for (const { name, children } of [load, subject]) {
        for (const child of children) child.kill("SIGKILL");
        ip("netns", "del", name);
      }
    },
  };
}

function side(kind: string, address: string): Side & { readonly children: ChildProcess[] } {
  const name = `spbench${process.pid}-${kind}`;
  const children: ChildProcess[] = [];
  return {
    name,
    address,
    children,
    run: (command, ...args) =>
      execFileSync("ip", ["netns", "exec", name, findPeer(command) ?? command, ...args], {
        encoding: "utf8",
        stdio: ["ignore", "pipe", "pipe"],
        maxBuffer: MOST_OUTPUT_BYTES,
      }),
    start(core, command, args, env = {}) {
      const dies = ["setpriv", "--pdeathsig", "KILL", findPeer(command) ?? command, ...args];
      const child = spawn("taskset", ["-c", String(core), "ip", "netns", "exec", name, ...dies], {
        env: { ...process.env, ...env },
        stdio: ["pipe", "pipe", "pipe"],
      });
      child.stderr.resume();
      child.on("error", () => undefined);
      children.push(child);
      return child;
    },
  };
}

/** What a run that was killed left behind. */
function sweep(): void {
  const names = execFileSync("ip", ["netns", "list"], { encoding: "utf8" }).matchAll(/^(spbench(\d+)-\w+)/gm);
  for (const [, name, pid] of names) if (!existsSync(`/proc/${pid}`)) execFileSync("ip", ["netns", "del", name!]);
}

/** Waits until `probe` gives something; throws with `what` when it never does. */
export async function eventually<T>(
  what: string,
  probe: () => T | undefined | Promise<T | undefined>,
  timeoutMs = 20_000,
): Promise<T> {
  const end = performance.now() + timeoutMs;
  for (;;) {
    const found = await probe();
    if (found !== undefined) return found;
    if (performance.now() > end) throw new Error(`Waited ${timeoutMs} ms in vain for ${what}`);
    await sleep(50);
  }
}
