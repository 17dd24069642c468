import { type Clock, systemClock } from "../../src/base/clock.ts";

const LONGEST_SKIPPED_MS = 30_000;

/**
 * A clock for which short waits are over at once: polling takes no time, and what is to happen after minutes happens when
 * the waits that were skipped have added up to them.
 */
export function hastyClock(wallStart: number = systemClock.wall()): Clock {
  const alarms = new Set<{ readonly deadline: number; readonly wake: () => void }>();
  let now = 0;
  const reach = (deadline: number): void => {
    now = Math.max(now, deadline);
    for (const alarm of [...alarms].sort((a, b) => a.deadline - b.deadline)) {
      if (alarm.deadline <= now && alarms.delete(alarm)) alarm.wake();
    }
  };
  return {
    now: () => now,
    wall: () => wallStart + now,
    at(deadline, wake) {
      const alarm = { deadline, wake };
      alarms.add(alarm);
      if (deadline - now <= LONGEST_SKIPPED_MS) setImmediate(() => alarms.has(alarm) && reach(deadline));
      return () => void alarms.delete(alarm);
    },
  };
}
