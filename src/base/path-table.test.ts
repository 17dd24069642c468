import { expect, test } from "vitest";
import { PathTable } from "./path-table.ts";

test("a path has one number, and the number gives it back", () => {
  const table = new PathTable();
  const direct = { kind: "udp", address: "192.0.2.1", port: 41641 } as const;
  const relayed = { kind: "derp", region: 900, nodeKey: "aa".repeat(32) } as const;
  expect(table.intern(direct)).toBe(0);
  expect(table.intern(relayed)).toBe(1);
  expect(table.intern({ ...direct })).toBe(0);
  expect(table.get(1)).toEqual(relayed);
  expect(table.get(2)).toBeUndefined();
});

test("a flood of sources is bounded, and gives the oldest numbers away", () => {
  const table = new PathTable();
  const source = (n: number) =>
    ({ kind: "udp", address: `10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`, port: 1 }) as const;
  for (let n = 0; n < 200_000; n++) expect(table.intern(source(n))).toBeLessThan(65_536);
  expect(table.get(table.intern(source(199_999)))).toEqual(source(199_999));
});
