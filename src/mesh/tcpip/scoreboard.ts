export const SACKED = 1;
export const LOST = 2;
export const RETRANSMITTED = 4;
/** Sent when there was too little data to fill the window. */
export const STARVED = 8;

const SMALLEST = 16;
const NO_NUMBERS = new Float64Array(0);
const NO_BYTES = new Uint8Array(0);
/** Columns of numbers beside the ends: when it was sent, and what the delivery rate wants to know. */
const TIME = 0;
const DELIVERED_BEFORE = 1;
const DELIVERED_AT = 2;
const FIRST_SENT_AT = 3;
const COLUMNS = 4;
/** Bounds the memory of a sender of tiny segments; 8 MiB of full segments are 6,900. */
export const MOST_SEGMENTS = 16_384;

/**
 * What was sent and is not acknowledged: a queue of adjoining segments, each with its time and fate (RFC 6675, RFC 8985).
 * Kept as columns, so that a segment costs no object. Segments are told by a number that grows by one.
 */
export class Scoreboard {
  #ends: Float64Array = NO_NUMBERS;
  /** `COLUMNS` numbers a segment. */
  #facts: Float64Array = NO_NUMBERS;
  #fates: Uint8Array = NO_BYTES;
  #mask = -1;
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
    return this.#facts[(segment & this.#mask) * COLUMNS + TIME]!;
  }
  deliveredBefore(segment: number): number {
    return this.#facts[(segment & this.#mask) * COLUMNS + DELIVERED_BEFORE]!;
  }
  deliveredAt(segment: number): number {
    return this.#facts[(segment & this.#mask) * COLUMNS + DELIVERED_AT]!;
  }
  firstSentAt(segment: number): number {
    return this.#facts[(segment & this.#mask) * COLUMNS + FIRST_SENT_AT]!;
  }
  fate(segment: number): number {
    return this.#fates[segment & this.#mask]!;
  }

  /** Returns the number of the new segment. */
  push(start: number, end: number, now: number): number {
    if (this.tail - this.head > this.#mask) this.#grow();
    if (this.tail === this.head) this.#headStart = start;
    const segment = this.tail++;
    const at = segment & this.#mask;
    this.#ends[at] = end;
    this.#facts[at * COLUMNS + TIME] = now;
    this.#fates[at] = 0;
    return segment;
  }

  /** What the delivery rate wants to find again when this segment arrives. */
  stamp(segment: number, before: number, deliveredAt: number, firstSentAt: number, isStarved: boolean): void {
    const at = segment & this.#mask;
    this.#facts[at * COLUMNS + DELIVERED_BEFORE] = before;
    this.#facts[at * COLUMNS + DELIVERED_AT] = deliveredAt;
    this.#facts[at * COLUMNS + FIRST_SENT_AT] = firstSentAt;
    this.#fates[at] = isStarved ? this.#fates[at]! | STARVED : this.#fates[at]! & ~STARVED;
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
    this.#facts[at * COLUMNS + TIME] = now;
  }

  /** The first lost segment from `hint` on, else the first at all; -1: none. */
  findLost(hint: number): number {
    if (this.lostBytes === 0) return -1;
    const found = this.#scanLost(Math.max(hint, this.head), this.tail);
    return found >= 0 ? found : this.#scanLost(this.head, hint);
  }

  #scanLost(from: number, to: number): number {
    for (let segment = from; segment < to; segment++) {
      if ((this.#fates[segment & this.#mask]! & LOST) !== 0) return segment;
    }
    return -1;
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
      const to = (i & this.#mask) * COLUMNS;
      const from = ((i - 1) & this.#mask) * COLUMNS;
      for (let column = 0; column < COLUMNS; column++) this.#facts[to + column] = this.#facts[from + column]!;
      this.#fates[i & this.#mask] = this.#fates[(i - 1) & this.#mask]!;
    }
    this.tail++;
    this.#ends[segment & this.#mask] = position;
    if (segment === this.head) this.#headStart = start;
    return true;
  }

  /** Gives memory back; nothing may be on it. */
  release(): void {
    this.#resize(0);
  }

  #grow(): void {
    this.#resize(Math.max(SMALLEST, 2 * (this.#mask + 1)));
  }

  #resize(size: number): void {
    const ends = size === 0 ? NO_NUMBERS : new Float64Array(size);
    const facts = size === 0 ? NO_NUMBERS : new Float64Array(size * COLUMNS);
    const fates = size === 0 ? NO_BYTES : new Uint8Array(size);
    for (let segment = this.head; segment < this.tail; segment++) {
      const old = segment & this.#mask;
      const at = segment & (size - 1);
      ends[at] = this.#ends[old]!;
      for (let column = 0; column < COLUMNS; column++) {
        facts[at * COLUMNS + column] = this.#facts[old * COLUMNS + column]!;
      }
      fates[at] = this.#fates[old]!;
    }
    this.#ends = ends;
    this.#facts = facts;
    this.#fates = fates;
    this.#mask = size - 1;
  }
}
