import { describe, expect, test } from "vitest";
import { parsePrefix } from "../../base/address.ts";
import { createBatch, STRIDE } from "../../base/packet.ts";
import { seededRandom } from "../../base/random.ts";
import { generatePrivateKey, publicKeyOf } from "../../crypto/keys.ts";
import { ipv4, Pair, START } from "./simulated-pair.ts";

describe("a session", () => {
  test("starts with the first packet, which arrives", () => {
    const pair = new Pair();
    pair.send(pair.a, "hello");
    expect(pair.b.delivered).toEqual(["hello"]);
    expect(pair.sent.map(({ type }) => type)).toEqual([1, 2, 4]);
    pair.send(pair.b, "back");
    expect(pair.a.delivered).toEqual(["back"]);
    expect(pair.a.device.statistics(0)).toMatchObject({ hasSession: true, lastHandshakeWall: START, staged: 0 });
  });

  test("with a preshared key on both sides", () => {
    const pair = new Pair({ presharedKey: new Uint8Array(32).fill(7) });
    pair.send(pair.a, "secret");
    expect(pair.b.delivered).toEqual(["secret"]);
  });

  test("not with a preshared key on one side", () => {
    const pair = new Pair();
    pair.b.device.removePeer(0);
    const presharedKey = new Uint8Array(32).fill(7);
    pair.b.device.addPeer({ publicKey: pair.a.publicKey, presharedKey, allowedIps: [parsePrefix("10.0.0.1/32")!] }, 0);
    pair.send(pair.a, "secret");
    expect(pair.b.delivered).toEqual([]);
    expect(pair.a.device.statistics(0)?.hasSession).toBe(false);
    expect(pair.a.device.drops.badHandshake).toBe(1);
  });

  test("both begin at once: both directions work", () => {
    const pair = new Pair();
    pair.a.device.send(0, ipv4(1, 2, "from a"), 0);
    pair.b.device.send(0, ipv4(2, 1, "from b"), 0);
    pair.settle();
    pair.advance(6_000);
    pair.send(pair.a, "again a");
    pair.send(pair.b, "again b");
    pair.advance(6_000);
    expect(new Set(pair.b.delivered)).toEqual(new Set(["from a", "again a"]));
    expect(new Set(pair.a.delivered)).toEqual(new Set(["from b", "again b"]));
  });

  test("128 packets wait for it, the oldest is dropped", () => {
    const pair = new Pair();
    for (let i = 0; i < 200; i++) pair.a.device.send(0, ipv4(1, 2, `${i}`), 0);
    pair.settle();
    expect(pair.b.delivered).toEqual(Array.from({ length: 128 }, (_, i) => `${i + 72}`));
  });

  test.each([
    [1, 32 + 32],
    [12, 64],
    [1236, 1280 + 32 - 16],
    [1244, 1280 + 32 - 16],
    [1245, 1280 + 32],
    [1260, 1280 + 32],
  ])("a payload of %i bytes makes a datagram of %i", (payload, expected) => {
    const pair = new Pair();
    pair.send(pair.a, "x");
    const slab = new Uint8Array(2000);
    const length = pair.a.device.seal(0, ipv4(1, 2, "y".repeat(payload)), slab, 8, pair.now);
    expect(length).toBe(expected);
    pair.deliver(pair.b, slab.subarray(8, 8 + length));
    expect(pair.b.delivered.at(-1)).toBe("y".repeat(payload));
  });

  test("an MTU that is no multiple of 16 is not exceeded", () => {
    const pair = new Pair({}, { mtu: 1285 });
    pair.send(pair.a, "x");
    expect(pair.a.device.seal(0, ipv4(1, 2, "y".repeat(1262)), new Uint8Array(2000), 0, pair.now)).toBe(1285 + 32);
  });

  test("survives 30 % loss, order turned round and everything twice", () => {
    const pair = new Pair();
    pair.send(pair.a, "first");
    const random = seededRandom(99);
    const slab = new Uint8Array(2000);
    const datagrams = Array.from({ length: 500 }, (_, i) => {
      const length = pair.a.device.seal(0, ipv4(1, 2, `${i}`), slab, 0, pair.now);
      return slab.slice(0, length);
    }).filter(() => random(1)[0]! > 77);
    for (const datagram of [...datagrams, ...datagrams].reverse()) pair.deliver(pair.b, datagram);
    expect(pair.b.delivered.length).toBe(1 + datagrams.length);
    expect(pair.b.device.drops.replayed).toBe(datagrams.length);
  });
});

