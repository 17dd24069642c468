import { equalBytes } from "../../base/bytes.ts";
import type { Random } from "../../base/random.ts";
import { read32 } from "../../wire/ip.ts";
import type { TcpConnection } from "./connection.ts";

const FIRST_BUCKETS = 256;

/**
 * Connections by their four-tuple. The hash is seeded, so nobody outside can aim for one bucket. Chains of their own, not a
 * `Map`: where members come and go fast, its old tables keep the gone alive (base/linked-list.ts).
 */
export class ConnectionTable {
  /** A power of two of them. */
  #buckets: (TcpConnection | undefined)[] = emptyBuckets(FIRST_BUCKETS);
  readonly #seed: number;
  size: number = 0;

  constructor(random: Random) {
    this.#seed = read32(random(4), 0) | 0;
  }

  /** `local` and `remote` are positions of `length` bytes in `slab`. */
  hash(slab: Uint8Array, local: number, remote: number, length: number, ports: number): number {
    let h = this.#seed ^ Math.imul(ports, 0x9e3779b1);
    for (let i = 0; i < length; i += 4) {
      h = Math.imul(h ^ (read32(slab, local + i) | 0), 0x85ebca6b);
      h = Math.imul((h ^ (h >>> 15)) + (read32(slab, remote + i) | 0), 0xc2b2ae35);
      h ^= h >>> 13;
    }
    return h ^ (h >>> 16);
  }

  find(
    hash: number,
    slab: Uint8Array,
    local: number,
    localPort: number,
    remote: number,
    remotePort: number,
  ): TcpConnection | undefined {
    for (let c = this.#first(hash); c !== undefined; c = c.nextInBucket) {
      const { key } = c;
      if (key.localPort !== localPort || key.remotePort !== remotePort) continue;
      if (isAt(key.remote, slab, remote) && isAt(key.local, slab, local)) return c;
    }
    return undefined;
  }

  has(local: Uint8Array, localPort: number, remote: Uint8Array, remotePort: number): boolean {
    const hash = this.#hashOf(local, localPort, remote, remotePort);
    for (let c = this.#first(hash); c !== undefined; c = c.nextInBucket) {
      const { key } = c;
      if (key.localPort !== localPort || key.remotePort !== remotePort) continue;
      if (equalBytes(key.local, local) && equalBytes(key.remote, remote)) return true;
    }
    return false;
  }

  #hashOf(local: Uint8Array, localPort: number, remote: Uint8Array, remotePort: number): number {
    const both = new Uint8Array(2 * local.length);
    both.set(local);
    both.set(remote, local.length);
    return this.hash(both, 0, local.length, local.length, (localPort << 16) | remotePort);
  }

  add(connection: TcpConnection): void {
    const { local, localPort, remote, remotePort } = connection.key;
    if (this.size === this.#buckets.length) this.#grow();
    connection.hash = this.#hashOf(local, localPort, remote, remotePort);
    this.#link(connection);
    this.size++;
  }

  #first(hash: number): TcpConnection | undefined {
    return this.#buckets[hash & (this.#buckets.length - 1)];
  }

  #link(connection: TcpConnection): void {
    const at = connection.hash & (this.#buckets.length - 1);
    connection.nextInBucket = this.#buckets[at];
    this.#buckets[at] = connection;
  }

  #grow(): void {
    const all = [...this];
    this.#buckets = emptyBuckets(2 * this.#buckets.length);
    for (const connection of all) this.#link(connection);
  }

  remove(connection: TcpConnection): void {
    let previous: TcpConnection | undefined;
    for (let c = this.#first(connection.hash); c !== undefined; previous = c, c = c.nextInBucket) {
      if (c !== connection) continue;
      if (previous !== undefined) previous.nextInBucket = c.nextInBucket;
      else this.#buckets[c.hash & (this.#buckets.length - 1)] = c.nextInBucket;
      c.nextInBucket = undefined;
      this.size--;
      return;
    }
  }

  /** Those who are in at the first step; any may be removed on the way. */
  *[Symbol.iterator](): IterableIterator<TcpConnection> {
    const all: TcpConnection[] = [];
    for (const first of this.#buckets) {
      for (let c = first; c !== undefined; c = c.nextInBucket) all.push(c);
    }
    yield* all;
  }
}

function emptyBuckets(count: number): (TcpConnection | undefined)[] {
  return new Array<TcpConnection | undefined>(count).fill(undefined);
}

function isAt(address: Uint8Array, slab: Uint8Array, offset: number): boolean {
  for (let i = 0; i < address.length; i++) if (address[i] !== slab[offset + i]) return false;
  return true;
}
