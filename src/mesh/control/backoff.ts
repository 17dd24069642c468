import type { Random } from "../../base/random.ts";

const STEP_MS = 10;
const LONGEST_MS = 30_000;

/** Upstream util/backoff: the nth failure in a row waits n² × 10 ms, at most 30 s, times 0.5 to 1.5. */
export class Backoff {
  readonly #random: Random;
  #failures = 0;

  constructor(random: Random) {
    this.#random = random;
  }

  next(): number {
    this.#failures++;
    return Math.min(this.#failures ** 2 * STEP_MS, LONGEST_MS) * (0.5 + fraction(this.#random));
  }

  reset(): void {
    this.#failures = 0;
  }
}

/** 0 up to 1. */
export function fraction(random: Random): number {
  const [high = 0, low = 0] = random(2);
  return (high * 256 + low) / 65_536;
}
