import { sumPseudoHeader } from "../../wire/checksum.ts";
import { ipHeaderLength, PROTOCOL } from "../../wire/ip.ts";
import {
  FLAG,
  TCP,
  writeMss,
  writeSack,
  writeSackPermitted,
  writeTcpHeader,
  writeTimestamps,
  writeWindowScale,
} from "../../wire/tcp.ts";
import { FIRST_WINDOW, OUR_WINDOW_SCALE, type Receiver } from "./receiver.ts";
import type { ByteRing } from "./ring.ts";
import type { PacketWriter } from "./segment-writer.ts";
import type { Terms } from "./terms.ts";

/** The two ends of a connection. */
export class ConnectionKey {
  readonly local: Uint8Array;
  readonly localPort: number;
  readonly remote: Uint8Array;
  readonly remotePort: number;
  /** Of the checksum: what depends on the addresses alone. */
  readonly pseudoSum: number;

  constructor(local: Uint8Array, localPort: number, remote: Uint8Array, remotePort: number) {
    this.local = local;
    this.localPort = localPort;
    this.remote = remote;
    this.remotePort = remotePort;
    this.pseudoSum = sumPseudoHeader(local, remote, PROTOCOL.tcp);
  }
}

const MOST_BLOCKS = 4;
const BLOCKS_BESIDE_TIMESTAMPS = 3;
const sackEdges = new Uint32Array(2 * MOST_BLOCKS);

/** Writes the segments of all connections of a stack into its one packet. Each result is dead after the next call. */
export class TcpWriter {
  readonly #packet: PacketWriter;

  constructor(packet: PacketWriter) {
    this.#packet = packet;
  }

  get mtu(): number {
    return this.#packet.mtu;
  }

  syn(key: ConnectionKey, terms: Terms, isAnswer: boolean, now: number): Uint8Array {
    const { bytes, mtu } = this.#packet;
    const start = ipHeaderLength(key.local);
    let at = start + TCP.end;
    at = writeMss(bytes, at, mtu - start - TCP.end);
    if (terms.hasTimestamps) at = writeTimestamps(bytes, at, terms.clock(now), isAnswer ? terms.recent : 0);
    if (terms.hasSack) at = writeSackPermitted(bytes, at);
    if (terms.hasScale) at = writeWindowScale(bytes, at, OUR_WINDOW_SCALE);
    const acknowledgment = isAnswer ? (terms.irs + 1) >>> 0 : 0;
    const flags = FLAG.syn | (isAnswer ? FLAG.ack : 0);
    const { localPort, remotePort } = key;
    writeTcpHeader(bytes, start, localPort, remotePort, terms.iss, acknowledgment, at - start, flags, FIRST_WINDOW);
    return this.#packet.sealTcp(key.local, key.remote, key.pseudoSum, at - start);
  }

  /** Bytes [position, position + length) of `ring`. One without any reports gaps, and needs none. */
  segment(
    key: ConnectionKey,
    terms: Terms,
    receiver: Receiver,
    ring: ByteRing | undefined,
    position: number,
    length: number,
    flags: number,
    now: number,
  ): Uint8Array {
    const { bytes } = this.#packet;
    const start = ipHeaderLength(key.local);
    let at = start + TCP.end;
    if (terms.hasTimestamps) at = writeTimestamps(bytes, at, terms.clock(now), terms.recent);
    if (length === 0 && terms.hasSack && receiver.hasReport) {
      const most = terms.hasTimestamps ? BLOCKS_BESIDE_TIMESTAMPS : MOST_BLOCKS;
      const count = receiver.reportRanges(sackEdges, terms.irs, most);
      if (count > 0) at = writeSack(bytes, at, sackEdges, count);
    }
    const sequence = (terms.iss + position) >>> 0;
    const acknowledgment = (terms.irs + receiver.next) >>> 0;
    const { localPort, remotePort } = key;
    const all = flags | FLAG.ack;
    const window = receiver.promise();
    writeTcpHeader(bytes, start, localPort, remotePort, sequence, acknowledgment, at - start, all, window);
    if (length > 0) ring?.read(position, length, bytes, at);
    return this.#packet.sealTcp(key.local, key.remote, key.pseudoSum, at - start + length);
  }

  /** `acknowledgment` -1: none. */
  reset(key: ConnectionKey, sequence: number, acknowledgment: number): Uint8Array {
    const { bytes } = this.#packet;
    const start = ipHeaderLength(key.local);
    const flags = FLAG.rst | (acknowledgment < 0 ? 0 : FLAG.ack);
    const { localPort, remotePort } = key;
    writeTcpHeader(bytes, start, localPort, remotePort, sequence, Math.max(0, acknowledgment), TCP.end, flags, 0);
    return this.#packet.sealTcp(key.local, key.remote, key.pseudoSum, TCP.end);
  }
}
