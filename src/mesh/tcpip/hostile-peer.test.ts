import { describe, expect, test } from "vitest";
import { seededRandom } from "../../base/random.ts";
import { checksumOf, sumPseudoHeader, sumWords } from "../../wire/checksum.ts";
import { write16, write32, writeIpHeader } from "../../wire/ip.ts";
import { FLAG, TCP, writeSack, writeTcpHeader } from "../../wire/tcp.ts";
import { Bench, OURS, opened, THEIRS } from "./scripted-peer.ts";
import { PacketWriter } from "./segment-writer.ts";
import { SimulatedLink } from "./simulated-link.ts";

describe("IP-4 blind attacks", () => {
  test("10,000 resets, SYNs and acknowledgments that miss: the connection lives, at most two answers a second", () => {
    const { bench, user, iss } = opened();
    let answers = 0;
    const random = seededRandom(1);
    for (let i = 0; i < 10_000; i++) {
      const far = 1 + (random(2)[0]! << 8) + random(1)[0]!;
      const [seq, ack] = [1001 + (far % 60_000) + 1, (iss + 5 + far) >>> 0];
      answers += bench.give(
        [
          { seq, flags: "R" },
          { seq, flags: "S" },
          { seq: 1001, ack, flags: "A" },
        ][i % 3]!,
      ).length;
      bench.now += 1;
    }
    expect(answers).toBeLessThanOrEqual(21); // 10 s
    expect(user.fault).toBeUndefined();
    bench.give({ seq: 1001, ack: iss + 1, flags: "PA", data: "still here" });
    expect(user.text).toBe("still here");
  });

  test("an old segment does not take the window back (SND.WL1)", () => {
    const { bench, user, iss } = opened();
    bench.give({ seq: 1001, ack: iss + 1, flags: "A", data: "ab", window: 40_000 });
    bench.give({ seq: 1003, ack: iss + 1, flags: "A", data: "cd", window: 40_000 });
    bench.give({ seq: 1001, ack: iss + 1, flags: "A", data: "ab", window: 0 }); // it was overtaken on its way
    user.conn!.write(new Uint8Array(1000));
    expect(bench.settled().some(({ length }) => length === 1000)).toBe(true);
  });
});

describe("IP-7 SACK", () => {
  test("10,000 options that overlap, lie backwards or beyond: nothing breaks, and each costs little", () => {
    const { bench, user, iss } = openedWithSack();
    user.conn!.write(new Uint8Array(200_000));
    bench.settled();
    const writer = new PacketWriter(1500);
    const random = seededRandom(2);
    const edges = new Uint32Array(6);
    const start = performance.now();
    for (let i = 0; i < 10_000; i++) {
      const draw = random(12);
      for (let j = 0; j < 6; j++) edges[j] = iss + 1 + (((draw[2 * j]! << 8) | draw[2 * j + 1]!) - 8192) * (i % 4);
      const at = writeSack(writer.bytes, 20 + TCP.end, edges, 3);
      writeTcpHeader(writer.bytes, 20, 4000, 80, 1001, (iss + 1) >>> 0, at - 20, FLAG.ack, 65_535);
      bench.raw(writer.sealTcp(THEIRS, OURS, sumPseudoHeader(THEIRS, OURS, 6), at - 20));
    }
    expect((performance.now() - start) / 10_000).toBeLessThan(1); // ms; it is some 5 µs on an idle machine
    expect(user.fault).toBeUndefined();
    expect(bench.stack.connections).toBe(1);
  });
});

/** As `opened`, with SACK agreed. */
function openedWithSack(): ReturnType<typeof opened> {
  const made = opened();
  const { bench, user } = made;
  const writer = new PacketWriter(1500);
  writer.bytes.set([1, 1, 4, 2, 2, 4, 1000 >> 8, 1000 & 255], 20 + TCP.end);
  writeTcpHeader(writer.bytes, 20, 4000, 80, 1000, 0, 28, FLAG.syn, 65_535);
  made.bench.give({ seq: 1001, flags: "R" });
  const [synAck] = bench.raw(writer.sealTcp(THEIRS, OURS, sumPseudoHeader(THEIRS, OURS, 6), 28));
  bench.give({ seq: 1001, ack: synAck!.seq + 1, flags: "A" });
  user.fault = undefined;
  return { bench, user, iss: synAck!.seq };
}

describe("IP-8 IP-9 memory", () => {
  test("every second byte of a 1 MiB window: what is held stays within 4 MiB", () => {
    const { bench, iss } = opened();
    globalThis.gc?.();
    const before = process.memoryUsage().arrayBuffers;
    for (let at = 0; at < 1 << 20; at += 1024) {
      for (let i = 0; i < 8; i++) {
        bench.give({ seq: 1002 + at + 2 * i, ack: iss + 1, flags: "A", data: "x" });
      }
    }
    expect(bench.stack.connections).toBe(1);
    globalThis.gc?.();
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(4 << 20);
  });

  test("1,000 windows closed for ever: probed ever more rarely, and all freed after 300 s", () => {
    const bench = new Bench();
    const faults: string[] = [];
    bench.stack.listenTcp(80, (conn) => {
      conn.attach({ data: () => {}, end: () => {}, drain: () => {}, abort: ({ code }) => void faults.push(code) });
      conn.write(new Uint8Array(64 * 1024));
    });
    for (let port = 1; port <= 1000; port++) {
      const [synAck] = bench.give({ seq: 1000, flags: "S", port, window: 0 });
      bench.give({ seq: 1001, ack: synAck!.seq + 1, flags: "A", port, window: 0 });
    }
    expect(bench.stack.connections).toBe(1000);
    const probes = bench.pass(310_000).filter(({ flags }) => flags === "A").length;
    expect(probes).toBeLessThan(15 * 1000);
    expect(faults.length).toBe(1000);
    expect(bench.stack.connections).toBe(0);
  });
});

