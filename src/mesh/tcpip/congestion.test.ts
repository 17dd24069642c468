import { describe, expect, test } from "vitest";
import type { CongestionControl } from "./congestion.ts";
import { type LinkOptions, SimulatedLink, TestEnd } from "./simulated-link.ts";

const LINE = 1000; // bytes a ms
const RTT_MS = 40;
const PRODUCT = LINE * RTT_MS;

interface Measured {
  /** Share of the line that carried data. */
  readonly share: number;
  /** Of the packets sent, so many were lost. */
  readonly lost: number;
}

/** Sends for `ms` over a line that takes `LINE`, and measures the last half. */
async function run(congestion: CongestionControl, options: LinkOptions, ms: number): Promise<Measured> {
  const link = new SimulatedLink({
    seed: 7,
    delayMs: RTT_MS / 2,
    rate: LINE,
    queueBytes: PRODUCT,
    ...options,
    a: { congestion },
  });
  const [a, b] = await link.connect();
  a.send(new Uint8Array(LINE * ms * 2));
  link.pass(ms / 2);
  const [received, sent, dropped] = [b.received, link.sent, link.dropped];
  link.pass(ms / 2);
  expect(a.fault).toBeUndefined();
  return {
    share: (b.received - received) / (LINE * (ms / 2)),
    lost: (link.dropped - dropped) / (link.sent - sent),
  };
}

describe("how much of a line is used", () => {
  test.each<[CongestionControl, string, LinkOptions, number]>([
    ["bbr", "clean", {}, 0.9],
    ["bbr", "1 % lost", { loss: 0.01 }, 0.85],
    ["bbr", "3 % lost", { loss: 0.03 }, 0.75],
    ["bbr", "1 % lost, reordered, doubled", { loss: 0.01, reorder: 0.01, duplicate: 0.01 }, 0.8],
    ["bbr", "a tenth of the round trip as queue", { queueBytes: PRODUCT / 10 }, 0.75],
    ["cubic", "clean", {}, 0.85],
    ["cubic", "0.01 % lost", { loss: 0.0001 }, 0.7],
  ])("%s, %s", async (congestion, _name, options, atLeast) => {
    const { share } = await run(congestion, options, 8000);
    expect(share).toBeGreaterThan(atLeast);
  });

  test("CUBIC takes every loss for congestion: that is why it is not the default", async () => {
    const { share } = await run("cubic", { loss: 0.01 }, 8000);
    expect(share).toBeLessThan(0.6);
  });

  test("a queue of ten packets is not flooded for ever: losses stay few", async () => {
    const { share, lost } = await run("bbr", { queueBytes: 12_000 }, 12_000);
    expect(share).toBeGreaterThan(0.6);
    expect(lost).toBeLessThan(0.1);
  });
});

test("a line that turns narrow, then wide again, is followed", async () => {
  const options = { seed: 7, delayMs: RTT_MS / 2, rate: LINE, queueBytes: PRODUCT };
  const link = new SimulatedLink(options);
  const [a, b] = await link.connect();
  a.send(new Uint8Array(LINE * 30_000));
  const shareOver = (ms: number): number => {
    const before = b.received;
    link.pass(ms);
    return (b.received - before) / (options.rate * ms);
  };
  link.pass(5000);
  options.rate = LINE / 5;
  link.pass(5000);
  expect(shareOver(5000)).toBeGreaterThan(0.75);
  options.rate = LINE;
  link.pass(5000);
  expect(shareOver(5000)).toBeGreaterThan(0.75);
});

test("a transfer whose peer is reached another way, forty times as far, is soon as fast as before: it took ten seconds", async () => {
  const options = { seed: 7, delayMs: 0.5, rate: 10 * LINE, queueBytes: 400_000 };
  const link = new SimulatedLink(options);
  const [a, b] = await link.connect();
  a.send(new Uint8Array(10 * LINE * 20_000));
  link.pass(2000);
  options.delayMs = 20;
  for (const stack of [link.a, link.b]) stack.changePath(1);
  link.pass(1000);
  const before = b.received;
  link.pass(3000);
  expect((b.received - before) / (options.rate * 3000)).toBeGreaterThan(0.8);
});

test.each<CongestionControl>(["bbr", "cubic"])("two of %s on one line: neither starves", async (congestion) => {
  const link = new SimulatedLink({
    seed: 3,
    delayMs: RTT_MS / 2,
    rate: LINE,
    queueBytes: 2 * PRODUCT,
    a: { congestion },
  });
  const [first, firstEnd] = await link.connect(80);
  first.send(new Uint8Array(LINE * 40_000));
  link.pass(3000);
  const [second, secondEnd] = await link.connect(81);
  second.send(new Uint8Array(LINE * 40_000));
  link.pass(9000);
  const before = [firstEnd.received, secondEnd.received];
  link.pass(9000);
  const rates = [firstEnd.received - before[0]!, secondEnd.received - before[1]!];
  expect(Math.min(...rates) / Math.max(...rates)).toBeGreaterThan(0.2);
  expect((rates[0]! + rates[1]!) / (LINE * 9000)).toBeGreaterThan(0.85);
});

test("a short answer is not held back: ten segments leave at once, after a silence too", async () => {
  const link = new SimulatedLink({ delayMs: RTT_MS / 2 });
  const [a, b] = await link.connect();
  for (let round = 0; round < 3; round++) {
    const start = link.now;
    const before = b.received;
    a.send(new Uint8Array(12_000));
    link.run(() => b.received === before + 12_000);
    expect(link.now - start).toBeLessThan(RTT_MS / 2 + 2);
    link.pass(30_000);
  }
});

test("a link of ten gigabits without delay is not held back by the pace", async () => {
  const link = new SimulatedLink({ delayMs: 0.05 });
  const [a, b] = await link.connect();
  const end = new TestEnd(b.conn);
  a.send(new Uint8Array(32 << 20));
  const start = link.now;
  link.run(() => b.received + end.received >= 32 << 20);
  expect((32 << 20) / (link.now - start)).toBeGreaterThan(300_000); // bytes a ms
});
