const SMALLEST_BYTES = 2048;
const STEP_BYTES = 16 * 1024;

/**
 * What a visitor has sent and nobody has taken, in one piece: kept as they came, parts of one byte each would hold some
 * hundred times what they say.
 */
export class HeldBytes {
  #bytes: Buffer = Buffer.alloc(0);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  get bytes(): Buffer {
    return this.#bytes.subarray(0, this.#length);
  }

  /** Takes `part` over: the first one is mostly all, and is not copied. */
  push(part: Buffer): void {
    const length = this.#length + part.length;
    if (this.#length === 0) this.#bytes = part;
    else {
      if (length > this.#bytes.length) this.#grow(length);
      this.#bytes.set(part, this.#length);
    }
    this.#length = length;
  }

  #grow(needed: number): void {
    const doubled = Math.max(needed, 2 * this.#bytes.length, SMALLEST_BYTES);
    const stepped = Math.ceil(needed / STEP_BYTES) * STEP_BYTES;
    const larger = Buffer.allocUnsafeSlow(needed <= STEP_BYTES ? Math.min(doubled, STEP_BYTES) : stepped);
    larger.set(this.bytes);
    this.#bytes = larger;
  }
}