describe("IP-10 half-open floods", () => {
  test("100,000 SYNs from one peer, and from 100 addresses of one: bounded, and another peer is answered at once", () => {
    const bench = new Bench();
    bench.stack.listenTcp(80, () => {});
    const writer = new PacketWriter(1500);
    const pseudo = new Map<number, number>();
    const syn = (host: number, port: number, peer: number) => {
      const remote = Uint8Array.of(100, 64, 1, host);
      if (!pseudo.has(host)) pseudo.set(host, sumPseudoHeader(remote, OURS, 6));
      writeTcpHeader(writer.bytes, 20, port, 80, 1, 0, 20, FLAG.syn, 100);
      return bench.raw(writer.sealTcp(remote, OURS, pseudo.get(host)!, 20), peer);
    };
    for (let i = 0; i < 50_000; i++) syn(1, 1 + i, 1);
    for (let i = 0; i < 50_000; i++) syn(2 + (i % 100), 1 + i, 1);
    expect(bench.stack.connections).toBeLessThanOrEqual(683);
    expect(syn(200, 5, 2)).toMatchObject([{ flags: "SA" }]);
    bench.pass(70_000);
    expect(bench.stack.connections).toBe(0);
  });
});

describe("IP-13 path MTU", () => {
  /** ICMP fragmentation needed, quoting a segment of ours. */
  function tooBig(sequence: number, mtu: number, ports: readonly [number, number] = [80, 4000]): Uint8Array {
    const packet = new Uint8Array(20 + 8 + 28);
    packet[20] = 3;
    packet[21] = 4;
    write16(packet, 26, mtu);
    const quoted = packet.subarray(28);
    writeIpHeader(quoted, OURS, THEIRS, 6, 1000);
    write16(quoted, 20, ports[0]);
    write16(quoted, 22, ports[1]);
    write32(quoted, 24, sequence);
    writeIpHeader(packet, THEIRS, OURS, 1, 36);
    write16(packet, 22, checksumOf(sumWords(packet, 20, 36)));
    return packet;
  }

  test.each<[string, (iss: number) => Uint8Array, number]>([
    ["of what is in flight: believed, and sent again at once", (iss) => tooBig(iss + 1, 700), 660],
    ["less than any path has: clamped", (iss) => tooBig(iss + 1, 68), 552 - 40],
    ["of what was never sent: ignored", (iss) => tooBig(iss + 9_000_000, 700), 0],
    ["of another connection: ignored", (iss) => tooBig(iss + 1, 700, [80, 4001]), 0],
    ["more than we use: ignored", (iss) => tooBig(iss + 1, 9000), 0],
  ])("%s", (_name, packet, longest) => {
    const { bench, user, iss } = opened(1240);
    user.conn!.write(new Uint8Array(5000));
    bench.settled();
    const sent = bench.raw(packet(iss));
    expect(Math.max(0, ...sent.map(({ length }) => length))).toBe(longest);
  });
});

describe("IP-15 our own delay", () => {
  test("timers that ran out while the loop stood still wait for what is in the socket", () => {
    const { bench, user, iss } = opened();
    user.conn!.write(new Uint8Array(10));
    bench.settled();
    bench.sent.length = 0;
    bench.now += 600; // the retransmission was due after 200 ms
    bench.stack.poll(bench.now);
    expect(bench.sent).toEqual([]);
    expect(bench.give({ seq: 1001, ack: iss + 11, flags: "A" })).toEqual([]);
    expect(bench.pass(5)).toEqual([]);
    user.conn!.write(new Uint8Array(10));
    bench.settled();
    bench.sent.length = 0;
    bench.now += 2000;
    bench.stack.poll(bench.now);
    expect(bench.sent).toEqual([]);
    bench.now += 1; // nothing was there
    expect(bench.settled()).toMatchObject([{ length: 10 }]);
  });

  test("a loop that stood still for 500 ms does not count as round-trip time", async () => {
    const link = new SimulatedLink({ delayMs: 10 });
    const [a, b] = await link.connect();
    for (let round = 0; round < 20; round++) {
      a.send(new Uint8Array(5000));
      link.pass(200);
    }
    a.send(new Uint8Array(5000));
    link.pass(5);
    link.now += 500; // what arrived meanwhile waits in the socket
    link.pass(500);
    a.send(new Uint8Array(10));
    const before = link.sent;
    link.pass(60);
    expect(link.sent - before).toBeLessThanOrEqual(3);
    expect(b.received).toBe(21 * 5000 + 10);
  });
});
