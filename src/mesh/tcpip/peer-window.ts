const LARGEST_WAIT_MS = 60_000;

/**
 * How much the peer takes, and when to ask him again: the word that a closed window has opened may be lost
 * (RFC 9293 §3.8.6.1).
 */
export class PeerWindow {
  /** First position that he did not allow. */
  end: number;
  largest: number;
  /** SND.WL1: from which of his segments we know. SND.WL2 is what he acknowledged last. */
  #from = 0;
  probeAt: number = Infinity;
  #backoff = 1;

  constructor(bytes: number) {
    this.end = 1 + bytes;
    this.largest = bytes;
  }

  /** `position`: of the segment that tells. One that was overtaken on its way tells an old window (§3.10.7.4). */
  take(ack: number, bytes: number, position: number, hasAdvanced: boolean, nxt: number): void {
    if (!hasAdvanced && position < this.#from) return;
    this.#from = position;
    this.end = ack + bytes;
    this.largest = Math.max(this.largest, bytes);
    if (this.end <= nxt) return;
    this.probeAt = Infinity;
    this.#backoff = 1;
  }

  arm(rto: number, now: number): void {
    if (this.probeAt === Infinity) this.probeAt = now + Math.min(rto * this.#backoff, LARGEST_WAIT_MS);
  }

  disarm(): void {
    this.probeAt = Infinity;
  }

  /** A probe was sent and tells nothing yet. */
  backOff(rto: number, now: number): void {
    this.#backoff *= 2;
    this.arm(rto, now);
  }
}
