import { expect, test } from "vitest";
import { readAtMost } from "./bounded-read.ts";

/** Parts of these sizes; says whether its reader went away before the end. */
function parts(...sizes: readonly number[]) {
  const seen = { isLeft: true };
  async function* stream(): AsyncGenerator<Uint8Array> {
    for (const [i, size] of sizes.entries()) yield new Uint8Array(size).fill(i + 1);
    seen.isLeft = false;
  }
  return { stream: stream(), seen };
}

test.each<[sizes: number[], most: number, length: number | undefined]>([
  [[], 0, 0],
  [[3, 4], 7, 7],
  [[3, 0, 4], 7, 7],
  [[3, 5], 7, undefined],
  [[1], 0, undefined],
])("of parts of %j bytes, at most %d: %j", async (sizes, most, length) => {
  expect((await readAtMost(parts(...sizes).stream, most))?.length).toBe(length);
});

test("parts stand in their order, and what is too much is not read to its end", async () => {
  expect(await readAtMost(parts(2, 1).stream, 3)).toEqual(Buffer.of(1, 1, 2));
  const { stream, seen } = parts(2, 2, 2);
  expect(await readAtMost(stream, 3)).toBeUndefined();
  expect(seen.isLeft).toBe(true);
  expect((await stream.next()).done).toBe(true);
});
