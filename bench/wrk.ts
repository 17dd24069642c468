import type { Side } from "./link.ts";
import { cpuSeconds, LOAD_CORE, outputOf, startPinned } from "./processes.ts";

export interface Load {
  readonly rate: number;
  readonly p50: number;
  readonly p99: number;
  /** CPU microseconds of the process under test for each request; NaN when it was not named. */
  readonly cost: number;
  /** Answers that were not 2xx or 3xx, and socket errors. */
  readonly failures: number;
}

interface LoadOptions {
  readonly connections: number;
  readonly seconds: number;
  readonly host?: string;
  /** What wrk is to run (Lua). */
  readonly script?: string;
  /** Where wrk runs; absent: here. */
  readonly side?: Side;
  /** The process under test. */
  readonly pid?: number;
}

const UNITS: Readonly<Record<string, number>> = { us: 0.001, ms: 1, s: 1000 };

/** Asks as fast as it can over keep-alive connections. */
export async function load(url: string, { connections, seconds, host, script, side, pid }: LoadOptions): Promise<Load> {
  const header = host === undefined ? [] : ["-H", `Host: ${host}`];
  const scripted = script === undefined ? [] : ["-s", script];
  const args = ["-t1", `-c${connections}`, `-d${seconds}s`, "--latency", ...header, ...scripted, url];
  const child = side === undefined ? startPinned(LOAD_CORE, "wrk", args) : side.start(LOAD_CORE, "wrk", args);
  const before = pid === undefined ? Number.NaN : cpuSeconds(pid);
  const text = await outputOf(child);
  const spent = pid === undefined ? Number.NaN : cpuSeconds(pid) - before;
  const number = (pattern: RegExp) => Number(pattern.exec(text)?.[1] ?? 0);
  const delay = (percent: number) => {
    const [, value, unit] = new RegExp(`${percent}%\\s+([\\d.]+)(us|ms|s)`).exec(text) ?? [];
    return value === undefined ? Number.NaN : Number(value) * UNITS[unit!]!;
  };
  const failures =
    number(/Non-2xx or 3xx responses: (\d+)/) + number(/read (\d+), write/) + number(/connect (\d+), read/);
  const rate = number(/Requests\/sec:\s+([\d.]+)/);
  if (rate === 0 || failures > 0) throw new Error(`wrk ${url}: ${failures} failures\n${text}`);
  const requests = number(/(\d+) requests in/);
  return { rate, p50: delay(50), p99: delay(99), cost: (spent * 1e6) / requests, failures };
}
