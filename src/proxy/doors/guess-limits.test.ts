import { expect, test } from "vitest";
import { FakeClock } from "../../base/clock.ts";
import { memoryStore } from "../../base/store.ts";
import { type GuessedWay, GuessLimits, visitorNetwork } from "./guess-limits.ts";

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;

/** How many guesses somebody gets who tries as often as allowed, from so many addresses. */
async function guesses(way: GuessedWay, forMs: number, addresses: number): Promise<number> {
  const clock = new FakeClock();
  const limits = await GuessLimits.open(clock);
  let taken = 0;
  const end = clock.now() + forMs;
  while (clock.now() < end) {
    let wait = Number.POSITIVE_INFINITY;
    for (let i = 0; i < addresses; i++) {
      const asked = limits.take("friends", way, `198.51.${i >> 8}.${i & 255}`);
      if (asked === 0) taken++;
      wait = Math.min(wait, asked === 0 ? 1 : asked);
    }
    clock.advance(Math.max(1, wait));
  }
  return taken;
}

test.each<[GuessedWay, number, number, number]>([
  ["pin", DAY, 1, 20],
  ["pin", DAY, 100, 10 + 144],
  ["password", DAY, 1, 120],
  ["password", DAY, 20, 100 + 2880],
])("ID-20 guesses at a %s in %d ms from %d addresses: at most %d", async (way, forMs, addresses, most) => {
  const taken = await guesses(way, forMs, addresses);
  expect(taken).toBeGreaterThan(2);
  expect(taken).toBeLessThanOrEqual(most);
});

test("guesses side by side count before they are judged; a right one gives back what it took", async () => {
  const limits = await GuessLimits.open(new FakeClock());
  const waits = Array.from({ length: 5 }, () => limits.take("friends", "pin", "192.0.2.1"));
  expect(waits.map((wait) => wait > 0)).toEqual([false, false, false, true, true]);
  limits.right("friends", "pin", "192.0.2.1");
  expect(limits.take("friends", "pin", "192.0.2.1")).toBe(0);
});

test("a guess that was not looked at, because many were, forgave its visitor all wrong ones", async () => {
  const limits = await GuessLimits.open(new FakeClock());
  for (let i = 0; i < 2; i++) expect(limits.take("friends", "pin", "192.0.2.1")).toBe(0);
  for (let i = 0; i < 5; i++) {
    expect(limits.take("friends", "pin", "192.0.2.1")).toBe(0);
    limits.giveBack("friends", "pin", "192.0.2.1");
  }
  expect(limits.take("friends", "pin", "192.0.2.1")).toBe(0);
  expect(limits.take("friends", "pin", "192.0.2.1")).toBeGreaterThan(0);
});

test("the door of another name, another way and another visitor are counted by themselves", async () => {
  const limits = await GuessLimits.open(new FakeClock());
  for (let i = 0; i < 5; i++) limits.take("friends", "pin", "192.0.2.1");
  expect(limits.take("friends", "pin", "192.0.2.1")).toBeGreaterThan(0);
  expect(limits.take("friends", "pin", "192.0.2.2")).toBe(0);
  expect(limits.take("friends", "password", "192.0.2.1")).toBe(0);
  expect(limits.take("staff", "pin", "192.0.2.1")).toBe(0);
});

test.each([
  ["192.0.2.1", "192.0.2.1", true],
  ["192.0.2.1", "192.0.2.2", false],
  ["2001:db8::1", "2001:db8::ffff:1", true],
  ["2001:db8:0:1::1", "2001:db8:0:2::1", false],
  ["::ffff:192.0.2.1", "192.0.2.1", true],
  ["::ffff:192.0.2.1", "::ffff:192.0.2.2", false],
  ["nonsense", "other nonsense", true],
])("FN-15 %s and %s are one visitor: %s", (one, other, isOne) => {
  expect(visitorNetwork(one) === visitorNetwork(other)).toBe(isOne);
});

test.each<[GuessedWay, number, number]>([
  ["pin", 1, 0],
  ["pin", 3, 1],
  ["pin", 4, 2],
  ["password", 4, 0],
])(
  "a clock that was set back by a year locked out for a year whoever had guessed wrong once (%s, %d times)",
  async (way, wrong, minutes) => {
    class SetClock extends FakeClock {
      ahead = 365 * DAY;
      override wall(): number {
        return super.wall() + this.ahead;
      }
    }
    const clock = new SetClock();
    const limits = await GuessLimits.open(clock);
    const take = () => limits.take("friends", way, "192.0.2.1");
    for (let taken = 0; taken < wrong; ) {
      const wait = take();
      if (wait === 0) taken++;
      clock.advance(wait);
    }
    clock.ahead = 0;
    const wait = minutes * MINUTE;
    expect(take()).toBe(wait);
    clock.advance(wait);
    if (wait > 0) expect(take()).toBe(0);
  },
);

test("what was guessed is remembered over a restart; a damaged record is none", async () => {
  const store = memoryStore();
  const clock = new FakeClock();
  const before = await GuessLimits.open(clock, store);
  for (let i = 0; i < 4; i++) before.take("friends", "pin", "192.0.2.1");
  clock.advance(1000);
  await before.save();
  const after = await GuessLimits.open(clock, store);
  expect(after.take("friends", "pin", "192.0.2.1")).toBeGreaterThan(0);
  for (const damaged of ["", "[]", "null", '{"visitors":{},"crowds":[1,["a"],["b",null]]}']) {
    await store.set("door-guesses.json", Buffer.from(damaged));
    expect((await GuessLimits.open(clock, store)).take("friends", "pin", "192.0.2.1")).toBe(0);
  }
});

test("ten thousand visitors are remembered by eight thousand places, the newest of them", async () => {
  const limits = await GuessLimits.open(new FakeClock());
  for (let i = 0; i < 10_000; i++) limits.take("friends", "link", `10.0.${i >> 8}.${i & 255}`);
  for (let i = 0; i < 11; i++) limits.take("friends", "link", "10.0.39.15");
  expect(limits.take("friends", "link", "10.0.39.15")).toBeGreaterThan(0);
  expect(limits.take("friends", "link", "10.0.0.1")).toBe(0);
});
