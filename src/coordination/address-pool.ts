import { Fault } from "../base/fault.ts";
import type { Random } from "../base/random.ts";

/** Addresses of a node: both families carry the same number, as in `100.64.0.7` and `fd7a:115c:a1e0::7`. */
export interface AddressPair {
  readonly ipv4: string;
  readonly ipv6: string;
}

/** Number of addresses in 100.64.0.0/10. */
export const POOL_SIZE: number = 2 ** 22;

/** How long an address is nobody's after it was somebody's (matrix CS-2). */
export const ADDRESS_REST_MS = 86_400_000;

const BASE = 0x64400000;
const RANDOM_TRIES = 64;

/** control-protocol §11.6: network, broadcast, MagicDNS and its /24, ChromeOS, and `::53` of the other family. */
function isReserved(offset: number): boolean {
  if (offset === 0 || offset === POOL_SIZE - 1 || offset === 0x53) return true;
  const block = (BASE + offset) >>> 8;
  return block === 0x646464 || block === 0x64735c || block === 0x64735d;
}

export function addressPair(offset: number): AddressPair {
  const v4 = BASE + offset;
  const high = offset >>> 16;
  const low = (offset & 0xffff).toString(16);
  return {
    ipv4: `${v4 >>> 24}.${(v4 >>> 16) & 255}.${(v4 >>> 8) & 255}.${v4 & 255}`,
    ipv6: high === 0 ? `fd7a:115c:a1e0::${low}` : `fd7a:115c:a1e0::${high.toString(16)}:${low}`,
  };
}

export function offsetOf(ipv4: string): number {
  return ipv4.split(".").reduce((sum, part) => sum * 256 + Number(part), 0) - BASE;
}

export interface PoolUse {
  /** In use or resting. */
  readonly taken: (offset: number) => boolean;
  /** The last number given out. */
  readonly cursor: number;
  readonly size?: number;
  /** Given: from one of these IPv4 networks (`ipPool`), the first that has a free number. */
  readonly pools?: readonly string[];
  /** Given: a random free number instead of the next one. */
  readonly random?: Random;
}

/** The number of the next free pair. Goes round, so that a released address comes back as late as can be. */
export function allocateOffset({ taken, cursor, size = POOL_SIZE, random, pools = [] }: PoolUse): number {
  const isFree = (offset: number) => !isReserved(offset) && !taken(offset);
  for (const pool of pools) {
    const [network = "", bits] = pool.split("/");
    const length = 2 ** (32 - Number(bits ?? 32));
    const first = Math.floor(offsetOf(network) / length) * length;
    for (let offset = first; offset < first + length; offset++) if (isFree(offset)) return offset;
  }
  if (pools.length > 0) {
    throw new Fault("COORDINATION_ADDRESSES_EXHAUSTED", `Cannot give an address: none of ${pools.join()} is free`, {
      hint: "Widen the policy's ipPool, or delete nodes that are gone.",
    });
  }
  let start = cursor;
  if (random !== undefined) {
    for (let i = 0; i < RANDOM_TRIES; i++) {
      start = Buffer.from(random(4)).readUInt32BE() % size;
      if (isFree(start)) return start;
    }
  }
  for (let step = 1; step <= size; step++) {
    const offset = (start + step) % size;
    if (isFree(offset)) return offset;
  }
  throw new Fault("COORDINATION_ADDRESSES_EXHAUSTED", `Cannot give an address: none of ${size} is free, wanted one`, {
    hint: "Delete nodes that are gone; their addresses are free again after a day.",
  });
}
