import { describe, expect, test } from "vitest";
import { seededRandom } from "../../base/random.ts";
import { RangeList } from "./ranges.ts";

const draws = (seed: number) => {
  const random = seededRandom(seed);
  return (below: number): number => {
    const bytes = random(4);
    return ((bytes[0]! << 16) | (bytes[1]! << 8) | bytes[2]!) % below;
  };
};

describe("ranges out of order", () => {
  test("property: the same as a set of positions, however they come", () => {
    for (let seed = 1; seed <= 40; seed++) {
      const draw = draws(seed);
      const list = new RangeList();
      const held = new Set<number>();
      let next = 0;
      for (let step = 0; step < 200; step++) {
        const start = next + 1 + draw(300);
        const end = start + 1 + draw(30);
        const wasHeld = Array.from({ length: end - start }, (_, i) => held.has(start + i)).every(Boolean);
        expect(list.covers(start, end)).toBe(wasHeld);
        if (list.add(start, end)) for (let at = start; at < end; at++) held.add(at);
        if (step % 20 === 19) {
          let reached = next + draw(40);
          const given = reached;
          for (const at of held) if (at < given) held.delete(at);
          while (held.delete(reached)) reached++;
          next = list.advance(given);
          expect(next).toBe(reached);
        }
        expect(list.end).toBe(held.size === 0 ? 0 : Math.max(...held) + 1);
      }
    }
  });

  test("the newest are reported first, each once (RFC 2018 §4)", () => {
    const list = new RangeList();
    for (const start of [10, 30, 50, 70, 90]) list.add(start, start + 5);
    const into: number[] = [];
    expect(list.fresh).toBe(5);
    expect(list.report(into, 3)).toBe(3);
    expect(into.slice(0, 6)).toEqual([90, 95, 70, 75, 50, 55]);
    expect(list.fresh).toBe(0);
    list.add(35, 40);
    expect(list.report(into, 2)).toBe(2);
    expect(into.slice(0, 4)).toEqual([30, 40, 90, 95]);
  });

  test("IP-7 IP-8 crumbs: 128 ranges, and each costs little; segments: 2,048", () => {
    const crumbs = new RangeList();
    for (let i = 0; i < 100_000; i++) crumbs.add(10 + 2 * i, 11 + 2 * i);
    expect(crumbs.size).toBe(128);
    const segments = new RangeList();
    for (let i = 0; i < 10_000; i++) segments.add(10 + 2000 * i, 1010 + 2000 * i);
    expect(segments.size).toBe(2048);
  });
});
