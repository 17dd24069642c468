import { describe, expect, test } from "vitest";
import { sumPseudoHeader } from "../../wire/checksum.ts";
import { read16, read32 } from "../../wire/ip.ts";
import { FLAG, writeTcpHeader } from "../../wire/tcp.ts";
import { Bench, OURS, THEIRS } from "./scripted-peer.ts";
import { PacketWriter } from "./segment-writer.ts";
import { Turns } from "./turns.ts";

const CROWD = 1;
const SINGLE = 2;

describe("IP-14 one peer with many connections", () => {
  test("each peer has its share of every turn", () => {
    const turns = new Turns<{ seenPeer: number; isScheduled: boolean; name: string }>();
    const make = (seenPeer: number, name: string) => ({ seenPeer, isScheduled: false, name });
    for (let i = 0; i < 100; i++) turns.add(make(CROWD, "crowd"));
    const single = make(SINGLE, "single");
    turns.add(single);
    turns.add(single); // once only
    const names = turns.next().map(({ name }) => name);
    expect(names.filter((name) => name === "single")).toHaveLength(1);
    expect(names).toHaveLength(9);
    let left = 0;
    while (!turns.isEmpty) left += turns.next().length;
    expect(left).toBe(92);
  });

  test("a peer with 600 connections that all have data: another's first window leaves among the first 100 packets", () => {
    const order: number[] = [];
    const answers = new Map<number, number>();
    const bench = new Bench({
      output: (packet, peer) => {
        if ((packet[33]! & FLAG.syn) !== 0) answers.set(read16(packet, 22), read32(packet, 24));
        else if (packet.length > 60) order.push(peer);
      },
    });
    const conns: { write(view: Uint8Array): boolean }[] = [];
    bench.stack.listenTcp(80, (conn) => {
      conn.attach({ data: () => {}, end: () => {}, drain: () => {}, abort: () => {} });
      conns.push(conn);
    });
    const writer = new PacketWriter(1500);
    const open = (port: number, peer: number) => {
      const pseudo = sumPseudoHeader(THEIRS, OURS, 6);
      writeTcpHeader(writer.bytes, 20, port, 80, 1000, 0, 20, FLAG.syn, 65_535);
      bench.raw(writer.sealTcp(THEIRS, OURS, pseudo, 20), peer);
      writeTcpHeader(writer.bytes, 20, port, 80, 1001, (answers.get(port)! + 1) >>> 0, 20, FLAG.ack, 65_535);
      bench.raw(writer.sealTcp(THEIRS, OURS, pseudo, 20), peer);
    };
    for (let i = 0; i < 600; i++) open(10_000 + i, CROWD);
    open(9999, SINGLE);
    expect(conns).toHaveLength(601);
    for (const conn of conns) conn.write(new Uint8Array(100_000));
    bench.settled();
    expect(order.length).toBe(6010); // ten segments of each
    expect(order.lastIndexOf(SINGLE)).toBeLessThan(100);
  });
});