test("a batch keeps its order while entries leave it", () => {
  const pair = new Pair();
  pair.send(pair.a, "x");
  const batch = createBatch(5, 4096);
  const sealed = (payload: Uint8Array, i: number) => {
    const length = pair.a.device.seal(0, payload, batch.slab, i * 500, pair.now);
    batch.at.set([i * 500, length, 9, -1], i * STRIDE);
  };
  sealed(ipv4(1, 2, "one"), 0);
  sealed(ipv4(9, 2, "forged source"), 1);
  sealed(new Uint8Array(0), 2);
  sealed(ipv4(1, 2, "two"), 3);
  batch.at.set([2000, 3, 9, -1], 4 * STRIDE);
  batch.count = 5;
  pair.b.device.open(batch, pair.now);
  expect(batch.count).toBe(2);
  expect(batch.at.subarray(0, 4)).toEqual(Int32Array.of(16, 23, 9, 0));
  expect(batch.at.subarray(STRIDE, STRIDE + 4)).toEqual(Int32Array.of(1516, 23, 9, 0));
});

describe("WG-7: onAuthenticated", () => {
  test("names the path of proven packets only", () => {
    const pair = new Pair();
    pair.send(pair.a, "x");
    const slab = new Uint8Array(200);
    const length = pair.a.device.seal(0, ipv4(1, 2, "y"), slab, 0, pair.now);
    const datagram = slab.slice(0, length);
    pair.b.authenticated.length = 0;
    pair.deliver(pair.b, datagram.with(30, datagram[30]! ^ 1), 3);
    expect(pair.b.authenticated).toEqual([]);
    pair.deliver(pair.b, datagram, 4);
    expect(pair.b.authenticated).toEqual([4]);
    pair.deliver(pair.b, datagram, 5); // a replay
    expect(pair.b.authenticated).toEqual([4]);
  });
});

describe("WG-10: weak points", () => {
  test("a static key of low order is no peer", () => {
    const pair = new Pair();
    expect(() => pair.a.device.addPeer({ publicKey: new Uint8Array(32), allowedIps: [] }, 0)).toThrow(/weak key/);
    expect(pair.a.device.peerOf(new Uint8Array(32))).toBeUndefined();
  });
});

describe("WG-11: stamps grow strictly", () => {
  test.each([
    ["frozen", () => START],
    ["ten years back", (i: number) => START - i * 1e11],
    ["forth and back", (i: number) => START + (i === 1 ? 3e11 : 0)],
  ])("with a wall clock that is %s", (_name, wallAt) => {
    let i = 0;
    const pair = new Pair({}, { wall: () => wallAt(i++), timestampFloor: START + 5 });
    for (let round = 0; round < 5; round++) {
      pair.now += 6_000;
      pair.a.device.initiate(0, pair.now);
      pair.settle();
      expect(pair.b.device.statistics(0)?.hasSession).toBe(true);
      expect(pair.a.stamps.at(-1)).toBeGreaterThan(pair.a.stamps.at(-2) ?? START + 5);
    }
  });
});

