import { setImmediate as turn } from "node:timers/promises";
import type { FakeClock } from "../../src/base/clock.ts";

/**
 * Moves `clocks` from alarm to alarm until `work` settles. While whatever holds a clock reads or writes it has no alarm set,
 * so a slow disk takes no time of that clock.
 */
export async function finish<T>(work: Promise<T>, ...clocks: readonly FakeClock[]): Promise<T> {
  let done = false;
  const end = (): void => {
    done = true;
  };
  work.then(end, end);
  for (;;) {
    for (let turns = 0; turns < 5 && !done; turns++) await turn();
    if (done) return work;
    for (const clock of clocks) if (clock.next !== Infinity) clock.advance(clock.next - clock.now());
  }
}

/** Waits, as long as the test may take. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await turn();
}
