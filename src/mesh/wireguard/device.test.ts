import { describe, expect, test } from "vitest";
import { parsePrefix } from "../../base/address.ts";
import { createBatch, PACKET, STRIDE } from "../../base/packet.ts";
import { seededRandom } from "../../base/random.ts";
import { chooseAead } from "../../crypto/aead/choose.ts";
import { generatePrivateKey, publicKeyOf } from "../../crypto/keys.ts";
import { WireGuard, type WireGuardOptions, type WireGuardPeer } from "./device.ts";
import { Session } from "./session.ts";

const START = Date.UTC(2026, 0, 1);
const aead = chooseAead();

interface Node {
  readonly device: WireGuard;
  readonly address: number;
  /** Inner packets that arrived, as text of their payload. */
  readonly delivered: string[];
  /** Datagrams on their way out. */
  readonly out: Uint8Array[];
  readonly stamps: number[];
  readonly authenticated: number[];
  readonly publicKey: Uint8Array;
}

/** An IPv4 packet from 10.0.0.`from` to 10.0.0.`to`. */
function ipv4(from: number, to: number, payload: string): Uint8Array {
  const body = Buffer.from(payload);
  const packet = new Uint8Array(20 + body.length);
  packet.set([
    0x45,
    0,
    packet.length >> 8,
    packet.length & 0xff,
    0,
    0,
    0,
    0,
    64,
    17,
    0,
    0,
    10,
    0,
    0,
    from,
    10,
    0,
    0,
    to,
  ]);
  packet.set(body, 20);
  return packet;
}

/** Two devices and the link between them, under a time that tests move. */
class Pair {
  now = 0;
  readonly a: Node;
  readonly b: Node;
  /** Sees each datagram; false loses it. */
  passes: (from: Node, datagram: Uint8Array) => boolean = () => true;
  readonly sent: { readonly at: number; readonly from: Node; readonly type: number; readonly length: number }[] = [];

  constructor(peerOptions: Partial<WireGuardPeer> = {}, options: Partial<WireGuardOptions> = {}) {
    this.a = this.#node(1, options);
    this.b = this.#node(2, options);
    this.a.device.addPeer(
      { publicKey: this.b.publicKey, allowedIps: [parsePrefix("10.0.0.2/32")!], ...peerOptions },
      0,
    );
    this.b.device.addPeer(
      {
        publicKey: this.a.publicKey,
        allowedIps: [parsePrefix("10.0.0.1/32")!],
        ...(peerOptions.presharedKey === undefined ? {} : { presharedKey: peerOptions.presharedKey }),
      },
      0,
    );
  }

  #node(address: number, options: Partial<WireGuardOptions>): Node {
    const random = seededRandom(address);
    const privateKey = generatePrivateKey(random);
    const out: Uint8Array[] = [];
    const stamps: number[] = [];
    const authenticated: number[] = [];
    const device = new WireGuard({
      privateKey,
      random,
      wall: () => START + this.now,
      aead,
      onTimestamp: (stamp) => stamps.push(stamp),
      onAuthenticated: (_peer, path) => authenticated.push(path),
      send: (_peer, _path, datagram) => out.push(datagram.slice()),
      ...options,
    });
    return { device, address, delivered: [], out, stamps, authenticated, publicKey: publicKeyOf(privateKey) };
  }

  /** Hands one datagram to a node. */
  deliver(to: Node, datagram: Uint8Array, path = 0): void {
    const batch = createBatch(4, 4096);
    batch.slab.set(datagram, 100);
    batch.at.set([100, datagram.length, path, -1]);
    batch.count = 1;
    to.device.open(batch, this.now);
    for (let i = 0; i < batch.count; i++) {
      const at = batch.at[i * STRIDE + PACKET.offset]!;
      expect(batch.at[i * STRIDE + PACKET.peer]).toBe(0);
      const packet = batch.slab.slice(at, at + batch.at[i * STRIDE + PACKET.length]!);
      to.delivered.push(Buffer.from(packet.subarray(20)).toString());
    }
  }

  /** Carries datagrams until there are none. */
  settle(): void {
    while (this.a.out.length + this.b.out.length > 0) {
      for (const [from, to] of [
        [this.a, this.b],
        [this.b, this.a],
      ] as const) {
        for (const datagram of from.out.splice(0)) {
          this.sent.push({ at: this.now, from, type: datagram[0]!, length: datagram.length });
          if (this.passes(from, datagram)) this.deliver(to, datagram);
        }
      }
    }
  }

  send(from: Node, payload: string): void {
    const to = from === this.a ? this.b : this.a;
    from.device.send(0, ipv4(from.address, to.address, payload), this.now);
    this.settle();
  }

  /** Moves time on, polling whenever a device asks for it. */
  advance(ms: number): void {
    const end = this.now + ms;
    for (;;) {
      const next = Math.min(this.a.device.deadline, this.b.device.deadline);
      if (next > end) break;
      this.now = Math.max(this.now, next);
      this.a.device.poll(this.now);
      this.b.device.poll(this.now);
      this.settle();
    }
    this.now = end;
  }

  count(from: Node, type: number): number {
    return this.sent.filter((datagram) => datagram.from === from && datagram.type === type).length;
  }
}

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

