import { randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { HeldBytes } from "./held-bytes.ts";

const parts = (sizes: readonly number[]): Buffer[] => sizes.map((size) => randomBytes(size));

test.each([
  ["nothing", []],
  ["one part", [1700]],
  ["two packets of a post-quantum hello", [1400, 381]],
  ["byte by byte", Array.from({ length: 3000 }, () => 1)],
  ["as much as is ever held, in packets", Array.from({ length: 90 }, () => 1448)],
  ["a large part behind a small one", [1, 65_536, 1, 65_536]],
])("what came comes out: %s", (_name, sizes) => {
  const held = new HeldBytes();
  const sent = parts(sizes);
  for (const part of sent) held.push(part);
  const all = Buffer.concat(sent);
  expect([held.length, held.bytes.equals(all)]).toEqual([all.length, true]);
  expect(held.bytes.buffer.byteLength).toBeLessThanOrEqual(Math.max(2 * all.length, all.length + 16 * 1024));
});
