/** A sender of crumbs gets so many ranges (CVE-2018-5390); one whose ranges are segments, as many as a burst may tear. */
const MOST_RANGES_OF_CRUMBS = 128;
const MOST_RANGES = 2048;
const CRUMB_BYTES = 256;

/** Out-of-order ranges of a stream, ascending and apart from each other. A bound keeps a hostile sender cheap. */
export class RangeList {
  readonly #starts: number[] = [];
  readonly #ends: number[] = [];
  /** Starting points of the ranges touched last, newest first: RFC 2018 §4 wants them reported in that order. */
  readonly #recent: number[] = [];
  #fresh = 0;
  #held = 0;

  get size(): number {
    return this.#starts.length;
  }

  /** End of the last range, or 0. */
  get end(): number {
    return this.#ends.at(-1) ?? 0;
  }

  /** Ranges touched since the last report: one that holds fewer would hide some of them. */
  get fresh(): number {
    return this.#fresh;
  }

  /** Adds [start, end). False: the list is full and the bytes must be dropped. */
  add(start: number, end: number): boolean {
    const starts = this.#starts;
    const ends = this.#ends;
    const first = this.#firstEndingFrom(start);
    let last = first; // ranges [first, last) touch the new one
    while (last < starts.length && starts[last]! <= end) last++;
    if (first === last && this.#isFull) return false;
    const mergedStart = first < last ? Math.min(start, starts[first]!) : start;
    const mergedEnd = first < last ? Math.max(end, ends[last - 1]!) : end;
    this.#held += mergedEnd - mergedStart;
    for (let i = first; i < last; i++) this.#held -= ends[i]! - starts[i]!;
    if (last === first + 1) {
      starts[first] = mergedStart;
      ends[first] = mergedEnd;
    } else {
      starts.splice(first, last - first, mergedStart);
      ends.splice(first, last - first, mergedEnd);
    }
    this.#touch(mergedStart, mergedEnd);
    return true;
  }

  get #isFull(): boolean {
    const count = this.#starts.length;
    return count >= MOST_RANGES || (count >= MOST_RANGES_OF_CRUMBS && this.#held < count * CRUMB_BYTES);
  }

  /** True when [start, end) is in one range already. */
  covers(start: number, end: number): boolean {
    const index = this.#firstEndingFrom(start + 1);
    return index < this.#starts.length && this.#starts[index]! <= start && this.#ends[index]! >= end;
  }

  /** Removes the ranges that `next` reaches and returns how far the stream is now complete. */
  advance(next: number): number {
    let reached = next;
    let count = 0;
    while (count < this.#starts.length && this.#starts[count]! <= reached) {
      reached = Math.max(reached, this.#ends[count]!);
      this.#held -= this.#ends[count]! - this.#starts[count]!;
      count++;
    }
    if (count > 0) {
      this.#starts.splice(0, count);
      this.#ends.splice(0, count);
    }
    return reached;
  }

  /** Writes up to `most` ranges, newest first, as pairs of stream positions; returns how many. */
  report(into: number[], most: number): number {
    let count = 0;
    this.#fresh = 0;
    for (let i = 0; i < this.#recent.length && count < most; i++) {
      const index = this.#firstEndingFrom(this.#recent[i]! + 1);
      if (index >= this.#starts.length || this.#starts[index]! > this.#recent[i]!) {
        this.#recent.splice(i--, 1); // delivered since
        continue;
      }
      const start = this.#starts[index]!;
      let isRepeated = false;
      for (let j = 0; j < count; j++) isRepeated ||= into[2 * j] === start;
      if (isRepeated) continue;
      into[2 * count] = start;
      into[2 * count + 1] = this.#ends[index]!;
      count++;
    }
    return count;
  }

  #touch(start: number, end: number): void {
    const recent = this.#recent;
    let kept = 0;
    let fresh = 0;
    for (let i = 0; i < recent.length && kept < 7; i++) {
      if (recent[i]! >= start && recent[i]! < end) continue;
      if (i < this.#fresh) fresh++;
      recent[kept++] = recent[i]!;
    }
    recent.length = kept;
    recent.unshift(start);
    this.#fresh = fresh + 1;
  }

  /** Index of the first range whose end is ≥ `position`. */
  #firstEndingFrom(position: number): number {
    let low = 0;
    let high = this.#ends.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#ends[middle]! < position) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
