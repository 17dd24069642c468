import { expect, test } from "vitest";
import { FakeClock } from "./clock.ts";
import { type Place, WaitingLine } from "./waiting-line.ts";

const BOUNDS = { inAll: 4, ofOwner: 2 };

/** Each step: a newcomer (`a1` is of owner `a`), `-` one that leaves, `!` one that works, `?` one that waits again. */
const CASES: readonly [what: string, steps: string, goneOrRefused: string, isIn: string][] = [
  ["there is room for all", "a1 a2 b1 b2", "", "a1 a2 b1 b2"],
  ["the oldest of an owner makes room for its next", "b1 a1 a2 a3 a4", "a1 a2", "b1 a3 a4"],
  ["the oldest of all makes room for another owner", "a1 b1 c1 d1 e1 f1", "a1 b1", "c1 d1 e1 f1"],
  ["who has all that it may have makes room itself, others are older or not", "b1 c1 a1 a2 a3", "a1", "b1 c1 a2 a3"],
  ["who has less finds room at the cost of the oldest, its own or not", "a1 b1 c1 d1 c2", "a1", "b1 c1 d1 c2"],
  ["who leaves makes room", "a1 a2 -a1 a3", "", "a2 a3"],
  ["who leaves twice makes room once", "a1 a2 -a1 -a1 a3 a4", "a2", "a3 a4"],
  ["who had to go does not leave again", "a1 a2 a3 -a1 a4", "a1 a2", "a3 a4"],
  ["who works makes no room", "a1 a2 !a1 a3", "a2", "a1 a3"],
  ["where all of an owner's work, its next is refused", "a1 a2 !a1 !a2 b1 a3", "a3", "a1 a2 b1"],
  ["where all work, everybody is refused", "a1 b1 c1 d1 !a1 !b1 !c1 !d1 e1", "e1", "a1 b1 c1 d1"],
  ["a worker that leaves makes room", "a1 a2 !a1 !a2 -a1 a3", "", "a2 a3"],
  ["who waits again is behind all others", "a1 a2 !a1 ?a1 a3", "a2", "a1 a3"],
  ["who waits already keeps its place", "a1 a2 ?a1 a3", "a1", "a2 a3"],
  ["who had to go neither waits nor works", "a1 a2 a3 !a1 ?a1 a4", "a1 a2", "a3 a4"],
];

test.each(CASES)("%s", (_, steps, goneOrRefused, isIn) => {
  const gone: string[] = [];
  let crowded = 0;
  const line = new WaitingLine(BOUNDS, { crowded: () => void crowded++ });
  const places = new Map<string, Place>();
  const remaining = new Set<string>();
  for (const step of steps.split(" ")) {
    const name = step.replace(/^[-!?]/, "");
    const drop = (): void => {
      remaining.delete(name);
      gone.push(name);
    };
    if (step.startsWith("-")) {
      places.get(name)!.leave();
      remaining.delete(name);
    } else if (step.startsWith("!")) places.get(name)!.work();
    else if (step.startsWith("?")) places.get(name)!.wait();
    else {
      const place = line.enter(name.slice(0, 1), { giveUp: drop });
      if (place === undefined) gone.push(name);
      else places.set(name, place) && remaining.add(name);
    }
    expect(line.size).toBe(remaining.size);
  }
  expect(gone.join(" ")).toBe(goneOrRefused);
  expect([...remaining].join(" ")).toBe(isIn);
  expect(crowded).toBe(gone.length);
});

test("smaller bounds are kept from the next newcomer on", () => {
  const line = new WaitingLine({ inAll: 100, ofOwner: 100 });
  const gone: number[] = [];
  for (let i = 0; i < 10; i++) line.enter("a", { giveUp: () => void gone.push(i) });
  line.bounds = { inAll: 100, ofOwner: 3 };
  expect(line.size).toBe(10);
  line.enter("a", { giveUp: () => undefined });
  expect([line.size, gone]).toEqual([3, [0, 1, 2, 3, 4, 5, 6, 7]]);
  line.bounds = { inAll: 2, ofOwner: 3 };
  line.enter("b", { giveUp: () => undefined });
  expect([line.size, gone]).toEqual([2, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]]);
});

test("whoever is waited for too long goes, each at his own time, by one alarm; who works has none", () => {
  const clock = new FakeClock();
  const line = new WaitingLine({ inAll: 100, ofOwner: 100 }, { patience: { clock, limitMs: 1000 } });
  const gone: string[] = [];
  const enter = (name: string) =>
    line.enter(name, { giveUp: (why) => void gone.push(`${name} ${why} ${clock.now()}`) });
  const first = enter("a")!;
  clock.advance(100);
  enter("b");
  clock.advance(100);
  const third = enter("c")!;
  third.work();
  enter("d");
  first.leave();
  clock.advance(700);
  expect(gone).toEqual([]);
  third.wait();
  clock.advance(10_000);
  expect(gone).toEqual(["b late 1100", "d late 1200", "c late 1900"]);
  expect(line.size).toBe(0);
  expect(clock.next).toBe(Infinity);
  enter("e");
  clock.advance(1000);
  expect(gone.at(-1)).toBe("e late 11900");
});
