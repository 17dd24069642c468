import { describe, expect, test } from "vitest";
import { seededRandom } from "../../base/random.ts";
import { checksumOf, sumWords } from "../../wire/checksum.ts";
import { createIpView, ipHeaderLength, readIp, write16, write32, writeIpHeader } from "../../wire/ip.ts";
import { Reassembly } from "./reassembly.ts";
import { B_ADDRESS, batchOf, SimulatedLink } from "./simulated-link.ts";

const FAMILIES: [string, Uint8Array, Uint8Array][] = [
  ["IPv4", Uint8Array.of(100, 64, 0, 1), Uint8Array.of(100, 64, 0, 2)],
  ["IPv6", new Uint8Array(16).fill(1), new Uint8Array(16).fill(2)],
];

interface Piece {
  readonly start: number;
  readonly bytes: Uint8Array;
  readonly hasMore: boolean;
  readonly id?: number;
}

function fragment(source: Uint8Array, destination: Uint8Array, { start, bytes, hasMore, id = 7 }: Piece): Uint8Array {
  const header = ipHeaderLength(source);
  if (source.length === 4) {
    const packet = new Uint8Array(header + bytes.length);
    writeIpHeader(packet, source, destination, 17, bytes.length);
    write16(packet, 4, id);
    write16(packet, 6, (start >> 3) | (hasMore ? 0x2000 : 0));
    write16(packet, 10, 0);
    write16(packet, 10, checksumOf(sumWords(packet, 0, 20)));
    packet.set(bytes, header);
    return packet;
  }
  const packet = new Uint8Array(header + 8 + bytes.length);
  writeIpHeader(packet, source, destination, 44, 8 + bytes.length);
  packet[40] = 17;
  write16(packet, 42, start | (hasMore ? 1 : 0));
  write32(packet, 44, id);
  packet.set(bytes, 48);
  return packet;
}

class Feed {
  readonly reassembly: Reassembly = new Reassembly();
  readonly #source: Uint8Array;
  readonly #destination: Uint8Array;

  constructor(source: Uint8Array, destination: Uint8Array) {
    this.#source = source;
    this.#destination = destination;
  }

