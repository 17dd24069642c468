import { spawn } from "node:child_process";
import type { Clock } from "../../../base/clock.ts";
import { Fault } from "../../../base/fault.ts";
import type { DnsProvider } from "../dns-provider.ts";

const KEPT_BYTES = 4096;
const KEPT_TEXT = 300;

export interface ExecOptions {
  /** The program and its own arguments; no shell reads them. */
  readonly command: readonly [string, ...string[]];
  /** @default 120 s */
  readonly timeoutMs?: number;
  readonly clock: Clock;
  /** What the program finds around it, besides the task. @default our own */
  readonly env?: Readonly<Record<string, string | undefined>>;
}

/**
 * A program of the operator's own. It is told what to do by its environment, which only its user can read:
 * `SALLYPORT_DNS_ACTION` (`present` or `remove`), `SALLYPORT_DNS_RECORD` and `SALLYPORT_DNS_VALUE`. Status 0: done.
 */
export function execProvider(options: ExecOptions): DnsProvider {
  return {
    set: (record, value, signal) => run(options, "present", record, value, signal),
    remove: (record, value, signal) => run(options, "remove", record, value, signal),
  };
}

function run(options: ExecOptions, action: string, record: string, value: string, signal: AbortSignal): Promise<void> {
  const [program, ...args] = options.command;
  const { clock, timeoutMs = 120_000, env = process.env } = options;
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const fail = (found: string): void =>
    reject(
      new Fault("CERT_CHALLENGE_HOOK", `Cannot run "${program}" to ${action} "${record}": ${found}, wanted status 0`),
    );
  const child = spawn(program, args, {
    env: { ...env, SALLYPORT_DNS_ACTION: action, SALLYPORT_DNS_RECORD: record, SALLYPORT_DNS_VALUE: value },
    stdio: ["ignore", "ignore", "pipe"],
    shell: false,
    detached: true, // the head of a group: what it started goes with it
  });
  let said = "";
  child.stderr.on("data", (chunk: Uint8Array) => {
    said = (said + Buffer.from(chunk).toString("utf8")).slice(-KEPT_BYTES);
  });
  const kill = (): void => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
    } catch {
      // it is over
    }
  };
  const stop = (): void => {
    kill();
    reject(signal.reason);
  };
  const cancel = clock.at(clock.now() + timeoutMs, () => {
    kill();
    fail(`it did not end in ${timeoutMs / 1000} s`);
  });
  child.on("error", (error) => fail(error.message));
  child.on("exit", (code, killedBy) => {
    if (code === 0) return resolve();
    const text = said.replace(/[^ -~]+/g, " ").trim();
    fail(
      `${killedBy === null ? `status ${code}` : killedBy}${text === "" ? "" : `, it says: ${text.slice(-KEPT_TEXT)}`}`,
    );
  });
  signal.addEventListener("abort", stop, { once: true });
  if (signal.aborted) stop();
  return promise.finally(() => {
    cancel();
    signal.removeEventListener("abort", stop);
  });
}
