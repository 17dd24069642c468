import { expect, test } from "vitest";
import { FakeClock } from "./clock.ts";
import { withDeadline } from "./deadline.ts";

const late = (): Error => new Error("too late");
const aborted = (signal: AbortSignal): Promise<never> =>
  new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));

test("work that is done in time leaves no timer behind, whether it went well or not", async () => {
  const clock = new FakeClock();
  expect(await withDeadline(clock, 1000, late, async () => "done")).toBe("done");
  const failed = withDeadline(clock, 1000, late, async () => Promise.reject(new Error("no")));
  await expect(failed).rejects.toThrow("no");
  expect(clock.next).toBe(Number.POSITIVE_INFINITY);
});

test("work is told at its deadline, and not before", async () => {
  const clock = new FakeClock();
  let isOver = false;
  const work = withDeadline(clock, 1000, late, aborted).finally(() => {
    isOver = true;
  });
  clock.advance(999);
  await Promise.resolve();
  expect(isOver).toBe(false);
  clock.advance(1);
  await expect(work).rejects.toThrow("too late");
});
