import { describe, expect, test } from "vitest";
import { parsePrefix } from "../../base/address.ts";
import { Pair } from "./simulated-pair.ts";
import { Strangers } from "./strangers.ts";

/** B forgets A, as if the news of A had not come yet; the result lets it come. */
function unknown(pair: Pair): () => void {
  pair.b.device.removePeer(0);
  const peer = { publicKey: pair.a.publicKey, allowedIps: [parsePrefix("10.0.0.1/32")!] };
  return () => {
    pair.b.device.addPeer(peer, pair.now);
    pair.b.device.poll(pair.now);
    for (const datagram of pair.b.out.splice(0)) pair.deliver(pair.a, datagram);
    expect(pair.b.device.statistics(1)).toBeDefined();
  };
}

describe("a dial right after joining", () => {
  test("is answered when the news of the member comes, and not 5 s later", () => {
    const pair = new Pair();
    const arrive = unknown(pair);
    pair.send(pair.a, "hello");
    expect(pair.a.device.statistics(0)?.hasSession).toBe(false);
    pair.now += 700;
    arrive();
    expect(pair.a.device.statistics(0)).toMatchObject({ hasSession: true, staged: 0 });
    expect(pair.count(pair.a, 1)).toBe(1);
  });

  test("too late, the message is of no use any more", () => {
    const pair = new Pair();
    const arrive = unknown(pair);
    pair.send(pair.a, "hello");
    pair.now += 4001;
    arrive();
    expect(pair.a.device.statistics(0)?.hasSession).toBe(false);
  });
});

test("a flood of strangers costs nothing but their own memory of 16", () => {
  const strangers = new Strangers();
  for (let i = 0; i < 1000; i++) strangers.hold(`key ${i}`, Uint8Array.of(i), i, 0);
  const kept = Array.from({ length: 1000 }, (_, i) => strangers.take(`key ${i}`, 0)).filter((one) => one !== undefined);
  expect(kept.map(({ path }) => path)).toEqual(Array.from({ length: 16 }, (_, i) => 984 + i));
  strangers.hold("once", Uint8Array.of(1), 7, 0);
  expect([strangers.take("once", 1)?.path, strangers.take("once", 1)]).toEqual([7, undefined]);
});
