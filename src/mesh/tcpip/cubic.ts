const BETA = 0.7;
const C = 0.4;
const INITIAL_SEGMENTS = 10; // RFC 6928
const LARGEST_WINDOW_BYTES = 64 * 1024 * 1024;

/** Congestion window by CUBIC (RFC 9438), in bytes. Loss recovery is the sender's matter. */
export class Cubic {
  window: number;
  threshold: number = Infinity;
  #mss: number;
  #plateau = 0; // W_max, segments
  #epochAt = -1;
  #k = 0;
  #estimate = 0; // W_est, segments
  #undo: { window: number; threshold: number; plateau: number } | undefined;
  // HyStart++ (RFC 9406): leave slow start when the round-trip time climbs.
  #roundEnd = 0;
  #roundLeast = Infinity;
  #roundSamples = 0;
  #lastRoundLeast = Infinity;

  constructor(mss: number) {
    this.#mss = mss;
    this.window = INITIAL_SEGMENTS * mss;
  }

  setMss(mss: number): void {
    this.window = Math.max(mss, Math.round((this.window / this.#mss) * mss));
    this.#mss = mss;
  }

  get isSlowStart(): boolean {
    return this.window < this.threshold;
  }

  /** `acknowledged` bytes left the network while the window was in full use. */
  onAck(acknowledged: number, smoothedRtt: number, now: number): void {
    const mss = this.#mss;
    if (this.isSlowStart) {
      this.window = Math.min(this.window + acknowledged, Math.max(this.threshold, this.window), LARGEST_WINDOW_BYTES);
      return;
    }
    const segments = this.window / mss;
    if (this.#epochAt < 0) {
      this.#epochAt = now;
      this.#estimate = segments;
      this.#k = this.#plateau > segments ? Math.cbrt((this.#plateau - segments) / C) : 0;
      if (this.#plateau <= segments) this.#plateau = segments;
    }
    const acked = acknowledged / mss;
    // RFC 9438 §4.3: the additive increase that makes it as fast as Reno; 1 once the old window is reached.
    const alpha = this.#estimate >= this.#plateau ? 1 : (3 * (1 - BETA)) / (1 + BETA);
    this.#estimate += (alpha * acked) / segments;
    const t = (now - this.#epochAt + Math.max(0, smoothedRtt)) / 1000;
    const cubic = C * (t - this.#k) ** 3 + this.#plateau;
    const target = Math.min(Math.max(cubic, segments), 1.5 * segments);
    let next = segments + ((target - segments) / segments) * acked;
    if (this.#estimate > next) next = this.#estimate;
    this.window = Math.min(next * mss, LARGEST_WINDOW_BYTES);
  }

  /** One round-trip sample; `nextPosition` is where the round that starts now will end. */
  onRtt(rtt: number, acknowledgedTo: number, nextPosition: number): void {
    if (!this.isSlowStart) return;
    if (acknowledgedTo > this.#roundEnd) {
      this.#lastRoundLeast = this.#roundLeast;
      this.#roundLeast = Infinity;
      this.#roundSamples = 0;
      this.#roundEnd = nextPosition;
    }
    this.#roundLeast = Math.min(this.#roundLeast, rtt);
    this.#roundSamples++;
    const least = this.#lastRoundLeast;
    if (this.#roundSamples < 8 || least === Infinity || this.window < 16 * this.#mss) return;
    if (this.#roundLeast >= least + Math.min(16, Math.max(4, least / 8))) this.threshold = this.window;
  }

  /** A loss was found: the window that `inFlight` shall shrink to is `threshold`. */
  onLoss(inFlight: number): void {
    const segments = this.window / this.#mss;
    this.#undo = { window: this.window, threshold: this.threshold, plateau: this.#plateau };
    // Fast convergence, RFC 9438 §4.7.
    this.#plateau = segments < this.#plateau ? (segments * (1 + BETA)) / 2 : segments;
    this.threshold = Math.max(2 * this.#mss, Math.min(inFlight, this.window) * BETA);
    this.#epochAt = -1;
  }

  onTimeout(inFlight: number, isFirst: boolean): void {
    if (isFirst) this.onLoss(inFlight);
    this.window = this.#mss;
    this.#epochAt = -1;
  }

  /** The reduction was a mistake (RFC 4015): the original segments arrive after all. */
  undo(): void {
    if (this.#undo === undefined) return;
    this.window = Math.max(this.window, this.#undo.window);
    this.threshold = this.#undo.threshold;
    this.#plateau = this.#undo.plateau;
    this.#epochAt = -1;
    this.#undo = undefined;
  }

  /** RFC 5681 §4.1: after silence the old window says nothing. `gap` is how long nothing was sent. */
  onIdle(gap: number): void {
    this.window = Math.min(this.window, INITIAL_SEGMENTS * this.#mss);
    if (this.#epochAt >= 0) this.#epochAt += gap;
  }
}
