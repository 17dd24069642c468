import type { Conn } from "../../base/conn.ts";
import type { Fault } from "../../base/fault.ts";
import { seededRandom } from "../../base/random.ts";
import { sumPseudoHeader } from "../../wire/checksum.ts";
import { createIpView, ipHeaderLength, readIp } from "../../wire/ip.ts";
import { createTcpSegment, FLAG, readTcp, TCP, writeMss, writeTcpHeader, writeTimestamps } from "../../wire/tcp.ts";
import { Netstack, type NetstackOptions } from "./netstack.ts";
import { PacketWriter } from "./segment-writer.ts";
import { batchOf } from "./simulated-link.ts";

/** For tests: one stack, and a hand that writes the other side's segments. */

export const OURS: Uint8Array = Uint8Array.of(100, 64, 0, 1);
export const THEIRS: Uint8Array = Uint8Array.of(100, 64, 0, 2);

/** A segment that the stack sent. */
export interface Sent {
  seq: number;
  ack: number;
  flags: string;
  length: number;
  window: number;
  sack: number[];
  mss: number;
  at: number;
  /** Our port. */
  from: number;
}

/** A segment of the other side. */
export interface Given {
  seq: number;
  ack?: number;
  flags: string;
  data?: string | Uint8Array;
  window?: number;
  mss?: number;
  timestamp?: [number, number];
  port?: number;
  /** Ours. */
  to?: number;
}

export const LETTERS: readonly [string, number][] = [
  ["F", FLAG.fin],
  ["S", FLAG.syn],
  ["R", FLAG.rst],
  ["P", FLAG.psh],
  ["A", FLAG.ack],
  ["U", FLAG.urg],
];

/** One stack, and a hand that writes the other side's segments. */
export class Bench {
  now: number = 0;
  readonly stack: Netstack;
  readonly sent: Sent[] = [];
  readonly #writer: PacketWriter = new PacketWriter(1500);

  constructor(more: Partial<NetstackOptions> = {}) {
    this.stack = new Netstack({
      addresses: [OURS],
      random: seededRandom(9),
      output: (packet) => this.#record(packet),
      proofOf: (_peer, source, destination) => ({ kind: "mesh", nodeKey: "ab", source, destination }),
      wake: () => {},
      now: () => this.now,
      ...more,
    });
  }

  #record(packet: Uint8Array): void {
    const ip = createIpView();
    const tcp = createTcpSegment();
    if (!readIp(packet, 0, packet.length, ip) || ip.protocol !== 6) return;
    if (!readTcp(packet, ip.payload, ip.payloadLength, tcp)) throw new Error("The stack sent a malformed segment");
    this.sent.push({
      seq: tcp.sequence,
      ack: tcp.acknowledgment,
      flags: LETTERS.filter(([, bit]) => (tcp.flags & bit) !== 0)
        .map(([letter]) => letter)
        .join(""),
      length: tcp.payloadLength,
      window: tcp.window,
      sack: [...tcp.sack.subarray(0, 2 * tcp.sackCount)],
      mss: tcp.mss,
      at: this.now,
      from: tcp.sourcePort,
    });
  }

  give(segment: Given): Sent[] {
    return this.raw(this.packet(segment));
  }

  /** Dead after the next one. */
  packet(segment: Given): Uint8Array {
    const { bytes } = this.#writer;
    const start = ipHeaderLength(THEIRS);
    const data = typeof segment.data === "string" ? new TextEncoder().encode(segment.data) : segment.data;
    let at = start + TCP.end;
    if (segment.mss !== undefined) at = writeMss(bytes, at, segment.mss);
    if (segment.timestamp !== undefined) at = writeTimestamps(bytes, at, ...segment.timestamp);
    const header = at - start;
    const flags = LETTERS.reduce((sum, [letter, bit]) => sum | (segment.flags.includes(letter) ? bit : 0), 0);
    const window = segment.window ?? 65_535;
    writeTcpHeader(
      bytes,
      start,
      segment.port ?? 4000,
      segment.to ?? 80,
      segment.seq,
      segment.ack ?? 0,
      header,
      flags,
      window,
    );
    if (data !== undefined) bytes.set(data, at);
    const length = header + (data?.length ?? 0);
    return this.#writer.sealTcp(THEIRS, OURS, sumPseudoHeader(THEIRS, OURS, 6), length);
  }

  raw(packet: Uint8Array, peer: number = 3): Sent[] {
    this.sent.length = 0;
    this.stack.input(batchOf([packet], peer), this.now);
    return this.settled();
  }

  settled(): Sent[] {
    while (this.stack.deadline <= this.now) this.stack.poll(this.now);
    return this.sent.slice();
  }

  pass(ms: number): Sent[] {
    this.sent.length = 0;
    const end = this.now + ms;
    while (this.stack.deadline <= end) {
      this.now = Math.max(this.now, this.stack.deadline);
      this.stack.poll(this.now);
    }
    this.now = end;
    return this.sent.slice();
  }
}

export class User {
  text: string = "";
  ended: boolean = false;
  fault: Fault | undefined;
  conn: Conn | undefined;
}

/** A bench with a connection that the other side opened: its next number is 1001, ours is `iss + 1`. */
export function opened(mss = 1000, credit = 1e6): { bench: Bench; user: User; iss: number } {
  const bench = new Bench();
  const user = new User();
  bench.stack.listenTcp(80, (conn) => {
    user.conn = conn;
    conn.attach({
      data: (view) => {
        user.text += new TextDecoder().decode(view);
      },
      end: () => {
        user.ended = true;
      },
      drain: () => {},
      abort: (fault) => {
        user.fault = fault;
      },
    });
    conn.credit(credit);
  });
  const [synAck] = bench.give({ seq: 1000, flags: "S", mss });
  bench.give({ seq: 1001, ack: synAck!.seq + 1, flags: "A" });
  if (user.conn === undefined) throw new Error("The stack did not accept the connection");
  return { bench, user, iss: synAck!.seq };
}
