import { expect, test } from "vitest";
import { ReplayWindow, WINDOW } from "./replay-window.ts";

// In the manner of wireguard-go replay/replay_test.go, whose T_LIM is WINDOW + 1.
const LIM = WINDOW + 1;

function window() {
  const inner = new ReplayWindow();
  return (counter: number | bigint) => {
    const big = BigInt(counter);
    return inner.accept(Number(big & 0xffffffffn), Number(big >> 32n));
  };
}

const sequences: readonly (readonly (readonly [number, boolean])[])[] = [
  [
    [0, true],
    [1, true],
    [1, false],
    [9, true],
    [8, true],
    [7, true],
    [7, false],
  ],
  [
    [LIM, true],
    [LIM - 1, true],
    [LIM - 1, false],
    [LIM - 2, true],
    [2, true],
    [2, false],
  ],
  [
    [9, true],
    [LIM + 16, true],
    [3, false],
    [LIM + 16, false],
    [LIM * 4, true],
    [LIM * 4 - (LIM - 1), true],
  ],
  [
    [LIM * 4, true],
    [10, false],
    [LIM * 4 - LIM, false],
    [LIM * 4 - (LIM + 1), false],
    [LIM * 4 - (LIM - 2), true],
  ],
  [
    [LIM * 4, true],
    [LIM * 4 + 1 - LIM, true],
    [LIM * 4 + 1 - LIM, false],
    [0, false],
  ],
];

test("WG-3: each counter is taken once, and not when it is older than the window", () => {
  for (const sequence of sequences) {
    const accept = window();
    for (const [counter, expected] of sequence) expect([counter, accept(counter)]).toEqual([counter, expected]);
  }
});

test("WG-3: a whole window forwards, backwards and with gaps", () => {
  let accept = window();
  for (let i = 1; i <= WINDOW; i++) expect(accept(i)).toBe(true);
  expect([accept(0), accept(0)]).toEqual([true, false]);
  accept = window();
  for (let i = 2; i <= WINDOW + 1; i++) expect(accept(i)).toBe(true);
  expect([accept(1), accept(0)]).toEqual([true, false]);
  accept = window();
  for (let i = WINDOW + 1; i > 0; i--) expect(accept(i)).toBe(true);
  accept = window();
  for (let i = WINDOW + 2; i > 1; i--) expect(accept(i)).toBe(true);
  expect(accept(0)).toBe(false);
  accept = window();
  for (let i = WINDOW + 1; i > 1; i--) expect(accept(i)).toBe(true);
  expect([accept(WINDOW + 2), accept(1)]).toEqual([true, false]);
});

test("WG-9: counters near 2^32, 2^53, 2^60 and 2^64 are exact", () => {
  for (const around of [1n << 32n, 1n << 53n, 1n << 60n, (1n << 64n) - 20_000n]) {
    const accept = window();
    for (let i = -3n; i <= 3n; i++) {
      expect([accept(around + i), accept(around + i)]).toEqual([true, false]);
    }
    const newest = around + 3n;
    expect([accept(newest - BigInt(WINDOW)), accept(newest - BigInt(WINDOW) - 1n)]).toEqual([true, false]);
  }
});

test("against a set, for random walks", () => {
  let state = 12345;
  const random = (below: number) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  for (let round = 0; round < 20; round++) {
    const accept = window();
    const seen = new Set<number>();
    let newest = 0;
    let at = 0;
    for (let i = 0; i < 5_000; i++) {
      at = Math.max(0, random(10) === 0 ? newest + random(9_000) : newest - random(9_000) + 20);
      const expected = at > newest || (newest - at <= WINDOW && !seen.has(at));
      expect(accept(at)).toBe(expected);
      if (expected) seen.add(at);
      newest = Math.max(newest, at);
    }
  }
});
