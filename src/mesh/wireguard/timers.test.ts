import { describe, expect, test } from "vitest";
import { chooseAead } from "../../crypto/aead/choose.ts";
import { Session } from "./session.ts";
import { ipv4, Pair } from "./simulated-pair.ts";

const aead = chooseAead();

describe("WG-8: timers", () => {
  test("a handshake without answer is tried every 5 s and a bit, then given up", () => {
    const pair = new Pair();
    pair.passes = () => false;
    pair.send(pair.a, "x");
    pair.advance(300_000);
    const times = pair.sent.map(({ at }) => at);
    expect(times).toHaveLength(20);
    times.slice(1).forEach((at, i) => {
      expect(at - times[i]!).toBeGreaterThanOrEqual(5_000);
      expect(at - times[i]!).toBeLessThanOrEqual(5_334);
    });
    expect(pair.a.device.statistics(0)?.staged).toBe(0);
  });

  test("data that is not answered is answered with a keepalive after 10 s", () => {
    const pair = new Pair();
    pair.send(pair.a, "x");
    pair.advance(9_999);
    expect(pair.count(pair.b, 4)).toBe(0);
    pair.advance(2);
    expect(pair.sent.at(-1)).toMatchObject({ at: 10_000, from: pair.b, type: 4, length: 32 });
    pair.advance(60_000);
    expect(pair.count(pair.a, 1)).toBe(1); // and so nobody thinks the other dead
  });

  test("15 s without an answer begin a new handshake", () => {
    const pair = new Pair();
    pair.send(pair.a, "x");
    pair.advance(11_000);
    pair.passes = (from) => from === pair.a;
    pair.send(pair.a, "lost answer");
    const sentAt = pair.now;
    pair.advance(16_000);
    const again = pair.sent.filter(({ type, from }) => type === 1 && from === pair.a)[1]!;
    expect(again.at - sentAt).toBeGreaterThanOrEqual(15_000);
    expect(again.at - sentAt).toBeLessThanOrEqual(15_334);
  });

  test("the initiator rekeys with its first packet after 120 s, the responder does not", () => {
    const pair = new Pair();
    pair.send(pair.a, "x");
    pair.advance(119_000);
    pair.send(pair.a, "119");
    pair.send(pair.b, "119");
    expect(pair.count(pair.a, 1)).toBe(1);
    pair.advance(1_500);
    pair.send(pair.b, "120.5");
    expect(pair.count(pair.a, 1) + pair.count(pair.b, 1)).toBe(1);
    pair.send(pair.a, "120.5");
    expect([pair.count(pair.a, 1), pair.count(pair.b, 1)]).toEqual([2, 0]);
    expect(pair.b.delivered).toEqual(["x", "119", "120.5"]);
  });

  test("an initiator that only receives rekeys 15 s before the end, once", () => {
    const pair = new Pair();
    pair.send(pair.a, "x");
    const incoming = (at: number) => {
      pair.now = at; // without polling: no timer of ours has a say
      pair.b.device.send(0, ipv4(2, 1, `${at}`), at);
      const [datagram] = pair.b.out.splice(0);
      pair.deliver(pair.a, datagram!);
      return pair.a.out.splice(0).map(([type]) => type);
    };
    expect(incoming(120_500)).toEqual([]);
    expect(incoming(165_000)).toEqual([]);
    expect(incoming(165_001)).toEqual([1]);
    expect(incoming(172_000)).toEqual([]);
  });

  test("180 s: refused both ways", () => {
    const pair = new Pair();
    pair.send(pair.a, "x");
    const slab = new Uint8Array(200);
    const length = pair.b.device.seal(0, ipv4(2, 1, "late"), slab, 0, pair.now);
    pair.now = 179_999;
    expect(pair.a.device.seal(0, ipv4(1, 2, "y"), new Uint8Array(200), 0, pair.now)).toBeGreaterThan(0);
    pair.now = 180_000;
    expect(pair.a.device.seal(0, ipv4(1, 2, "y"), new Uint8Array(200), 0, pair.now)).toBe(0);
    pair.deliver(pair.a, slab.subarray(0, length));
    expect(pair.a.delivered).toEqual([]);
    expect(pair.a.device.drops.expired).toBe(1);
  });

  test("540 s: keys are erased and nothing is due any more", () => {
    const pair = new Pair();
    pair.send(pair.a, "x");
    pair.advance(600_000);
    const slab = new Uint8Array(200);
    expect(pair.a.device.seal(0, ipv4(1, 2, "y"), slab, 0, pair.now)).toBe(0);
    expect([pair.a.device.deadline, pair.b.device.deadline]).toEqual([Infinity, Infinity]);
    pair.send(pair.b, "begins anew");
    expect(pair.a.delivered).toEqual(["begins anew"]);
  });

  test("a persistent keepalive begins the handshake and keeps it", () => {
    const pair = new Pair({ persistentKeepaliveMs: 25_000 });
    pair.advance(100_000);
    const times = pair.sent.filter(({ from, type }) => from === pair.a && type === 4).map(({ at }) => at);
    expect(times).toEqual([0, 25_000, 50_000, 75_000, 100_000]);
    pair.a.device.updatePeer(0, { persistentKeepaliveMs: 0 });
    pair.advance(100_000);
    expect(pair.count(pair.a, 4)).toBe(5);
  });

  test("WG-12: a stall of 20 s under traffic costs at most one more handshake", () => {
    const pair = new Pair();
    for (let i = 0; i < 20; i++) {
      pair.send(pair.a, `${i}`);
      pair.send(pair.b, `${i}`);
      pair.advance(500);
    }
    const before = pair.count(pair.a, 1) + pair.count(pair.b, 1);
    pair.now += 20_000;
    pair.advance(1_000);
    pair.send(pair.a, "after");
    pair.advance(10_000);
    expect(pair.b.delivered.at(-1)).toBe("after");
    expect(pair.count(pair.a, 1) + pair.count(pair.b, 1) - before).toBeLessThanOrEqual(1);
  });
});