  give(piece: Piece, peer: number = 1, now: number = 0): Uint8Array | undefined {
    const packet = fragment(this.#source, this.#destination, piece);
    const ip = createIpView();
    if (!readIp(packet, 0, packet.length, ip) || !(ip.isFragment || ip.protocol === 17))
      throw new Error("not a fragment");
    return this.reassembly.add(packet, 0, ip, peer, now);
  }
}

const bytesOf = (length: number, value: number = 1) => new Uint8Array(length).fill(value);

describe.each(FAMILIES)("IP-12 fragments of %s", (_name, source, destination) => {
  test("property: any packet cut anywhere, in any order, with duplicates, comes back whole", () => {
    const random = seededRandom(5);
    const draw = (below: number): number => ((random(2)[0]! << 8) | random(2)[1]!) % below;
    for (let round = 0; round < 200; round++) {
      const original = random(9 + draw(9000));
      const pieces: Piece[] = [];
      for (let start = 0; start < original.length; ) {
        const size = Math.min(8 * (40 + draw(100)), original.length - start);
        const end = original.length - start - size < 8 ? original.length : start + size;
        pieces.push({ start, bytes: original.slice(start, end), hasMore: end < original.length });
        start = end;
      }
      if (pieces.length === 1) continue;
      const feed = new Feed(source, destination);
      const order = pieces.map((piece) => ({ piece, key: draw(65_536) })).sort((a, b) => a.key - b.key);
      let got: Uint8Array | undefined;
      for (const { piece } of order) {
        if (got === undefined && draw(4) === 0) feed.give(order[0]!.piece);
        got = feed.give(piece) ?? got;
      }
      expect(got?.subarray(ipHeaderLength(source))).toEqual(original);
      const ip = createIpView();
      expect(readIp(got!, 0, got!.length, ip) && !ip.isFragment && ip.protocol === 17).toBe(true);
      expect(feed.reassembly.bytes).toBeLessThanOrEqual(original.length);
    }
  });

  test.each<[string, Piece[]]>([
    [
      "an overlap",
      [
        { start: 0, bytes: bytesOf(16), hasMore: true },
        { start: 8, bytes: bytesOf(8), hasMore: false },
      ],
    ],
    [
      "beyond the end",
      [
        { start: 8, bytes: bytesOf(8), hasMore: false },
        { start: 16, bytes: bytesOf(8), hasMore: true },
      ],
    ],
    [
      "two ends",
      [
        { start: 8, bytes: bytesOf(8), hasMore: false },
        { start: 16, bytes: bytesOf(8), hasMore: false },
      ],
    ],
  ])("%s ends the packet", (_what, pieces) => {
    const feed = new Feed(source, destination);
    for (const piece of pieces) expect(feed.give(piece)).toBeUndefined();
    expect(feed.reassembly.size).toBe(0);
    expect(feed.reassembly.bytes).toBe(0);
  });

  test("too long a packet, and a piece of odd length in the middle, are not kept", () => {
    const feed = new Feed(source, destination);
    feed.give({ start: 65_528, bytes: bytesOf(64), hasMore: false }); // the ping of death
    feed.give({ start: 8, bytes: bytesOf(13), hasMore: true });
    feed.give({ start: 8, bytes: bytesOf(0), hasMore: true });
    expect(feed.reassembly.size).toBe(0);
  });

  test("100,000 first pieces: 1 MiB in all, a quarter of it for one peer, gone after 30 s", () => {
    const feed = new Feed(source, destination);
    for (let id = 0; id < 100_000; id++) {
      feed.give({ start: 0, bytes: bytesOf(1232), hasMore: true, id: id & 0xffff }, 1, id / 1000);
    }
    expect(feed.reassembly.bytes).toBeLessThanOrEqual(256 * 1024);
    for (let id = 0; id < 5000; id++) {
      feed.give({ start: 0, bytes: bytesOf(1232), hasMore: true, id }, 2 + (id % 50), 100);
    }
    expect(feed.reassembly.bytes).toBeLessThanOrEqual(1024 * 1024);
    expect(feed.reassembly.size).toBeLessThanOrEqual(256);
    feed.reassembly.poll(130.1e3);
    expect([feed.reassembly.size, feed.reassembly.bytes]).toEqual([0, 0]);
    expect(feed.reassembly.deadline).toBe(Infinity);
  });
});

test("IP-12 an atomic IPv6 fragment is a packet of its own", () => {
  const [, source, destination] = FAMILIES[1]!;
  const feed = new Feed(source, destination);
  const whole = feed.give({ start: 0, bytes: bytesOf(20), hasMore: false });
  expect(whole?.subarray(40)).toEqual(bytesOf(20));
  expect(feed.reassembly.size).toBe(0);
});

test("IP-12 a datagram longer than the MTU is heard in pieces", () => {
  const sent: Uint8Array[] = [];
  const link = new SimulatedLink({ mtu: 9000, a: { output: (packet) => void sent.push(packet.slice()) } });
  let got = 0;
  link.b.listenUdp(53, (payload) => {
    got = payload.length;
  });
  link.a.listenUdp(0, () => {}).send(bytesOf(4000), { address: B_ADDRESS, port: 53 });
  const datagram = sent[0]!.subarray(20);
  for (const start of [1600, 0, 3200]) {
    const end = Math.min(start + 1600, datagram.length);
    const piece = { start, bytes: datagram.slice(start, end), hasMore: end < datagram.length };
    link.b.input(batchOf([fragment(FAMILIES[0]![1], FAMILIES[0]![2], piece)], 1), 5);
  }
  expect(got).toBe(4000);
});
