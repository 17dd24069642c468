import { describe, expect, test } from "vitest";
import { parsePrefix } from "../../base/address.ts";
import { createBatch } from "../../base/packet.ts";
import { seededRandom } from "../../base/random.ts";
import { chooseAead } from "../../crypto/aead/choose.ts";
import { generatePrivateKey, publicKeyOf } from "../../crypto/keys.ts";
import { WireGuard } from "./device.ts";
import { ipv4, Pair, START } from "./simulated-pair.ts";

const aead = chooseAead();

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

  test("100,000 packets with every kind of source that is not the peer's: none is delivered", () => {
    const pair = new Pair();
    pair.send(pair.a, "x");
    const random = seededRandom(11);
    const sources = [
      ["10.0.0.2", "10.0.0.3", "127.0.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.1", "169.254.0.1", "192.168.7.7"],
      ["::", "::1", "fd7a:115c:a1e0::2", "ff02::1", "fe80::1", "64:ff9b::a00:1", "2002:a00:1::1"],
    ].map((texts) => texts.map((text) => parsePrefix(text)!.address));
    const batch = createBatch(1, 4096);
    for (let i = 0; i < 100_000; i++) {
      const [kind = 0, which = 0, protocol = 0, fragment = 0, size = 0] = random(5);
      const family = sources[kind & 1]!;
      const source = family[which % family.length]!;
      const packet = new Uint8Array((source.length === 4 ? 20 : 40) + (size & 63));
      if (source.length === 4) {
        packet.set([0x45, 0, 0, packet.length, 0, 0, fragment & 0x3f, fragment, 64, protocol]);
        packet.set(source, 12);
        packet.set([10, 0, 0, 2], 16);
        if (protocol === 1 && packet.length >= 48) packet.set(ipv4(1, 2, ""), 28); // an error that quotes our flow
      } else {
        packet.set([0x60, 0, 0, 0, 0, packet.length - 40, protocol, 64]);
        packet.set(source, 8);
      }
      const length = pair.a.device.seal(0, packet, batch.slab, 0, pair.now);
      batch.at.set([0, length, 0, -1]);
      batch.count = 1;
      pair.b.device.open(batch, pair.now);
      if (batch.count !== 0) expect.unreachable(`${source.join(".")} got through`);
    }
    expect(pair.b.device.drops.wrongSource).toBe(100_000);
  });

  function mapped(): Uint8Array {
    const packet = new Uint8Array(48);
    packet.set([0x60, 0, 0, 0, 0, 8, 17, 64]);
    packet.set([0xff, 0xff, 10, 0, 0, 1], 8 + 10);
    return packet;
  }
});

test("WG-2: a prefix that moves 10,000 times under traffic is one peer's at any time", () => {
  const pair = new Pair();
  const b = pair.b.device;
  const shared = parsePrefix("10.0.0.7/32")!;
  // The second peer of b: a device whose peer has b's key.
  const out: Uint8Array[] = [];
  const privateKey = generatePrivateKey(seededRandom(77));
  const c = new WireGuard({
    privateKey,
    random: seededRandom(78),
    wall: () => START,
    aead,
    send: (_peer, _path, datagram) => out.push(datagram.slice()),
  });
  c.addPeer({ publicKey: pair.b.publicKey, allowedIps: [parsePrefix("10.0.0.2/32")!] }, 0);
  b.addPeer({ publicKey: publicKeyOf(privateKey), allowedIps: [parsePrefix("10.0.0.3/32")!] }, 0);
  pair.send(pair.a, "x");
  const batch = createBatch(1, 4096);
  const carry = (datagram: Uint8Array, to: WireGuard): number => {
    batch.slab.set(datagram);
    batch.at.set([0, datagram.length, 0, -1]);
    batch.count = 1;
    to.open(batch, 0);
    return batch.count;
  };
  c.initiate(0, 0);
  carry(out.splice(0)[0]!, b);
  carry(pair.b.out.splice(0)[0]!, c);
  carry(out.splice(0)[0]!, b);
  const slab = new Uint8Array(200);
  const passes = (from: WireGuard) => carry(slab.subarray(0, from.seal(0, ipv4(7, 2, "mine"), slab, 0, 0)), b);
  for (let i = 0; i < 10_000; i++) {
    const owner = i & 1;
    b.updatePeer(owner, { allowedIps: [shared] }); // it takes the prefix from the other
    expect([passes(pair.a.device), passes(c)]).toEqual(owner === 0 ? [1, 0] : [0, 1]);
    expect(b.route(shared.address, 0, 4)).toBe(owner);
  }
});

test("WG-3: a counter counts only once its packet is proved", () => {
  const pair = new Pair();
  pair.send(pair.a, "x");
  const slab = new Uint8Array(200);
  const sealed = slab.slice(0, pair.a.device.seal(0, ipv4(1, 2, "true"), slab, 0, pair.now));
  const forged = sealed.slice();
  for (const counter of [1, 100, 60_000, 0xffffffff]) {
    new DataView(forged.buffer).setUint32(8, counter, true);
    forged[20]! ^= 1;
    pair.deliver(pair.b, forged); // neither uses up our counter nor moves the window past it
  }
  pair.deliver(pair.b, sealed);
  pair.deliver(pair.b, sealed);
  expect(pair.b.delivered).toEqual(["x", "true"]);
  expect(pair.b.device.drops).toMatchObject({ forged: 4, replayed: 1 });
});

describe("WG-4: a handshake survives garbage", () => {
  test.each([
    ["cut short", (message: Uint8Array) => message.slice(0, -1)],
    ["too long", (message: Uint8Array) => Uint8Array.of(...message, 0)],
    ["of type 0", (message: Uint8Array) => message.with(0, 0)],
    ["of type 5", (message: Uint8Array) => message.with(0, 5)],
    ["of another type", (message: Uint8Array) => message.with(0, message[0] === 1 ? 2 : 1)],
    ["with a reserved byte set", (message: Uint8Array) => message.with(3, 1)],
    ["empty", () => new Uint8Array(0)],
  ])("a message %s is dropped, and the true one is still good", (_what, spoil) => {
    const pair = new Pair();
    pair.passes = (from, datagram) => {
      if (datagram[0] !== 4) pair.deliver(from === pair.a ? pair.b : pair.a, spoil(datagram));
      return true;
    };
    pair.send(pair.a, "hello");
    expect(pair.b.delivered).toEqual(["hello"]);
    expect(pair.b.device.drops.malformed + pair.b.device.drops.badHandshake).toBeGreaterThan(0);
    expect([pair.count(pair.a, 1), pair.count(pair.b, 2)]).toEqual([1, 1]);
  });

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

  test("more than 50 a second from one peer: one answer each 20 ms", () => {
    const pair = new Pair();
    const fresh: Uint8Array[] = [];
    for (let i = 0; i < 100; i++) {
      pair.a.device.initiate(0, 6_000 * i);
      fresh.push(pair.a.out.splice(0)[0]!);
    }
    for (const [i, initiation] of fresh.entries()) {
      pair.now = 1_000_000 + i; // 1,000 a second
      pair.deliver(pair.b, initiation);
    }
    expect(pair.b.out).toHaveLength(5);
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
