import { expect, test } from "vitest";
import { POOL_LIMITS } from "../backend-pool.ts";
import { OpenConnections } from "./open-connections.ts";

const connection = () => ({ destroy() {} });

// One peer with 8,192 bodies that did not end was a 503 for everybody else.
test.each([1, 2, 50])("H1-14: %d callers whose requests do not end leave room for everybody else", (greedy) => {
  const open = new OpenConnections(POOL_LIMITS.open);
  const held = Array.from({ length: greedy }, () => 0);
  for (let round = 0; round < POOL_LIMITS.open / greedy; round++) {
    for (let caller = 0; caller < greedy; caller++) {
      if (!open.hasRoomFor(`greedy ${caller}`)) continue;
      open.add(connection(), `greedy ${caller}`);
      held[caller]!++;
    }
  }
  const share = POOL_LIMITS.open / (greedy + 1);
  expect(Math.min(...held)).toBeGreaterThan(share - 1);
  expect(Math.max(...held)).toBeLessThan(share + 1);
  const others = Array.from({ length: Math.floor(share / 2) }, () => {
    expect(open.hasRoomFor("other")).toBe(true);
    return open.add(connection(), "other");
  });
  expect(open.hasRoomFor("greedy 0")).toBe(false);
  for (const leave of others) leave();
  expect(open.size).toBe(held.reduce((sum, count) => sum + count));
});

test("a connection that is closed twice is counted once", () => {
  const open = new OpenConnections(4);
  const leave = open.add(connection(), "a");
  open.add(connection(), "a");
  expect(open.hasRoomFor("a")).toBe(false);
  leave();
  leave();
  expect([open.size, open.hasRoomFor("a")]).toEqual([1, true]);
});
