import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { seededRandom } from "../../base/random.ts";
import { B_ADDRESS, B_ADDRESS6, type LinkOptions, SimulatedLink } from "./simulated-link.ts";

const hash = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
const MIB = 1024 * 1024;

/** Sends `size` bytes both ways and closes both; returns virtual ms. */
async function exchange(link: SimulatedLink, size: number, address: string = B_ADDRESS): Promise<number> {
  const [a, b] = await link.connect(80, address);
  const up = seededRandom(7)(size);
  const down = seededRandom(8)(size);
  const start = link.now;
  a.send(up, true);
  b.send(down, true);
  link.run(() => (a.ended && b.ended) || a.fault !== undefined || b.fault !== undefined);
  expect([a.fault, b.fault]).toEqual([undefined, undefined]);
  expect(hash(b.bytes)).toBe(hash(up));
  expect(hash(a.bytes)).toBe(hash(down));
  return link.now - start;
}

describe("IP-1 bytes arrive equal", () => {
  const cases: [string, LinkOptions][] = [
    ["clean", {}],
    ["1 % loss", { loss: 0.01 }],
    ["5 % loss", { loss: 0.05 }],
    ["10 % loss", { loss: 0.1, delayMs: 10 }],
    ["reorder 25 %", { reorder: 0.25, delayMs: 20 }],
    ["duplicates 100 %", { duplicate: 1 }],
    ["corrupt 1 %", { corrupt: 0.01 }],
    ["jitter 200 ms", { jitterMs: 200 }],
    ["everything", { loss: 0.05, reorder: 0.25, duplicate: 0.05, corrupt: 0.01, delayMs: 15 }],
    ["narrow", { rate: 1000, queueBytes: 32 * 1024, delayMs: 25 }],
  ];
  test.each(cases)("%s", async (_name, options) => {
    for (let seed = 1; seed <= 3; seed++) await exchange(new SimulatedLink({ delayMs: 5, ...options, seed }), MIB / 2);
  });

  test("IPv6, loss, 1 MiB", async () => {
    await exchange(new SimulatedLink({ loss: 0.02, seed: 5 }), MIB, B_ADDRESS6);
  });

  test("property: small transfers under any loss pattern", async () => {
    for (let seed = 1; seed <= 60; seed++) {
      const loss = (seed % 7) * 0.05;
      const size = 1 + ((seed * 7919) % 40_000);
      await exchange(new SimulatedLink({ seed, loss, delayMs: 3, reorder: 0.1, duplicate: 0.1 }), size);
    }
  });
});

/** One way; returns MB/s of virtual time. */
async function rateOf(options: LinkOptions, size: number): Promise<{ rate: number; seconds: number; share: number }> {
  const link = new SimulatedLink(options);
  const [a, b] = await link.connect();
  const before = link.sent;
  const start = link.now;
  a.send(new Uint8Array(size).fill(7), true);
  link.run(() => b.ended || a.fault !== undefined);
  expect(b.received).toBe(size);
  const seconds = (link.now - start) / 1000;
  return { rate: size / 1e6 / seconds, seconds, share: (link.sent - before) / (size / 1228) };
}

describe("throughput in virtual time", () => {
  test.each<[string, LinkOptions, number]>([
    ["clean, 40 ms RTT", { delayMs: 20 }, 10],
    ["12.5 MB/s, 80 ms RTT", { delayMs: 40, rate: 12_500, queueBytes: 512 * 1024 }, 4],
    ["80 ms RTT, 0.1 % loss", { delayMs: 40, loss: 0.001 }, 0.3],
    ["80 ms RTT, 1 % loss", { delayMs: 40, loss: 0.01 }, 0.1],
    ["10 % reordered, 20 ms RTT", { delayMs: 10, reorder: 0.1 }, 5],
  ])("%s", async (_name, options, atLeast) => {
    const { rate } = await rateOf({ seed: 3, ...options }, 8 * MIB);
    expect(rate).toBeGreaterThan(atLeast);
  });
});
