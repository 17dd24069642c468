import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

/** A network namespace of this test run, with nothing in it but loopback. */
export interface Space {
  readonly name: string;
  /** Runs a command inside; gives its standard output. */
  run(command: string, ...args: readonly string[]): string;
  /** Starts a process inside that dies with the test. */
  start(command: string, args: readonly string[], env?: Readonly<Record<string, string>>): ChildProcess;
  close(): void;
}

/** Joined to the host by a veth pair, with no route out. */
export interface Namespace extends Space {
  /** The host's end of the pair. */
  readonly hostAddress: string;
  readonly address: string;
}

let made = 0;

/** What a run that was killed left behind: its addresses would answer in place of ours. */
function sweep(): void {
  const names = execFileSync("ip", ["netns", "list"], { encoding: "utf8" }).matchAll(/^(sp(\d+)-\d+)/gm);
  for (const [, name, pid] of names) if (!existsSync(`/proc/${pid}`)) spawnSync("ip", ["netns", "del", name!]);
}

/** A subnet 10.98.N.0/30 that no other run on this machine uses. */
function freeSubnet(): string {
  const taken = execFileSync("ip", ["-o", "-4", "addr"], { encoding: "utf8" });
  for (let tries = 0; tries < 250; tries++) {
    const subnet = `10.98.${(process.pid + made * 61 + tries) % 250}`;
    if (!taken.includes(` ${subnet}.`)) return subnet;
  }
  throw new Error("No free subnet in 10.98.0.0/16");
}

const ip = (...args: readonly string[]) => execFileSync("ip", args, { encoding: "utf8" });

/** Names carry the pid: several runs share a machine. */
export function createSpace(): Space {
  if (made === 0) sweep();
  const name = `sp${process.pid}-${made++}`;
  ip("netns", "add", name);
  ip("-n", name, "link", "set", "lo", "up");
  const children: ChildProcess[] = [];
  return {
    name,
    run: (command, ...args) =>
      execFileSync("ip", ["netns", "exec", name, command, ...args], {
        encoding: "utf8",
        maxBuffer: 64 << 20,
        timeout: 110_000,
      }),
    start(command, args, env = {}) {
      const child = spawn("ip", ["netns", "exec", name, "setpriv", "--pdeathsig", "KILL", command, ...args], {
        env: { ...process.env, ...env },
        stdio: ["ignore", "pipe", "pipe"],
      });
      children.push(child);
      return child;
    },
    close() {
      for (const child of children) child.kill("SIGKILL");
      ip("netns", "del", name);
    },
  };
}

export function createNamespace(): Namespace {
  const subnet = freeSubnet();
  const [host, inner] = [`h${process.pid}-${made}`, `n${process.pid}-${made}`];
  const space = createSpace();
  ip("link", "add", host, "type", "veth", "peer", "name", inner, "netns", space.name);
  ip("addr", "add", `${subnet}.1/30`, "dev", host);
  ip("link", "set", host, "up");
  ip("-n", space.name, "addr", "add", `${subnet}.2/30`, "dev", inner);
  ip("-n", space.name, "link", "set", inner, "up");
  return {
    ...space,
    hostAddress: `${subnet}.1`,
    address: `${subnet}.2`,
    close() {
      space.close();
      spawnSync("ip", ["link", "del", host]); // gone by itself, or about to
    },
  };
}

/** Waits until `probe` gives something; throws with `what` when it never does. */
export async function eventually<T>(what: string, probe: () => T | undefined, timeoutMs = 30_000): Promise<T> {
  const end = performance.now() + timeoutMs;
  for (;;) {
    const found = probe();
    if (found !== undefined) return found;
    if (performance.now() > end) throw new Error(`Waited ${timeoutMs} ms in vain for ${what}`);
    await sleep(20);
  }
}