describe("WG-9: counters end", () => {
  const session = (low: number, high: number) =>
    new Session(
      {
        peer: 0,
        localIndex: 1,
        remoteIndex: 2,
        sendKey: new Uint8Array(32),
        receiveKey: new Uint8Array(32),
        isInitiator: true,
        created: 0,
      },
      { low, high },
    );
  const slab = new Uint8Array(64);

  test("after 2^60 messages a session is worn", () => {
    const near = session(0xffffffff, 0x0fffffff);
    for (const expected of [false, false, true]) {
      expect(near.isWorn).toBe(expected);
      near.seal(aead, new Uint8Array(0), slab, 0, 1280);
    }
    expect(near.isWorn).toBe(true);
  });

  test("2^64 - 2^13 - 1 is neither sent nor received", () => {
    const near = session(0xffffdffe, 0xffffffff);
    expect(near.canSend(0)).toBe(true);
    near.seal(aead, new Uint8Array(0), slab, 0, 1280);
    expect(slab.slice(8, 16)).toEqual(Uint8Array.of(0xfe, 0xdf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff));
    expect(near.open(aead, 0xffffdffe, 0xffffffff, slab, 16, 16)).toBe("opened");
    expect(near.canSend(0)).toBe(false);
    expect(near.open(aead, 0xffffdfff, 0xffffffff, slab, 16, 16)).toBe("expired");
    expect(near.open(aead, 0xffffffff, 0xffffffff, slab, 16, 16)).toBe("expired");
  });

  test("WG-14: an erased session has zero keys and refuses both ways", () => {
    const [sendKey, receiveKey] = [new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)];
    const erased = new Session({
      peer: 0,
      localIndex: 1,
      remoteIndex: 2,
      sendKey,
      receiveKey,
      isInitiator: true,
      created: 0,
    });
    erased.erase();
    expect([...sendKey, ...receiveKey].every((byte) => byte === 0)).toBe(true);
    expect(erased.canSend(0)).toBe(false);
    expect(erased.open(aead, 0, 0, slab, 16, 16)).toBe("expired");
  });
});
