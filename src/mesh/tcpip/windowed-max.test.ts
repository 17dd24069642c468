import { expect, test } from "vitest";
import { seededRandom } from "../../base/random.ts";
import { WindowedMax } from "./windowed-max.ts";

const LENGTH = 10;

test("property: never below the newest, never above the true maximum of the window, and the truth where it rises", () => {
  for (let seed = 1; seed <= 50; seed++) {
    const random = seededRandom(seed);
    const filter = new WindowedMax(LENGTH);
    const seen: [number, number][] = [];
    for (let round = 0; round < 200; round++) {
      const value = random(1)[0]! + (seed % 2 === 0 ? round : 0);
      filter.add(value, round);
      seen.push([round, value]);
      const window = seen.filter(([at]) => round - at <= LENGTH).map(([, one]) => one);
      expect(filter.value).toBeGreaterThanOrEqual(value);
      expect(filter.value).toBeLessThanOrEqual(Math.max(...window));
      if (value === Math.max(...window)) expect(filter.value).toBe(value);
    }
  }
});

test("a peak is forgotten after the window", () => {
  const filter = new WindowedMax(LENGTH);
  filter.add(1000, 0);
  for (let round = 1; round <= LENGTH; round++) {
    filter.add(10, round);
    expect(filter.value).toBe(1000);
  }
  filter.add(10, LENGTH + 1);
  expect(filter.value).toBe(10);
});
