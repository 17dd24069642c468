import { type Duplex, duplexPair } from "node:stream";
import { expect, test } from "vitest";
import { house, settle } from "../../../test/suites/derp-house.ts";
import { FakeClock } from "../../base/clock.ts";
import { silentLog } from "../../base/log.ts";
import { seededRandom } from "../../base/random.ts";
import { generatePrivateKey, publicKeyOf } from "../../crypto/keys.ts";
import type { DerpRegion } from "../../wire/tailcfg.ts";
import { DerpClients } from "./derp-clients.ts";

const region = (id: number): DerpRegion => ({ RegionID: id, RegionCode: `r${id}`, RegionName: `R${id}`, Nodes: [] });
const MAP = { Regions: { 1: region(1), 2: region(2) } };

/** Connections of one node to regions that are up or not. */
function pool(seed: number, clock: FakeClock, connect: (id: number) => Duplex | undefined) {
  const random = seededRandom(seed);
  const nodePrivateKey = generatePrivateKey(random);
  const tries: { readonly region: number; readonly at: number }[] = [];
  const got: { readonly region: number; readonly payload: Uint8Array }[] = [];
  const clients = new DerpClients({
    nodePrivateKey,
    random,
    clock,
    log: silentLog,
    map: () => MAP,
    onPacket: (from, _source, payload) => void got.push({ region: from, payload: payload.slice() }),
    connect: async ({ RegionID }) => {
      tries.push({ region: RegionID, at: clock.now() });
      const stream = connect(RegionID);
      if (stream === undefined) throw new Error("connection refused");
      return stream;
    },
  });
  return { clients, key: publicKeyOf(nodePrivateKey), tries, got };
}

async function pass(clock: FakeClock, ms: number, stepMs: number = 50): Promise<void> {
  for (let passed = 0; passed < ms; passed += stepMs) {
    clock.advance(stepMs);
    await settle();
  }
}

test("DD-6: a home that is away is asked again after growing waits that differ from node to node", async () => {
  const clock = new FakeClock();
  const [a, b] = [pool(1, clock, () => undefined), pool(2, clock, () => undefined)];
  for (const { clients } of [a, b]) clients.setHome(1);
  await settle();
  await pass(clock, 60_000);
  const waits = ({ tries }: typeof a) => tries.slice(1).map(({ at }, i) => at - tries[i]!.at);
  expect(waits(a).length).toBeGreaterThan(12); // 5 s at most
  expect(waits(a).length).toBeLessThan(40);
  expect(waits(a)[0]).toBeLessThanOrEqual(250);
  expect(Math.max(...waits(a))).toBeLessThanOrEqual(5050);
  expect(Math.min(...waits(a).slice(6))).toBeGreaterThanOrEqual(2450);
  expect(waits(a)).not.toEqual(waits(b));
  const before = a.tries.length;
  a.clients.linkChanged(); // a new network: no reason to wait for the old one
  await settle();
  expect(a.tries.length).toBe(before + 1);
});

test("another region is left after a minute without use; home stays", async () => {
  const { clock, ...relay } = house();
  const { clients } = pool(1, clock, () => {
    const [near, far] = duplexPair();
    relay.server.accept(far);
    return near;
  });
  clients.setHome(1);
  clients.send(2, new Uint8Array(32).fill(7), Uint8Array.of(1));
  await settle();
  expect(clients.connected).toEqual([1, 2]);
  await pass(clock, 80_000, 5000);
  expect(clients.connected).toEqual([1]);
});

test("a peer whose home is away is answered by the region that it was heard from", async () => {
  const { clock, ...relay } = house();
  const isUp = new Map([
    [1, true],
    [2, false],
  ]);
  const connect = (id: number): Duplex | undefined => {
    if (isUp.get(id) !== true) return undefined;
    const [near, far] = duplexPair();
    relay.server.accept(far);
    return near;
  };
  const [a, b] = [pool(1, clock, connect), pool(2, clock, connect)];
  a.clients.setHome(1);
  b.clients.setHome(1);
  await settle();
  b.clients.send(1, a.key, Uint8Array.of(1));
  await settle();
  a.clients.send(2, b.key, Uint8Array.of(2)); // the map says that b's home is 2
  await settle();
  expect(b.got).toEqual([{ region: 1, payload: Uint8Array.of(2) }]);
  expect(a.tries.map((one) => one.region)).toEqual([1]);
});
