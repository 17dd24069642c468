export const SACKED = 1;
export const LOST = 2;
export const RETRANSMITTED = 4;

const SMALLEST = 16;
/** Bounds the memory of a sender of tiny segments; 8 MiB of full segments are 6,900. */
export const MOST_SEGMENTS = 16_384;

/**
 * What was sent and is not acknowledged: a queue of adjoining segments, each with its time and fate (RFC 6675, RFC 8985).
 * Kept as columns, so that a segment costs no object. Segments are told by a number that grows by one.
 */
export class Scoreboard {
  #ends: Float64Array = new Float64Array(SMALLEST);
  #times: Float64Array = new Float64Array(SMALLEST);
  #fates: Uint8Array = new Uint8Array(SMALLEST);
  #mask = SMALLEST - 1;
  /** First segment, and the one after the last. */
  head = 0;
  tail = 0;
  #headStart = 0;
  sackedBytes = 0;
  /** Lost and not sent again. */
  lostBytes = 0;

  get isFull(): boolean {
    return this.tail - this.head >= MOST_SEGMENTS;
  }

  start(segment: number): number {
    return segment === this.head ? this.#headStart : this.#ends[(segment - 1) & this.#mask]!;
  }
  end(segment: number): number {
    return this.#ends[segment & this.#mask]!;
  }
  time(segment: number): number {
    return this.#times[segment & this.#mask]!;
  }
  fate(segment: number): number {
    return this.#fates[segment & this.#mask]!;
  }

  push(start: number, end: number, now: number): void {
    if (this.tail - this.head > this.#mask) this.#grow();
    if (this.tail === this.head) this.#headStart = start;
    const at = this.tail++ & this.#mask;
    this.#ends[at] = end;
    this.#times[at] = now;
    this.#fates[at] = 0;
  }

  /** Segments up to `position` have arrived; one that only begins there is cut. */
  acknowledge(position: number): void {
    while (this.head < this.tail && this.end(this.head) <= position) {
      const length = this.end(this.head) - this.#headStart;
      this.#forget(this.fate(this.head), length);
      this.#headStart = this.end(this.head);
      this.head++;
    }
    if (this.head < this.tail && position > this.#headStart) {
      this.#forget(this.fate(this.head), position - this.#headStart);
      this.#headStart = position;
    }
  }

  #forget(fate: number, length: number): void {
    if ((fate & SACKED) !== 0) this.sackedBytes -= length;
    if ((fate & LOST) !== 0) this.lostBytes -= length;
  }

  /** First segment whose end is after `position`. */
  find(position: number): number {
    let low = this.head;
    let high = this.tail;
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      if (this.end(middle) <= position) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  markSacked(segment: number): void {
    const at = segment & this.#mask;
    const length = this.end(segment) - this.start(segment);
    if ((this.#fates[at]! & LOST) !== 0) this.lostBytes -= length;
    this.#fates[at] = (this.#fates[at]! & ~LOST) | SACKED;
    this.sackedBytes += length;
  }

  markLost(segment: number): void {
    const at = segment & this.#mask;
    if ((this.#fates[at]! & (LOST | SACKED)) !== 0) return;
    this.#fates[at]! |= LOST;
    this.lostBytes += this.end(segment) - this.start(segment);
  }

  markSent(segment: number, now: number): void {
    const at = segment & this.#mask;
    if ((this.#fates[at]! & LOST) !== 0) this.lostBytes -= this.end(segment) - this.start(segment);
    this.#fates[at] = (this.#fates[at]! & ~LOST) | RETRANSMITTED;
    this.#times[at] = now;
  }

  /** After a timeout. `isReneged`: the receiver may have dropped what it had reported (RFC 2018 §8). */
  markAllLost(isReneged: boolean): void {
    for (let segment = this.head; segment < this.tail; segment++) {
      const at = segment & this.#mask;
      if (isReneged && (this.#fates[at]! & SACKED) !== 0) {
        this.sackedBytes -= this.end(segment) - this.start(segment);
        this.#fates[at]! &= ~SACKED;
      }
      this.markLost(segment);
    }
  }

  /** The losses were imagined: what was called lost and not sent again counts as under way. */
  clearLost(): void {
    for (let segment = this.head; segment < this.tail; segment++) this.#fates[segment & this.#mask]! &= ~LOST;
    this.lostBytes = 0;
  }

  /** Cuts a segment in two at `position`, when the path turned out to be narrower. False: no room. */
  split(segment: number, position: number): boolean {
    if (this.isFull) return false;
    if (this.tail - this.head > this.#mask) this.#grow();
    const start = this.start(segment);
    for (let i = this.tail; i > segment; i--) {
      this.#ends[i & this.#mask] = this.#ends[(i - 1) & this.#mask]!;
      this.#times[i & this.#mask] = this.#times[(i - 1) & this.#mask]!;
      this.#fates[i & this.#mask] = this.#fates[(i - 1) & this.#mask]!;
    }
    this.tail++;
    this.#ends[segment & this.#mask] = position;
    if (segment === this.head) this.#headStart = start;
    return true;
  }

  #grow(): void {
    const size = 2 * (this.#mask + 1);
    const ends = new Float64Array(size);
    const times = new Float64Array(size);
    const fates = new Uint8Array(size);
    for (let segment = this.head; segment < this.tail; segment++) {
      const at = segment & (size - 1);
      ends[at] = this.end(segment);
      times[at] = this.time(segment);
      fates[at] = this.fate(segment);
    }
    this.#ends = ends;
    this.#times = times;
    this.#fates = fates;
    this.#mask = size - 1;
  }
}
