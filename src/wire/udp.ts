import { read16, write16 } from "./ip.ts";

/** RFC 768. */
export const UDP = { sourcePort: 0, destinationPort: 2, length: 4, checksum: 6, end: 8 } as const;

/** Reused for each datagram. */
export interface UdpView {
  sourcePort: number;
  destinationPort: number;
  payload: number;
  payloadLength: number;
  /** False: the sender computed none, which only IPv4 allows. */
  hasChecksum: boolean;
}

export function createUdpView(): UdpView {
  return { sourcePort: 0, destinationPort: 0, payload: 0, payloadLength: 0, hasChecksum: false };
}

/** False when the length lies. */
export function readUdp(slab: Uint8Array, offset: number, length: number, into: UdpView): boolean {
  if (length < UDP.end) return false;
  const claimed = read16(slab, offset + UDP.length);
  if (claimed < UDP.end || claimed > length) return false;
  into.sourcePort = read16(slab, offset + UDP.sourcePort);
  into.destinationPort = read16(slab, offset + UDP.destinationPort);
  into.payload = offset + UDP.end;
  into.payloadLength = claimed - UDP.end;
  into.hasChecksum = read16(slab, offset + UDP.checksum) !== 0;
  return true;
}

/** The checksum is left zero. */
export function writeUdpHeader(
  packet: Uint8Array,
  offset: number,
  sourcePort: number,
  destinationPort: number,
  payloadLength: number,
): void {
  write16(packet, offset + UDP.sourcePort, sourcePort);
  write16(packet, offset + UDP.destinationPort, destinationPort);
  write16(packet, offset + UDP.length, UDP.end + payloadLength);
  write16(packet, offset + UDP.checksum, 0);
}
