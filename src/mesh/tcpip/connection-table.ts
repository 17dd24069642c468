import { equalBytes } from "../../base/bytes.ts";
import type { Random } from "../../base/random.ts";
import { read32 } from "../../wire/ip.ts";
import type { TcpConnection } from "./connection.ts";

/** Connections by their four-tuple. The hash is seeded, so nobody outside can aim for one bucket. */
export class ConnectionTable {
  readonly #buckets: Map<number, TcpConnection> = new Map();
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
    for (let c = this.#buckets.get(hash); c !== undefined; c = c.nextInBucket) {
      const { key } = c;
      if (key.localPort !== localPort || key.remotePort !== remotePort) continue;
      if (isAt(key.remote, slab, remote) && isAt(key.local, slab, local)) return c;
    }
    return undefined;
  }

  has(local: Uint8Array, localPort: number, remote: Uint8Array, remotePort: number): boolean {
    const hash = this.#hashOf(local, localPort, remote, remotePort);
    for (let c = this.#buckets.get(hash); c !== undefined; c = c.nextInBucket) {
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
    connection.hash = this.#hashOf(local, localPort, remote, remotePort);
    connection.nextInBucket = this.#buckets.get(connection.hash);
    this.#buckets.set(connection.hash, connection);
    this.size++;
  }

  remove(connection: TcpConnection): void {
    let previous: TcpConnection | undefined;
    for (let c = this.#buckets.get(connection.hash); c !== undefined; previous = c, c = c.nextInBucket) {
      if (c !== connection) continue;
      if (previous !== undefined) previous.nextInBucket = c.nextInBucket;
      else if (c.nextInBucket !== undefined) this.#buckets.set(c.hash, c.nextInBucket);
      else this.#buckets.delete(c.hash);
      c.nextInBucket = undefined;
      this.size--;
      return;
    }
  }

  *[Symbol.iterator](): IterableIterator<TcpConnection> {
    for (const first of [...this.#buckets.values()]) {
      const chain: TcpConnection[] = [];
      for (let c: TcpConnection | undefined = first; c !== undefined; c = c.nextInBucket) chain.push(c);
      yield* chain;
    }
  }
}

function isAt(address: Uint8Array, slab: Uint8Array, offset: number): boolean {
  for (let i = 0; i < address.length; i++) if (address[i] !== slab[offset + i]) return false;
  return true;
}
