/** Handshakes at once before we ask for cookies: an eighth of wireguard-go's queue of 1,024. */
const BACKLOG = 128;
/** What we serve without asking: each costs about 0.25 ms of the only thread. */
const PER_SECOND = 200;
const STAYS_MS = 1000;

/** Tells a flood of handshakes from ordinary ones (paper section 5.3): a leaking bucket in place of a queue's length. */
export class LoadMeter {
  #level = 0;
  #at = -Infinity;
  #until = -Infinity;

  /** Counts one handshake message. True: under load. */
  count(now: number): boolean {
    const leaked = this.#at === -Infinity ? 0 : ((now - this.#at) * PER_SECOND) / 1000;
    this.#level = Math.max(0, this.#level - leaked) + 1;
    this.#at = now;
    if (this.#level > BACKLOG) {
      this.#until = now + STAYS_MS;
      this.#level = BACKLOG; // a long flood must not take long to forget
    }
    return now < this.#until;
  }
}

const COST_MS = 1000 / 20;
const BURST = 5;
const MOST_SOURCES = 4096;

interface Bucket {
  tokens: number;
  at: number;
}

/** 20 a second and 5 at once for each source address (wireguard-go ratelimiter). Bounded: when full, all are refused. */
export class RateLimiter {
  readonly #buckets: Map<string, Bucket> = new Map();
  #sweptAt = -Infinity;

  allow(source: string, now: number): boolean {
    const known = this.#buckets.get(source);
    if (known === undefined) {
      if (this.#buckets.size >= MOST_SOURCES) this.#sweep(now);
      if (this.#buckets.size >= MOST_SOURCES) return false;
      this.#buckets.set(source, { tokens: BURST - 1, at: now });
      return true;
    }
    known.tokens = Math.min(BURST, known.tokens + (now - known.at) / COST_MS);
    known.at = now;
    if (known.tokens < 1) return false;
    known.tokens--;
    return true;
  }

  #sweep(now: number): void {
    if (now - this.#sweptAt < 100) return;
    this.#sweptAt = now;
    for (const [source, bucket] of this.#buckets) if (now - bucket.at > 1000) this.#buckets.delete(source);
  }
}
