import { expect, test } from "vitest";
import { mapNode } from "../../test/suites/network-map.ts";
import { FakeClock } from "../base/clock.ts";
import { LifeSigns } from "./life-signs.ts";

const soon = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test("a node that had lost its way to the server alone was away for its visitors, too", async () => {
  const clock = new FakeClock();
  const alive = new Set(["n1"]);
  const asked: string[] = [];
  let changes = 0;
  const signs = new LifeSigns({
    ask: async ({ StableID }) => {
      asked.push(StableID);
      if (!alive.has(StableID)) throw new Error("no answer in time");
    },
    changed: () => void changes++,
    clock,
  });
  const [here, dead] = [mapNode(1, { StableID: "n1" }), mapNode(2, { StableID: "n2" })];
  const state = () => [signs.has(here), signs.has(dead), asked.length, changes];
  signs.set([here, dead]);
  expect(state()).toEqual([false, false, 2, 0]);
  await soon();
  expect(state()).toEqual([true, false, 2, 1]);
  signs.set([here, dead]); // with every map
  clock.advance(10_000);
  await soon();
  expect(state()).toEqual([true, false, 3, 1]); // who is dead is not asked again
  alive.clear();
  clock.advance(10_000);
  await soon();
  expect(state()).toEqual([false, false, 4, 2]);
  alive.add("n1");
  asked.length = 0;
  for (let i = 0; i < 3; i++) {
    signs.set([]); // both are back at the server
    signs.set([here]); // and one is away again
    await soon();
  }
  expect([signs.has(here), asked]).toEqual([true, ["n1", "n1", "n1"]]);
  clock.advance(10_000);
  await soon();
  expect(asked).toHaveLength(4); // once, however often it was away
  signs.set([]);
  signs.close();
  clock.advance(60_000);
  expect([signs.has(here), clock.now() > 0]).toEqual([false, true]);
});
