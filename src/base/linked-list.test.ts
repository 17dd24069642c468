import { expect, test } from "vitest";
import { type Link, LinkedList } from "./linked-list.ts";

test("members stand in the order in which they came, whoever leaves", () => {
  const list = new LinkedList<string>();
  const [a, b, c] = ["a", "b", "c"].map((value) => list.add(value)) as [Link<string>, Link<string>, Link<string>];
  expect(list.first).toBe("a");
  expect(list.remove(b)).toBe(true);
  expect(list.toArray()).toEqual(["a", "c"]);
  list.add("d");
  expect(list.remove(a)).toBe(true);
  expect(list.first).toBe("c");
  expect(list.remove(c)).toBe(true);
  expect(list.toArray()).toEqual(["d"]);
  expect(list.size).toBe(1);
});

test("nobody leaves twice", () => {
  const list = new LinkedList<number>();
  const link = list.add(1);
  expect([list.remove(link), list.remove(link), list.size]).toEqual([true, false, 0]);
  expect(list.first).toBeUndefined();
});

test("it is as a set is, in any order of coming and going", () => {
  const list = new LinkedList<number>();
  const set = new Set<number>();
  const links = new Map<number, Link<number>>();
  let state = 1;
  for (let i = 0; i < 2000; i++) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 1;
    const gone = [...set][state % (2 * set.size + 1)];
    if (gone === undefined) {
      set.add(i);
      links.set(i, list.add(i));
    } else {
      set.delete(gone);
      list.remove(links.get(gone)!);
    }
    expect(list.toArray()).toEqual([...set]);
  }
});