describe("peers", () => {
  test("WG-16: a removed peer is cut at once, another keeps its session", () => {
    const pair = new Pair();
    pair.send(pair.a, "x");
    const slab = new Uint8Array(200);
    const length = pair.a.device.seal(0, ipv4(1, 2, "y"), slab, 0, pair.now);
    pair.b.device.removePeer(0);
    pair.deliver(pair.b, slab.subarray(0, length));
    expect(pair.b.delivered).toEqual(["x"]);
    expect(pair.b.device.peerOf(pair.a.publicKey)).toBeUndefined();
    expect(pair.b.device.route(Uint8Array.of(10, 0, 0, 1), 0, 4)).toBe(-1);
    expect(pair.b.device.addPeer({ publicKey: pair.a.publicKey, allowedIps: [] }, pair.now)).toBe(1);
  });

  test("with a new key of ours the old sessions are void, and the same peer shakes hands anew at once", () => {
    const pair = new Pair();
    pair.send(pair.a, "before");
    const slab = new Uint8Array(200);
    const length = pair.b.device.seal(0, ipv4(2, 1, "under the old key"), slab, 0, pair.now);
    const key = generatePrivateKey(seededRandom(77));
    pair.a.device.setPrivateKey(key);
    pair.deliver(pair.a, slab.subarray(0, length));
    pair.b.device.removePeer(0);
    const index = pair.b.device.addPeer({ publicKey: publicKeyOf(key), allowedIps: [parsePrefix("10.0.0.1/32")!] }, 0);
    expect([pair.a.delivered, index]).toEqual([[], 1]);
    pair.a.device.send(0, ipv4(1, 2, "after"), pair.now);
    for (const datagram of pair.a.out.splice(0)) {
      const batch = createBatch(1, 4096);
      batch.slab.set(datagram);
      batch.at.set([0, datagram.length, 0, -1]);
      batch.count = 1;
      pair.b.device.open(batch, pair.now);
    }
    for (const answer of pair.b.out.splice(0)) pair.deliver(pair.a, answer);
    expect(pair.a.device.statistics(0)?.hasSession).toBe(true);
    expect(pair.b.device.drops.badHandshake).toBe(0);
  });

  test("after close nothing is delivered, sealed, sent or due", () => {
    const pair = new Pair();
    pair.send(pair.a, "x");
    const slab = new Uint8Array(200);
    const length = pair.a.device.seal(0, ipv4(1, 2, "y"), slab, 0, pair.now);
    pair.b.device.close();
    pair.deliver(pair.b, slab.subarray(0, length));
    pair.b.device.send(0, ipv4(2, 1, "z"), pair.now);
    pair.b.device.initiate(0, pair.now);
    expect([pair.b.delivered, pair.b.out, pair.b.device.deadline]).toEqual([["x"], [], Infinity]);
  });

  test("WG-15: 1,000 peers come and go, and the index table keeps nothing of them", () => {
    const pair = new Pair();
    const random = seededRandom(500);
    for (let i = 0; i < 1_000; i++) {
      const publicKey = publicKeyOf(generatePrivateKey(random));
      const address = Uint8Array.of(100, 64, i >> 8, i & 255);
      const index = pair.a.device.addPeer({ publicKey, allowedIps: [{ address, bits: 32 }] }, pair.now);
      expect(pair.a.device.route(address, 0, 4)).toBe(index);
      pair.a.device.initiate(index, pair.now);
      pair.a.device.removePeer(index);
      expect(pair.a.device.route(address, 0, 4)).toBe(-1);
    }
    pair.a.out.length = 0;
    pair.advance(10_000);
    expect(pair.a.device.deadline).toBe(Infinity);
    expect(pair.sent).toEqual([]);
  });

  test("WG-8: data for a session that is gone is told, so that a node that started anew is met at once", () => {
    const strays: number[] = [];
    const pair = new Pair({}, { onStray: (path) => strays.push(path) });
    pair.send(pair.a, "x");
    pair.b.device.forgetSessions(0, pair.now + 1);
    expect(pair.b.device.statistics(0)?.hasSession).toBe(true); // it may be of the new life already
    pair.advance(6000);
    pair.b.device.forgetSessions(0, pair.now);
    const slab = new Uint8Array(200);
    const length = pair.a.device.seal(0, ipv4(1, 2, "lost"), slab, 0, pair.now);
    pair.deliver(pair.b, slab.subarray(0, length), 7);
    expect([pair.b.delivered, strays]).toEqual([["x"], [7]]);
    pair.b.device.meet(0, pair.now);
    pair.settle();
    pair.b.device.meet(0, pair.now); // there is a session now
    expect(pair.b.out).toEqual([]);
    pair.send(pair.a, "again");
    expect(pair.b.delivered).toEqual(["x", "again"]);
  });

  test("WG-2: allowed addresses follow an update, also for the session that runs", () => {
    const pair = new Pair();
    pair.send(pair.a, "x");
    pair.b.device.updatePeer(0, { allowedIps: [parsePrefix("10.0.0.9/32")!] });
    pair.send(pair.a, "not mine any more");
    pair.a.device.send(0, ipv4(9, 2, "mine"), pair.now);
    pair.settle();
    expect(pair.b.delivered).toEqual(["x", "mine"]);
    expect(pair.b.device.route(Uint8Array.of(10, 0, 0, 9), 0, 4)).toBe(0);
  });
});
