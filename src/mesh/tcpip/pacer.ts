/** A timer wakes at most once a ms: so much is sent at once. */
const QUANTUM_MS = 1;
/** A turn that came late may catch up with so much. */
const SLACK_MS = 5;
const FIRST_SEGMENTS = 10;

/** Spreads segments over time at a given pace. */
export class Pacer {
  #next = 0;
  /** When to try again; `Infinity`: nothing waits. */
  deadline: number = Infinity;

  /** False: wait until `deadline`. `pace` in bytes a ms. */
  mayAt(now: number, pace: number, mss: number): boolean {
    if (pace === Infinity) return true;
    this.#next = Math.max(this.#next, now - Math.max(SLACK_MS, (FIRST_SEGMENTS * mss) / pace));
    if (this.#next <= now + QUANTUM_MS) return true;
    this.deadline = this.#next;
    return false;
  }

  sent(bytes: number, pace: number): void {
    if (pace !== Infinity) this.#next += bytes / pace;
  }
}
