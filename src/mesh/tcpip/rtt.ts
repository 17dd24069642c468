const INITIAL_RTO_MS = 1000; // RFC 6298 §2.1
const LEAST_RTO_MS = 200; // what Linux and gVisor use instead of the RFC's second
const LARGEST_RTO_MS = 60_000;
const MIN_RTT_WINDOW_MS = 300_000;

/** Round-trip time and retransmission timeout of one connection (RFC 6298). */
export class RttEstimator {
  /** -1: no sample yet. */
  smoothed: number = -1;
  #variation = 0;
  #base = INITIAL_RTO_MS;
  #backoff = 1;
  least: number = Infinity;
  #leastSince = 0;
  #pathSince = -Infinity;

  sample(rtt: number, now: number): void {
    const r = Math.max(rtt, 0.01);
    if (this.smoothed < 0) {
      this.smoothed = r;
      this.#variation = r / 2;
    } else {
      this.#variation += (Math.abs(this.smoothed - r) - this.#variation) / 4;
      this.smoothed += (r - this.smoothed) / 8;
    }
    // The 200 ms bound the variation, not the sum, as in Linux: delayed ACKs of the other side must not time out.
    this.#base = Math.min(this.smoothed + Math.max(LEAST_RTO_MS, 4 * this.#variation), LARGEST_RTO_MS);
    this.#backoff = 1;
    const isOfPath = now - r >= this.#pathSince;
    if (isOfPath && (r <= this.least || now - this.#leastSince > MIN_RTT_WINDOW_MS)) {
      this.least = r;
      this.#leastSince = now;
    }
  }

  /** Packets go another way: the smoothed time follows by itself, the least of all would not. */
  changePath(now: number): void {
    this.least = Infinity;
    this.#pathSince = now;
  }

  get rto(): number {
    return Math.min(this.#base * this.#backoff, LARGEST_RTO_MS);
  }

  /** RFC 6298 §5.5. */
  backOff(): void {
    if (this.rto < LARGEST_RTO_MS) this.#backoff *= 2;
  }

  resetBackoff(): void {
    this.#backoff = 1;
  }
}
