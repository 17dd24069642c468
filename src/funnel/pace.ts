/** Bytes over time, with a second's worth at once: how long to wait after each part. */
export class Pace {
  readonly #perMs: number;
  /** When everything that was spent has been earned. */
  #paidUntil = Number.NEGATIVE_INFINITY;

  constructor(bytesPerSecond: number) {
    this.#perMs = bytesPerSecond / 1000;
  }

  static of(bytesPerSecond: number): Pace {
    return bytesPerSecond === Number.POSITIVE_INFINITY ? UNBOUNDED : new Pace(bytesPerSecond);
  }

  /** Milliseconds until more may be spent; 0: at once. */
  spend(bytes: number, now: number): number {
    if (this.#perMs === Number.POSITIVE_INFINITY) return 0;
    this.#paidUntil = Math.max(this.#paidUntil, now - BURST_MS) + bytes / this.#perMs;
    return Math.max(0, this.#paidUntil - now);
  }
}

const BURST_MS = 1000;
/** It remembers nothing, so one does for all. */
const UNBOUNDED: Pace = new Pace(Number.POSITIVE_INFINITY);