describe("WG-1: the inner source belongs to the sending key", () => {
  test.each([
    ["another peer's", ipv4(3, 2, "x")],
    ["the receiver's own", ipv4(2, 2, "x")],
    ["unspecified", ipv4(0, 2, "x").fill(0, 12, 16)],
    ["broadcast", ipv4(0, 2, "x").fill(255, 12, 16)],
    ["IPv6 with a mapped source", mapped()],
  ])("%s address is dropped and counted", (_name, packet) => {
    const pair = new Pair();
    pair.send(pair.a, "x");
    pair.a.device.send(0, packet, pair.now);
    pair.settle();
    expect(pair.b.delivered).toEqual(["x"]);
    expect(pair.b.device.drops.wrongSource).toBe(1);
  });

  test.each([
    ["no IP version", Uint8Array.of(0x15, 0, 0, 20, ...new Uint8Array(16))],
    ["a length beyond the plaintext", ipv4(1, 2, "x").with(3, 200)],
    ["a length below the header", ipv4(1, 2, "x").with(3, 19)],
    ["an IPv6 header cut short", Uint8Array.of(0x60, ...new Uint8Array(15))],
  ])("%s is dropped", (_name, packet) => {
    const pair = new Pair();
    pair.send(pair.a, "x");
    pair.a.device.send(0, packet, pair.now);
    pair.settle();
    expect(pair.b.delivered).toEqual(["x"]);
    expect(pair.b.device.drops.malformed).toBe(1);
  });

  function mapped(): Uint8Array {
    const packet = new Uint8Array(48);
    packet.set([0x60, 0, 0, 0, 0, 8, 17, 64]);
    packet.set([0xff, 0xff, 10, 0, 0, 1], 8 + 10);
    return packet;
  }
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

describe("WG-4: a handshake survives garbage", () => {
  test("1,000 forged responses and cookie replies before the true one", () => {
    const pair = new Pair({}, { sourceOf: () => Uint8Array.of(1) });
    const held: Uint8Array[] = [];
    pair.passes = (from, datagram) => {
      if (from === pair.b) held.push(datagram);
      return from === pair.a;
    };
    pair.send(pair.a, "hello");
    const response = held[0]!;
    const cookie = new Uint8Array(64);
    cookie[0] = 3;
    cookie.set(response.subarray(8, 12), 4);
    for (let i = 0; i < 1_000; i++) {
      const forged = response.slice();
      forged[12 + (i % 80)]! ^= 1 + (i % 255);
      pair.deliver(pair.a, forged);
      cookie.fill(i, 8);
      pair.deliver(pair.a, cookie);
    }
    pair.passes = () => true;
    pair.deliver(pair.a, response);
    pair.settle();
    expect(pair.b.delivered).toEqual(["hello"]);
    expect(pair.count(pair.a, 1)).toBe(1);
  });

  test("WG-13: 20,000 mutated datagrams throw nothing and deliver nothing new", () => {
    const pair = new Pair();
    const seeds: Uint8Array[] = [];
    pair.passes = (_from, datagram) => {
      seeds.push(datagram);
      return true;
    };
    pair.send(pair.a, "hello");
    pair.send(pair.b, "hello");
    const random = seededRandom(4);
    for (let i = 0; i < 20_000; i++) {
      const [which = 0, cut = 0, at = 0, bits = 0, at2 = 0] = random(5);
      const seed = seeds[which % seeds.length]!;
      const bytes = seed.slice(0, i % 3 === 0 ? cut % (seed.length + 1) : seed.length);
      if (bytes.length > 0) {
        bytes[i % 2 === 0 ? (at % 20) % bytes.length : at % bytes.length]! ^= bits;
        bytes[at2 % bytes.length]! ^= 1;
      }
      pair.now += 1;
      pair.deliver(i % 2 === 0 ? pair.a : pair.b, bytes);
      pair.a.out.length = 0;
      pair.b.out.length = 0;
    }
    expect(pair.a.delivered.length + pair.b.delivered.length).toBe(2);
  });
});

describe("WG-5: initiations", () => {
  test("the same one twice, and an older one, get no answer", () => {
    const pair = new Pair();
    pair.a.device.initiate(0, 0);
    const old = pair.a.out.splice(0)[0]!;
    pair.now = 6_000;
    pair.a.device.initiate(0, pair.now);
    const newer = pair.a.out.splice(0)[0]!;
    pair.deliver(pair.b, newer);
    expect(pair.b.out.splice(0)).toHaveLength(1);
    for (const replay of [newer, old, newer]) {
      pair.now += 100;
      pair.deliver(pair.b, replay);
      expect(pair.b.out).toHaveLength(0);
    }
    expect(pair.b.device.drops.badHandshake).toBe(3);
  });

  test("an unknown key gets silence", () => {
    const pair = new Pair();
    const out: Uint8Array[] = [];
    const device = new WireGuard({
      privateKey: generatePrivateKey(seededRandom(55)),
      random: seededRandom(56),
      wall: () => START,
      aead,
      send: (_peer, _path, datagram) => out.push(datagram.slice()),
    });
    device.addPeer({ publicKey: pair.b.publicKey, allowedIps: [] }, 0);
    device.initiate(0, 0);
    pair.deliver(pair.b, out[0]!);
    expect(pair.b.out).toHaveLength(0);
    expect(pair.b.authenticated).toEqual([]);
  });
});

test("WG-6: under load, cookies are asked for, and the known peer still gets in at its second try", () => {
  const pair = new Pair();
  pair.a.device.initiate(0, 0);
  const [initiation] = pair.a.out.splice(0);
  const junk = initiation!.slice();
  for (let i = 0; i < 200; i++) pair.deliver(pair.b, junk, 7); // mac1 is right, so each costs a handshake
  const replies = pair.b.out.splice(0);
  expect(replies.filter((reply) => reply[0] === 3 && reply.length === 64).length).toBeGreaterThan(60);

  pair.now = 6_000;
  pair.a.device.poll(pair.now);
  const flood = () => {
    for (let i = 0; i < 300; i++) pair.deliver(pair.b, junk, 7);
    pair.b.out.splice(0);
  };
  flood();
  pair.settle(); // the retransmitted initiation gets a cookie
  expect(pair.count(pair.b, 3)).toBe(1);
  expect(pair.b.device.statistics(0)?.hasSession).toBe(false);
  pair.now = 12_000;
  flood();
  pair.a.device.poll(pair.now);
  pair.settle();
  expect(pair.b.device.statistics(0)?.hasSession).toBe(true);
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
