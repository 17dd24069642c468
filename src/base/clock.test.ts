import { expect, test } from "vitest";
import { FakeClock } from "./clock.ts";
import { drive, type Machine } from "./drive.ts";

test("alarms run in order of their deadlines, each at its own instant", () => {
  const clock = new FakeClock();
  const seen: [string, number][] = [];
  clock.at(20, () => seen.push(["late", clock.now()]));
  clock.at(10, () => {
    seen.push(["early", clock.now()]);
    clock.at(15, () => seen.push(["nested", clock.now()]));
  });
  const cancel = clock.at(12, () => seen.push(["cancelled", clock.now()]));
  cancel();
  clock.advance(30);
  expect(seen).toEqual([
    ["early", 10],
    ["nested", 15],
    ["late", 20],
  ]);
  expect(clock.now()).toBe(30);
  expect(clock.next).toBe(Infinity);
});

test("a machine is polled at its deadline and not before", () => {
  const clock = new FakeClock();
  const ticks: number[] = [];
  const machine: Machine<number> & { deadline: number } = {
    deadline: 5,
    poll(now) {
      if (now < this.deadline) return undefined;
      this.deadline += 5;
      return now;
    },
  };
  drive(machine, clock, (at) => ticks.push(at))();
  clock.advance(12);
  expect(ticks).toEqual([5, 10]);
});
