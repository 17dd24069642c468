import { checksumOf, sumWords } from "./checksum.ts";

export const PROTOCOL = { icmp: 1, tcp: 6, udp: 17, icmpv6: 58, noNext: 59 } as const;

/** RFC 791 §3.1. */
export const IPV4 = {
  versionIhl: 0,
  dscpEcn: 1,
  totalLength: 2,
  id: 4,
  fragment: 6,
  ttl: 8,
  protocol: 9,
  checksum: 10,
  source: 12,
  destination: 16,
  end: 20,
} as const;

/** RFC 8200 §3. */
export const IPV6 = {
  version: 0,
  payloadLength: 4,
  nextHeader: 6,
  hopLimit: 7,
  source: 8,
  destination: 24,
  end: 40,
} as const;

const HOP_LIMIT = 64; // what gVisor and Linux send
const DONT_FRAGMENT = 0x40;

/** Where the parts of one packet stand in its slab. Reused for each packet, so that reading allocates nothing. */
export interface IpView {
  isIpv6: boolean;
  addressLength: number;
  source: number;
  destination: number;
  protocol: number;
  payload: number;
  payloadLength: number;
  isFragment: boolean;
}

export function createIpView(): IpView {
  return {
    isIpv6: false,
    addressLength: 4,
    source: 0,
    destination: 0,
    protocol: 0,
    payload: 0,
    payloadLength: 0,
    isFragment: false,
  };
}

/**
 * False when the packet is malformed. IPv4 options are skipped. IPv6 extension headers are not walked: `protocol` is
 * the first next-header value, and a fragment header is told by `isFragment`.
 */
export function readIp(slab: Uint8Array, offset: number, length: number, into: IpView): boolean {
  if (length < IPV4.end) return false;
  const version = slab[offset]! >> 4;
  if (version === 4) {
    const headerLength = (slab[offset]! & 15) * 4;
    const totalLength = read16(slab, offset + IPV4.totalLength);
    if (headerLength < IPV4.end || totalLength < headerLength || totalLength > length) return false;
    if (sumWords(slab, offset, headerLength) !== 0xffff) return false;
    into.isIpv6 = false;
    into.addressLength = 4;
    into.source = offset + IPV4.source;
    into.destination = offset + IPV4.destination;
    into.protocol = slab[offset + IPV4.protocol]!;
    into.payload = offset + headerLength;
    into.payloadLength = totalLength - headerLength;
    into.isFragment = (read16(slab, offset + IPV4.fragment) & 0x3fff) !== 0; // more-fragments, or an offset
    return true;
  }
  if (version !== 6 || length < IPV6.end) return false;
  const payloadLength = read16(slab, offset + IPV6.payloadLength);
  if (payloadLength > length - IPV6.end) return false;
  into.isIpv6 = true;
  into.addressLength = 16;
  into.source = offset + IPV6.source;
  into.destination = offset + IPV6.destination;
  into.protocol = slab[offset + IPV6.nextHeader]!;
  into.payload = offset + IPV6.end;
  into.payloadLength = payloadLength;
  into.isFragment = into.protocol === 44;
  return true;
}

export function ipHeaderLength(address: Uint8Array): number {
  return address.length === 4 ? IPV4.end : IPV6.end;
}

/** Writes a header without options at the start of `packet`. IPv4: identification 0 with DF (RFC 6864). */
export function writeIpHeader(
  packet: Uint8Array,
  source: Uint8Array,
  destination: Uint8Array,
  protocol: number,
  payloadLength: number,
): void {
  if (source.length === 4) {
    packet[0] = 0x45;
    packet[1] = 0;
    write16(packet, IPV4.totalLength, IPV4.end + payloadLength);
    write16(packet, IPV4.id, 0);
    packet[IPV4.fragment] = DONT_FRAGMENT;
    packet[IPV4.fragment + 1] = 0;
    packet[IPV4.ttl] = HOP_LIMIT;
    packet[IPV4.protocol] = protocol;
    write16(packet, IPV4.checksum, 0);
    for (let i = 0; i < 4; i++) packet[IPV4.source + i] = source[i]!;
    for (let i = 0; i < 4; i++) packet[IPV4.destination + i] = destination[i]!;
    write16(packet, IPV4.checksum, checksumOf(sumWords(packet, 0, IPV4.end)));
    return;
  }
  packet[0] = 0x60;
  packet[1] = packet[2] = packet[3] = 0;
  write16(packet, IPV6.payloadLength, payloadLength);
  packet[IPV6.nextHeader] = protocol;
  packet[IPV6.hopLimit] = HOP_LIMIT;
  for (let i = 0; i < 16; i++) packet[IPV6.source + i] = source[i]!;
  for (let i = 0; i < 16; i++) packet[IPV6.destination + i] = destination[i]!;
}

export function read16(bytes: Uint8Array, offset: number): number {
  return (bytes[offset]! << 8) | bytes[offset + 1]!;
}

/** An unsigned 32-bit word. */
export function read32(bytes: Uint8Array, offset: number): number {
  return ((bytes[offset]! << 24) | (bytes[offset + 1]! << 16) | (bytes[offset + 2]! << 8) | bytes[offset + 3]!) >>> 0;
}

export function write16(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset] = value >>> 8;
  bytes[offset + 1] = value;
}

export function write32(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset] = value >>> 24;
  bytes[offset + 1] = value >>> 16;
  bytes[offset + 2] = value >>> 8;
  bytes[offset + 3] = value;
}
