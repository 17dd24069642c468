import type { Clock } from "./clock.ts";

/** `work`, whose signal is aborted with what `late` says once `ms` have passed; when it ends is its own affair. */
export async function withDeadline<T>(
  clock: Clock,
  ms: number,
  late: () => Error,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const limit = new AbortController();
  const cancel = clock.at(clock.now() + ms, () => limit.abort(late()));
  try {
    return await work(limit.signal);
  } finally {
    cancel();
  }
}
