import { expect, test } from "vitest";
import { connPair } from "./conn-pair.ts";
import { asDuplex, type ConnDuplex } from "./duplex.ts";

const PROOF = {
  kind: "mesh",
  nodeKey: "aa",
  source: { address: "100.64.0.2", port: 40_000 },
  destination: { address: "100.64.0.1", port: 443 },
} as const;

/** What `far` gets in each turn of the event loop, until it ends. */
async function turnsOf(far: ConnDuplex): Promise<number[]> {
  const turns: number[] = [];
  let current = 0;
  let isOver = false;
  far.on("data", (part: Buffer) => {
    current += part.length;
  });
  far.on("end", () => {
    isOver = true;
  });
  while (!isOver || current > 0) {
    await new Promise(setImmediate);
    if (current > 0) turns.push(current);
    current = 0;
  }
  return turns;
}

test.each([100, 1000, 1001, 64 * 1024, 300 * 1024])(
  "%d bytes come in portions, all of them, and then the end",
  async (bytes) => {
    const [near, far] = connPair(PROOF).map(asDuplex) as [ConnDuplex, ConnDuplex];
    far.portionBytes = 1000;
    near.end(Buffer.alloc(bytes, "x"));
    const turns = await turnsOf(far);
    expect(turns.reduce((sum, turn) => sum + turn, 0)).toBe(bytes);
    expect(Math.max(...turns)).toBeLessThanOrEqual(1000);
  },
);

test("what waits comes at once when there is no portion any more, in its order", async () => {
  const [near, far] = connPair(PROOF).map(asDuplex) as [ConnDuplex, ConnDuplex];
  far.portionBytes = 10;
  const text = Array.from({ length: 5000 }, (_, i) => `${i},`).join("");
  near.end(text);
  let got = "";
  far.on("data", (part: Buffer) => {
    got += part.toString();
    far.portionBytes = got.length < 100 ? 10 : Number.POSITIVE_INFINITY;
  });
  await new Promise((resolve) => far.once("end", resolve));
  expect(got).toBe(text);
});

test("a connection that is closed by its user hands on nothing more", async () => {
  const [near, far] = connPair(PROOF).map(asDuplex) as [ConnDuplex, ConnDuplex];
  far.portionBytes = 10;
  near.on("error", () => undefined);
  near.write(Buffer.alloc(1000));
  let bytes = 0;
  far.on("data", (part: Buffer) => {
    bytes += part.length;
    far.destroy();
  });
  await new Promise((resolve) => near.once("close", resolve));
  expect(bytes).toBe(10);
});
