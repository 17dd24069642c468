import { read16, read32, write16, write32 } from "./ip.ts";

/** RFC 9293 §3.1. */
export const TCP = {
  sourcePort: 0,
  destinationPort: 2,
  sequence: 4,
  acknowledgment: 8,
  dataOffset: 12,
  flags: 13,
  window: 14,
  checksum: 16,
  urgent: 18,
  end: 20,
} as const;

export const FLAG = { fin: 1, syn: 2, rst: 4, psh: 8, ack: 16, urg: 32 } as const;

const OPTION = { end: 0, nop: 1, mss: 2, windowScale: 3, sackPermitted: 4, sack: 5, timestamps: 8 } as const;

/** RFC 7323 §2.3: a larger shift is treated as this. */
export const LARGEST_WINDOW_SCALE = 14;
/** Bytes that timestamps cost each segment, with their padding. */
export const TIMESTAMPS_BYTES = 12;
const TIMESTAMPS_WORD = 0x0101080a; // nop, nop, timestamps, length 10

/** One received segment. Reused, so that reading allocates nothing. Numbers are those of the wire, unsigned. */
export interface TcpSegment {
  sourcePort: number;
  destinationPort: number;
  sequence: number;
  acknowledgment: number;
  flags: number;
  window: number;
  /** Position in the slab. */
  payload: number;
  payloadLength: number;
  /** -1: not offered. */
  mss: number;
  /** -1: not offered. */
  windowScale: number;
  isSackPermitted: boolean;
  hasTimestamps: boolean;
  timestamp: number;
  timestampEcho: number;
  /** Pairs in `sack`: left edge, right edge. */
  sackCount: number;
  readonly sack: Uint32Array;
}

export function createTcpSegment(): TcpSegment {
  return {
    sourcePort: 0,
    destinationPort: 0,
    sequence: 0,
    acknowledgment: 0,
    flags: 0,
    window: 0,
    payload: 0,
    payloadLength: 0,
    mss: -1,
    windowScale: -1,
    isSackPermitted: false,
    hasTimestamps: false,
    timestamp: 0,
    timestampEcho: 0,
    sackCount: 0,
    sack: new Uint32Array(8),
  };
}

/** False when the segment is malformed: too short, or options that lie about their length. */
export function readTcp(slab: Uint8Array, offset: number, length: number, into: TcpSegment): boolean {
  if (length < TCP.end) return false;
  const headerLength = (slab[offset + TCP.dataOffset]! >> 4) * 4;
  if (headerLength < TCP.end || headerLength > length) return false;
  into.sourcePort = read16(slab, offset + TCP.sourcePort);
  into.destinationPort = read16(slab, offset + TCP.destinationPort);
  into.sequence = read32(slab, offset + TCP.sequence);
  into.acknowledgment = read32(slab, offset + TCP.acknowledgment);
  into.flags = slab[offset + TCP.flags]! & 0x3f;
  into.window = read16(slab, offset + TCP.window);
  into.payload = offset + headerLength;
  into.payloadLength = length - headerLength;
  into.mss = -1;
  into.windowScale = -1;
  into.isSackPermitted = false;
  into.sackCount = 0;
  if (headerLength === TCP.end + TIMESTAMPS_BYTES && read32(slab, offset + TCP.end) === TIMESTAMPS_WORD) {
    into.hasTimestamps = true; // what nearly every segment of a bulk transfer looks like
    into.timestamp = read32(slab, offset + TCP.end + 4);
    into.timestampEcho = read32(slab, offset + TCP.end + 8);
    return true;
  }
  into.hasTimestamps = false;
  return readOptions(slab, offset + TCP.end, offset + headerLength, into);
}

function readOptions(slab: Uint8Array, start: number, end: number, into: TcpSegment): boolean {
  let at = start;
  while (at < end) {
    const kind = slab[at]!;
    if (kind === OPTION.end) return true;
    if (kind === OPTION.nop) {
      at++;
      continue;
    }
    if (at + 1 >= end) return false;
    const size = slab[at + 1]!;
    if (size < 2 || at + size > end) return false;
    if (kind === OPTION.mss && size === 4) into.mss = read16(slab, at + 2);
    else if (kind === OPTION.windowScale && size === 3)
      into.windowScale = Math.min(slab[at + 2]!, LARGEST_WINDOW_SCALE);
    else if (kind === OPTION.sackPermitted && size === 2) into.isSackPermitted = true;
    else if (kind === OPTION.timestamps && size === 10) {
      into.hasTimestamps = true;
      into.timestamp = read32(slab, at + 2);
      into.timestampEcho = read32(slab, at + 6);
    } else if (kind === OPTION.sack && size % 8 === 2 && size > 2) {
      into.sackCount = Math.min(4, (size - 2) >> 3);
      for (let i = 0; i < into.sackCount * 2; i++) into.sack[i] = read32(slab, at + 2 + 4 * i);
    }
    at += size;
  }
  return true;
}

/** Writes the fixed header; the checksum is left zero. `headerLength` includes the options written after it. */
export function writeTcpHeader(
  packet: Uint8Array,
  offset: number,
  sourcePort: number,
  destinationPort: number,
  sequence: number,
  acknowledgment: number,
  headerLength: number,
  flags: number,
  window: number,
): void {
  write16(packet, offset + TCP.sourcePort, sourcePort);
  write16(packet, offset + TCP.destinationPort, destinationPort);
  write32(packet, offset + TCP.sequence, sequence);
  write32(packet, offset + TCP.acknowledgment, acknowledgment);
  packet[offset + TCP.dataOffset] = headerLength << 2;
  packet[offset + TCP.flags] = flags;
  write16(packet, offset + TCP.window, window);
  write32(packet, offset + TCP.checksum, 0);
}

/** Each writer returns the position after what it wrote; all keep the header a multiple of four bytes. */
export function writeMss(packet: Uint8Array, at: number, mss: number): number {
  packet[at] = OPTION.mss;
  packet[at + 1] = 4;
  write16(packet, at + 2, mss);
  return at + 4;
}

export function writeWindowScale(packet: Uint8Array, at: number, scale: number): number {
  packet[at] = OPTION.nop;
  packet[at + 1] = OPTION.windowScale;
  packet[at + 2] = 3;
  packet[at + 3] = scale;
  return at + 4;
}

export function writeSackPermitted(packet: Uint8Array, at: number): number {
  packet[at] = OPTION.nop;
  packet[at + 1] = OPTION.nop;
  packet[at + 2] = OPTION.sackPermitted;
  packet[at + 3] = 2;
  return at + 4;
}

export function writeTimestamps(packet: Uint8Array, at: number, value: number, echo: number): number {
  write32(packet, at, TIMESTAMPS_WORD);
  write32(packet, at + 4, value);
  write32(packet, at + 8, echo);
  return at + TIMESTAMPS_BYTES;
}

/** `edges` holds `count` pairs. */
export function writeSack(packet: Uint8Array, at: number, edges: Uint32Array, count: number): number {
  packet[at] = OPTION.nop;
  packet[at + 1] = OPTION.nop;
  packet[at + 2] = OPTION.sack;
  packet[at + 3] = 2 + 8 * count;
  for (let i = 0; i < 2 * count; i++) write32(packet, at + 4 + 4 * i, edges[i]!);
  return at + 4 + 8 * count;
}
