/** IP protocol numbers that the filter knows by name. `UNKNOWN` is also IPv6 hop-by-hop, which we never admit. */
export const PROTOCOL = {
  UNKNOWN: 0,
  ICMP: 1,
  IGMP: 2,
  TCP: 6,
  UDP: 17,
  IPV6_FRAGMENT: 44,
  ICMPV6: 58,
  TSMP: 99,
  SCTP: 132,
  /** Ours, for a later fragment; a real 255 on the wire is unknown (upstream `net/packet/packet.go`). */
  FRAGMENT: 255,
} as const;

const IPV6_HEADER = 40;
const FRAGMENT_HEADER = 8;
/** A later fragment below this offset (units of 8 bytes) could overwrite a transport header: RFC 1858. */
const LEAST_FRAGMENT_OFFSET = 10;
/** Hop-by-hop, routing, destination options, mobility, HIP, shim6: IPv6 extension headers that we do not step over. */
const isExtension = (protocol: number): boolean =>
  protocol === 0 || protocol === 43 || protocol === 60 || protocol === 135 || protocol === 139 || protocol === 140;

/** One packet's header, as numbers. Addresses are 4 words; IPv4 uses the last. Reused for packet after packet. */
export class Header {
  version: 0 | 4 | 6 = 0;
  protocol = 0;
  sourcePort = 0;
  destinationPort = 0;
  tcpFlags = 0;
  icmpType = 0;
  /** Length by the IP header: padding after it does not count. */
  total = 0;
  readonly source: Uint32Array = new Uint32Array(4);
  readonly destination: Uint32Array = new Uint32Array(4);

  /** Reads the packet of `length` bytes at `at`. False: not an IP packet; nothing but `version` is to be trusted. */
  read(bytes: Uint8Array, at: number, length: number): boolean {
    this.protocol = PROTOCOL.UNKNOWN;
    this.sourcePort = 0;
    this.destinationPort = 0;
    this.tcpFlags = 0;
    this.icmpType = 0;
    this.version = 0;
    if (length < 20) return false;
    const version = bytes[at]! >> 4;
    if (version === 4) return this.#readV4(bytes, at, length);
    if (version === 6 && length >= IPV6_HEADER) return this.#readV6(bytes, at, length);
    return false;
  }

  /** As if read from a packet that opens a connection. Both addresses are of one family. */
  setTcp(source: Uint8Array, destination: Uint8Array, port: number): void {
    this.version = source.length === 4 ? 4 : 6;
    this.protocol = PROTOCOL.TCP;
    this.sourcePort = 0;
    this.destinationPort = port;
    this.source.fill(0);
    this.destination.fill(0);
    const first = this.version === 4 ? 3 : 0;
    for (let i = first; i < 4; i++) {
      this.source[i] = word32(source, 4 * (i - first));
      this.destination[i] = word32(destination, 4 * (i - first));
    }
  }

  #readV4(bytes: Uint8Array, at: number, length: number): boolean {
    const header = (bytes[at]! & 15) * 4;
    const total = word16(bytes, at + 2);
    if (header < 20 || total < header || total > length) return false;
    this.version = 4;
    this.total = total;
    this.source.fill(0, 0, 3);
    this.source[3] = word32(bytes, at + 12);
    this.destination.fill(0, 0, 3);
    this.destination[3] = word32(bytes, at + 16);
    const fragment = word16(bytes, at + 6);
    this.#transport(bytes, at + header, total - header, bytes[at + 9]!, fragment & 0x1fff, (fragment & 0x2000) !== 0);
    return true;
  }

  #readV6(bytes: Uint8Array, at: number, length: number): boolean {
    const total = IPV6_HEADER + word16(bytes, at + 4);
    if (total > length) return false;
    this.version = 6;
    this.total = total;
    for (let i = 0; i < 4; i++) {
      this.source[i] = word32(bytes, at + 8 + 4 * i);
      this.destination[i] = word32(bytes, at + 24 + 4 * i);
    }
    const next = bytes[at + 6]!;
    if (next !== PROTOCOL.IPV6_FRAGMENT) {
      if (!isExtension(next)) this.#transport(bytes, at + IPV6_HEADER, total - IPV6_HEADER, next, 0, false);
      return true;
    }
    if (total < IPV6_HEADER + FRAGMENT_HEADER) return true;
    const inner = bytes[at + IPV6_HEADER]!;
    const fragment = word16(bytes, at + IPV6_HEADER + 2);
    const skip = IPV6_HEADER + FRAGMENT_HEADER;
    if (isExtension(inner) || inner === PROTOCOL.IPV6_FRAGMENT) return true;
    this.#transport(bytes, at + skip, total - skip, inner, fragment >> 3, (fragment & 1) !== 0);
    return true;
  }

  /** Leaves the protocol unknown unless its least header is there. */
  #transport(bytes: Uint8Array, at: number, room: number, protocol: number, offset: number, more: boolean): void {
    if (offset > 0) {
      if (offset >= LEAST_FRAGMENT_OFFSET && protocol !== PROTOCOL.TSMP) this.protocol = PROTOCOL.FRAGMENT;
      return;
    }
    switch (protocol) {
      case PROTOCOL.TCP:
        if (room < 20) return;
        this.tcpFlags = bytes[at + 13]!;
        break;
      case PROTOCOL.UDP:
        if (room < 8) return;
        break;
      case PROTOCOL.SCTP:
        if (room < 12) return;
        break;
      case PROTOCOL.ICMP:
      case PROTOCOL.ICMPV6:
        // Each belongs to one version; the other way round it is neither a reply nor an echo.
        if (room < 4 || (protocol === PROTOCOL.ICMP) !== (this.version === 4)) return;
        this.icmpType = bytes[at]!;
        this.protocol = protocol;
        return;
      case PROTOCOL.IGMP:
        if (room < 8) return;
        this.protocol = protocol;
        return;
      case PROTOCOL.TSMP:
        if (room < 7 || more) return;
        this.protocol = protocol;
        return;
      case PROTOCOL.FRAGMENT:
        return;
      default:
        this.protocol = protocol;
        return;
    }
    this.protocol = protocol;
    this.sourcePort = word16(bytes, at);
    this.destinationPort = word16(bytes, at + 2);
  }
}

function word16(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!;
}

function word32(bytes: Uint8Array, at: number): number {
  return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;
}
