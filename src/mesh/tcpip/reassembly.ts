import { IPV4, type IpView, ipHeaderLength, read16, read32, writeIpHeader } from "../../wire/ip.ts";

/** RFC 8200 §4.5, of a header behind the fixed one. */
const FRAGMENT = { nextHeader: 0, offset: 2, id: 4, end: 8 } as const;

const LONGEST_PAYLOAD = 65_535 - 40;
const MOST_BYTES = 1024 * 1024; // in all, and a quarter of it from one peer
const MOST_BYTES_OF_PEER: number = MOST_BYTES / 4;
const MOST_PACKETS = 256;
/** A packet of the longest kind over the least MTU of IPv6 is in 54. */
const MOST_PIECES = 64;
const PATIENCE_MS = 30_000;

interface Partial {
  readonly peer: number;
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly protocol: number;
  readonly expiresAt: number;
  /** [offset, payload], apart from each other. */
  readonly pieces: [number, Uint8Array][];
  /** Length of the whole, once the last piece told; -1 before. */
  length: number;
  bytes: number;
}

/** Puts IP fragments together, within bounds. Pieces that overlap end the packet they are of (RFC 5722, RFC 8200 §4.5). */
export class Reassembly {
  /** Oldest first. */
  readonly #partials: Map<string, Partial> = new Map();
  readonly #bytesOf: Map<number, number> = new Map();
  #bytes = 0;

  get bytes(): number {
    return this.#bytes;
  }

  get size(): number {
    return this.#partials.size;
  }

  get deadline(): number {
    const [oldest] = this.#partials.values();
    return oldest?.expiresAt ?? Infinity;
  }

  poll(now: number): void {
    for (const [key, partial] of this.#partials) {
      if (partial.expiresAt > now) return;
      this.#drop(key, partial);
    }
  }

  /** One fragment, `ip` of the packet at `offset`. The whole packet when it was the last that missed. */
  add(slab: Uint8Array, offset: number, ip: IpView, peer: number, now: number): Uint8Array | undefined {
    const header = ip.isIpv6 ? FRAGMENT.end : 0;
    if (ip.payloadLength < header) return undefined;
    const word = read16(slab, ip.isIpv6 ? ip.payload + FRAGMENT.offset : offset + IPV4.fragment);
    const start = ip.isIpv6 ? word & 0xfff8 : (word & 0x1fff) * 8;
    const hasMore = (word & (ip.isIpv6 ? 1 : 0x2000)) !== 0;
    const protocol = ip.isIpv6 ? slab[ip.payload + FRAGMENT.nextHeader]! : ip.protocol;
    const id = ip.isIpv6 ? read32(slab, ip.payload + FRAGMENT.id) : read16(slab, offset + IPV4.id);
    const from = ip.payload + header;
    const payload = slab.slice(from, from + ip.payloadLength - header);
    const end = start + payload.length;
    if (payload.length === 0 || end > LONGEST_PAYLOAD || (hasMore && payload.length % 8 !== 0)) return undefined;
    const source = slab.slice(ip.source, ip.source + ip.addressLength);
    const destination = slab.slice(ip.destination, ip.destination + ip.addressLength);
    // Atomic: a packet of its own, whatever else is under way (RFC 6946).
    if (start === 0 && !hasMore) return whole(source, destination, protocol, [[0, payload]], payload.length);

    const key = `${peer} ${protocol} ${id} ${source.join()} ${destination.join()}`;
    let partial = this.#partials.get(key);
    if (partial === undefined) {
      partial = { peer, source, destination, protocol, expiresAt: now + PATIENCE_MS, pieces: [], length: -1, bytes: 0 };
      this.#partials.set(key, partial);
    }
    const overlap = overlapOf(partial, start, end);
    if (overlap === "same") return undefined;
    const isTooLong = partial.length >= 0 && (end > partial.length || !hasMore);
    if (overlap === "part" || isTooLong || partial.pieces.length === MOST_PIECES) {
      this.#drop(key, partial);
      return undefined;
    }
    if (!hasMore) {
      partial.length = end;
      if (partial.pieces.some(([at, piece]) => at + piece.length > end)) {
        this.#drop(key, partial);
        return undefined;
      }
    }
    partial.pieces.push([start, payload]);
    partial.bytes += payload.length;
    this.#count(peer, payload.length);
    if (partial.bytes === partial.length) {
      this.#drop(key, partial);
      return whole(source, destination, protocol, partial.pieces, partial.length);
    }
    this.#makeRoom(peer);
    return undefined;
  }

  /** The oldest go first; those of the peer that takes too much before all others. */
  #makeRoom(peer: number): void {
    for (const [key, partial] of this.#partials) {
      if ((this.#bytesOf.get(peer) ?? 0) <= MOST_BYTES_OF_PEER) break;
      if (partial.peer === peer) this.#drop(key, partial);
    }
    for (const [key, partial] of this.#partials) {
      if (this.#bytes <= MOST_BYTES && this.#partials.size <= MOST_PACKETS) break;
      this.#drop(key, partial);
    }
  }

  #drop(key: string, partial: Partial): void {
    this.#partials.delete(key);
    this.#count(partial.peer, -partial.bytes);
  }

  #count(peer: number, bytes: number): void {
    this.#bytes += bytes;
    const ofPeer = (this.#bytesOf.get(peer) ?? 0) + bytes;
    if (ofPeer === 0) this.#bytesOf.delete(peer);
    else this.#bytesOf.set(peer, ofPeer);
  }
}

function overlapOf(partial: Partial, start: number, end: number): "none" | "same" | "part" {
  for (const [at, piece] of partial.pieces) {
    if (start === at && end === at + piece.length) return "same"; // a duplicate of the network
    if (start < at + piece.length && end > at) return "part";
  }
  return "none";
}

function whole(
  source: Uint8Array,
  destination: Uint8Array,
  protocol: number,
  pieces: readonly (readonly [number, Uint8Array])[],
  length: number,
): Uint8Array {
  const start = ipHeaderLength(source);
  const packet = new Uint8Array(start + length);
  writeIpHeader(packet, source, destination, protocol, length);
  for (const [at, piece] of pieces) packet.set(piece, start + at);
  return packet;
}
