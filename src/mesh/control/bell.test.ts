import { expect, test } from "vitest";
import { FakeClock } from "../../base/clock.ts";
import { Bell } from "./bell.ts";

test("a ring wakes all who sleep, and nobody who comes later", async () => {
  const bell = new Bell();
  const woken: string[] = [];
  const sleepers = ["a", "b"].map((who) => bell.next().then(() => woken.push(who)));
  bell.ring();
  void bell.next().then(() => woken.push("late"));
  await Promise.all(sleepers);
  expect(woken).toEqual(["a", "b"]);
});

test.each([
  [true, 999],
  [false, 1000],
])("rings in time: %j, after %d of 1000 ms", async (rings, after) => {
  const clock = new FakeClock();
  const bell = new Bell();
  const answer = bell.ringsWithin(clock, 1000);
  clock.advance(after);
  bell.ring();
  expect(await answer).toBe(rings);
  expect(clock.next).toBe(Number.POSITIVE_INFINITY);
});
