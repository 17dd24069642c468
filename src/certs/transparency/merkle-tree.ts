import { createHash } from "node:crypto";

/** Of an entry (RFC 6962 section 2.1). */
export function leafHash(leaf: Uint8Array): Uint8Array {
  return createHash("sha256").update(Uint8Array.of(0)).update(leaf).digest();
}

function nodeHash(left: Uint8Array, right: Uint8Array): Uint8Array {
  return createHash("sha256").update(Uint8Array.of(1)).update(left).update(right).digest();
}

/** An append-only tree of which only the roots of its perfect subtrees are kept, the largest first: at most one a bit of its size. */
export class MerkleTree {
  #size: number;
  readonly #peaks: Uint8Array[];

  constructor(size = 0, peaks: readonly Uint8Array[] = []) {
    this.#size = size;
    this.#peaks = [...peaks];
  }

  get size(): number {
    return this.#size;
  }

  get peaks(): readonly Uint8Array[] {
    return this.#peaks;
  }

  append(hash: Uint8Array): void {
    let joined = hash;
    for (let size = this.#size; size % 2 === 1; size = (size - 1) / 2) joined = nodeHash(this.#peaks.pop()!, joined);
    this.#peaks.push(joined);
    this.#size += 1;
  }

  get root(): Uint8Array {
    const last = this.#peaks.at(-1);
    if (last === undefined) return createHash("sha256").digest();
    return this.#peaks.slice(0, -1).reduceRight((right, left) => nodeHash(left, right), last);
  }
}

/** How many perfect subtrees a tree of this size is made of. */
export function peakCount(size: number): number {
  let count = 0;
  for (let rest = size; rest > 0; rest = Math.floor(rest / 2)) count += rest % 2;
  return count;
}
