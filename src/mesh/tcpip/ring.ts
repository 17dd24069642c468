const SMALLEST_BYTES = 4 * 1024;
const NOTHING = new Uint8Array(0);

/** Bytes of a stream from position `start` on, in a circular buffer that starts empty and doubles as needed. */
export class ByteRing {
  #bytes: Uint8Array = NOTHING;
  #start: number;
  /** Where it is counted what is held. */
  readonly #account: { held: number };

  constructor(start: number, account: { held: number }) {
    this.#start = start;
    this.#account = account;
  }

  get start(): number {
    return this.#start;
  }

  /** Memory held. */
  get capacity(): number {
    return this.#bytes.length;
  }

  /** Memory that is held once there is room up to `end`. */
  sizeFor(end: number): number {
    let size = this.#bytes.length;
    if (end - this.#start <= size) return size;
    size = Math.max(SMALLEST_BYTES, size);
    while (size < end - this.#start) size *= 2;
    return size;
  }

  /** Puts bytes at stream position `position` (≥ `start`). `used` is the end of what must be kept when growing. */
  put(position: number, source: Uint8Array, offset: number, length: number, used: number): void {
    const end = position + length;
    const size = this.sizeFor(end);
    if (size > this.#bytes.length) this.#resize(size, used);
    const at = position % this.#bytes.length;
    const first = Math.min(length, this.#bytes.length - at);
    copy(source, offset, first, this.#bytes, at);
    if (first < length) copy(source, offset + first, length - first, this.#bytes, 0);
  }

  /** Copies `length` bytes at stream position `position` to `target`. */
  read(position: number, length: number, target: Uint8Array, offset: number): void {
    const at = position % this.#bytes.length;
    const first = Math.min(length, this.#bytes.length - at);
    copy(this.#bytes, at, first, target, offset);
    if (first < length) copy(this.#bytes, 0, length - first, target, offset + first);
  }

  /** A view of at most `length` bytes at `position`: shorter where the ring wraps. Dead after the next `put`. */
  view(position: number, length: number): Uint8Array {
    const at = position % this.#bytes.length;
    return this.#bytes.subarray(at, at + Math.min(length, this.#bytes.length - at));
  }

  /** Forgets what lies before `position`. */
  discard(position: number): void {
    this.#start = position;
  }

  /** Gives the memory back; nothing may be stored. */
  release(): void {
    this.#account.held -= this.#bytes.length;
    this.#bytes = NOTHING;
  }

  /** Gives back what stands empty, where it is three quarters or more. `used` as for `put`. */
  fit(used: number): void {
    const length = Math.max(0, used - this.#start);
    if (length === 0) {
      this.release();
      return;
    }
    let size = this.#bytes.length;
    while (size > SMALLEST_BYTES && 4 * length <= size) size /= 2;
    if (size < this.#bytes.length) this.#resize(size, used);
  }

  #resize(size: number, used: number): void {
    const bytes = new Uint8Array(new ArrayBuffer(size));
    const old = this.#bytes;
    for (let position = this.#start; position < used; ) {
      const from = position % old.length;
      const to = position % size;
      const length = Math.min(used - position, old.length - from, size - to);
      copy(old, from, length, bytes, to);
      position += length;
    }
    this.#account.held += size - old.length;
    this.#bytes = bytes;
  }
}

/** Short runs byte by byte: a view costs more than they do. */
export function copy(source: Uint8Array, offset: number, length: number, target: Uint8Array, at: number): void {
  if (length <= 32) for (let i = 0; i < length; i++) target[at + i] = source[offset + i]!;
  else target.set(source.subarray(offset, offset + length), at);
}
