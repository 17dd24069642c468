import type { Clock } from "./clock.ts";

/** Settles after `ms`, or at once when `signal` is aborted; never fails. */
export function sleep(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const done = (): void => {
      cancel();
      signal.removeEventListener("abort", done);
      resolve();
    };
    const cancel = clock.at(clock.now() + ms, done);
    signal.addEventListener("abort", done, { once: true });
  });
}

/** Settles after `ms`; fails with the reason of `signal` once that is aborted. */
export async function pause(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  await sleep(clock, ms, signal);
  signal.throwIfAborted();
}
