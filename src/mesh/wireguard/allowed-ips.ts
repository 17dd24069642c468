import { maskedPrefix, type Prefix } from "../../base/address.ts";

interface Entry {
  readonly a: number;
  readonly b: number;
  readonly c: number;
  readonly d: number;
  readonly bits: number;
  peer: number;
}

/** Entries of one prefix length, by a hash of their address. */
interface Level {
  readonly bits: number;
  readonly buckets: Map<number, Entry[]>;
}

/**
 * Longest prefix match for cryptokey routing (WireGuard paper section 2). A prefix has one owner: giving it to another
 * peer takes it from the first in the same step. A lookup asks one hash table for each prefix length in use.
 */
export class AllowedIps {
  readonly #levels4: Level[] = [];
  readonly #levels6: Level[] = [];

  set(prefix: Prefix, peer: number): void {
    const { address, bits } = maskedPrefix(prefix);
    const levels = address.length === 4 ? this.#levels4 : this.#levels6;
    let level = levels.find((known) => known.bits === bits);
    if (level === undefined) {
      level = { bits, buckets: new Map() };
      levels.push(level);
      levels.sort((x, y) => y.bits - x.bits);
    }
    const [a, b, c, d] = wordsOf(address);
    const hash = mix(a, b, c, d);
    const bucket = level.buckets.get(hash);
    const known = bucket?.find((entry) => same(entry, a, b, c, d));
    if (known !== undefined) known.peer = peer;
    else if (bucket !== undefined) bucket.push({ a, b, c, d, bits, peer });
    else level.buckets.set(hash, [{ a, b, c, d, bits, peer }]);
  }

  /** Only while `peer` still owns the prefix. */
  remove(prefix: Prefix, peer: number): void {
    const { address, bits } = maskedPrefix(prefix);
    const levels = address.length === 4 ? this.#levels4 : this.#levels6;
    const at = levels.findIndex((known) => known.bits === bits);
    const level = levels[at];
    if (level === undefined) return;
    const [a, b, c, d] = wordsOf(address);
    const hash = mix(a, b, c, d);
    const bucket = level.buckets.get(hash) ?? [];
    const kept = bucket.filter((entry) => !(same(entry, a, b, c, d) && entry.peer === peer));
    if (kept.length > 0) level.buckets.set(hash, kept);
    else level.buckets.delete(hash);
    if (level.buckets.size === 0) levels.splice(at, 1);
  }

  /** The peer whose prefix matches longest, or -1. */
  find(bytes: Uint8Array, offset: number, length: 4 | 16): number {
    const isIpv4 = length === 4;
    const a = word(bytes, offset);
    const b = isIpv4 ? 0 : word(bytes, offset + 4);
    const c = isIpv4 ? 0 : word(bytes, offset + 8);
    const d = isIpv4 ? 0 : word(bytes, offset + 12);
    const levels = isIpv4 ? this.#levels4 : this.#levels6;
    for (let i = 0; i < levels.length; i++) {
      const { bits, buckets } = levels[i]!;
      const [ma, mb, mc, md] = [a & mask(bits), b & mask(bits - 32), c & mask(bits - 64), d & mask(bits - 96)];
      const bucket = buckets.get(mix(ma, mb, mc, md));
      if (bucket === undefined) continue;
      for (const entry of bucket) if (same(entry, ma, mb, mc, md)) return entry.peer;
    }
    return -1;
  }
}

/** The leading `bits` (clamped to 0–32) of a word. */
function mask(bits: number): number {
  return bits <= 0 ? 0 : bits >= 32 ? -1 : -1 << (32 - bits);
}

function word(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!;
}

function wordsOf(address: Uint8Array): [number, number, number, number] {
  if (address.length === 4) return [word(address, 0), 0, 0, 0];
  return [word(address, 0), word(address, 4), word(address, 8), word(address, 12)];
}

function mix(a: number, b: number, c: number, d: number): number {
  let hash = Math.imul(a ^ 0x9e3779b9, 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 15) ^ b, 0xc2b2ae35);
  hash = Math.imul(hash ^ (hash >>> 13) ^ c, 0x27d4eb2f);
  hash = Math.imul(hash ^ (hash >>> 15) ^ d, 0x165667b1);
  return (hash ^ (hash >>> 16)) & 0x3fffffff; // a small integer: a cheap Map key
}

function same(entry: Entry, a: number, b: number, c: number, d: number): boolean {
  return entry.a === a && entry.b === b && entry.c === c && entry.d === d;
}
