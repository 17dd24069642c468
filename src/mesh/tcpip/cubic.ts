import { type AckReport, type Congestion, INITIAL_SEGMENTS, LARGEST_WINDOW_BYTES } from "./congestion.ts";

const BETA = 0.7;
const C = 0.4;

/** CUBIC (RFC 9438) with HyStart++ (RFC 9406), and proportional rate reduction in recovery (RFC 9937). */
export class Cubic implements Congestion {
  readonly pace: number = Infinity;
  window: number;
  #threshold = Infinity;
  #mss: number;
  #plateau = 0; // W_max, segments
  #epochAt = -1;
  #k = 0;
  #estimate = 0; // W_est, segments
  #before: { window: number; threshold: number; plateau: number } | undefined;
  // Slow start is left when the round-trip time climbs.
  #roundEnd = 0;
  #roundLeast = Infinity;
  #roundSamples = 0;
  #lastRoundLeast = Infinity;
  // Recovery
  #prrDelivered = 0;
  #prrOut = 0;
  #prrFlight = 1;

  constructor(mss: number) {
    this.#mss = mss;
    this.window = INITIAL_SEGMENTS * mss;
  }

  onPath(): void {
    this.window = Math.min(this.window, INITIAL_SEGMENTS * this.#mss);
    this.#threshold = Infinity;
    this.#plateau = 0;
    this.#epochAt = -1;
    this.#before = undefined;
    this.#lastRoundLeast = Infinity;
    this.#roundLeast = Infinity;
    this.#roundSamples = 0;
  }

  setMss(mss: number): void {
    this.window = Math.max(mss, Math.round((this.window / this.#mss) * mss));
    this.#mss = mss;
  }

  get isSlowStart(): boolean {
    return this.window < this.#threshold;
  }

  onAck(report: AckReport): void {
    if (report.rtt >= 0) this.#watchRounds(report);
    if (report.isRecovering) this.#reduceProportionally(report.delivered, report.inFlight);
    else if (report.isWindowLimited) this.#grow(report.delivered, report.smoothedRtt, report.now);
  }

  #grow(delivered: number, smoothedRtt: number, now: number): void {
    const mss = this.#mss;
    if (this.isSlowStart) {
      this.window = Math.min(this.window + delivered, Math.max(this.#threshold, this.window), LARGEST_WINDOW_BYTES);
      return;
    }
    const segments = this.window / mss;
    if (this.#epochAt < 0) {
      this.#epochAt = now;
      this.#estimate = segments;
      this.#k = this.#plateau > segments ? Math.cbrt((this.#plateau - segments) / C) : 0;
      if (this.#plateau <= segments) this.#plateau = segments;
    }
    const acked = delivered / mss;
    // RFC 9438 §4.3: the additive increase that makes it as fast as Reno; 1 once the old window is reached.
    const alpha = this.#estimate >= this.#plateau ? 1 : (3 * (1 - BETA)) / (1 + BETA);
    this.#estimate += (alpha * acked) / segments;
    const t = (now - this.#epochAt + Math.max(0, smoothedRtt)) / 1000;
    const cubic = C * (t - this.#k) ** 3 + this.#plateau;
    const target = Math.min(Math.max(cubic, segments), 1.5 * segments);
    const next = Math.max(segments + ((target - segments) / segments) * acked, this.#estimate);
    this.window = Math.min(next * mss, LARGEST_WINDOW_BYTES);
  }

  #watchRounds(report: AckReport): void {
    if (!this.isSlowStart) return;
    if (report.totalBefore >= this.#roundEnd) {
      this.#lastRoundLeast = this.#roundLeast;
      this.#roundLeast = Infinity;
      this.#roundSamples = 0;
      this.#roundEnd = report.total;
    }
    this.#roundLeast = Math.min(this.#roundLeast, report.rtt);
    this.#roundSamples++;
    const least = this.#lastRoundLeast;
    if (this.#roundSamples < 8 || least === Infinity || this.window < 16 * this.#mss) return;
    if (this.#roundLeast >= least + Math.min(16, Math.max(4, least / 8))) this.#threshold = this.window;
  }

  onRecovery(inFlight: number, flight: number): void {
    this.#prrDelivered = 0;
    this.#prrOut = 0;
    this.#prrFlight = Math.max(1, flight);
    this.#reduce(flight);
    this.window = inFlight + this.#mss;
  }

  #reduce(flight: number): void {
    const segments = this.window / this.#mss;
    this.#before = { window: this.window, threshold: this.#threshold, plateau: this.#plateau };
    // Fast convergence, RFC 9438 §4.7.
    this.#plateau = segments < this.#plateau ? (segments * (1 + BETA)) / 2 : segments;
    this.#threshold = Math.max(2 * this.#mss, Math.min(flight, this.window) * BETA);
    this.#epochAt = -1;
  }

  onSent(bytes: number): void {
    this.#prrOut += bytes;
  }

  /** RFC 9937 §6, with the slow-start reduction bound. */
  #reduceProportionally(delivered: number, inFlight: number): void {
    this.#prrDelivered += delivered;
    let count: number;
    if (inFlight > this.#threshold) {
      count = Math.ceil((this.#prrDelivered * this.#threshold) / this.#prrFlight) - this.#prrOut;
    } else {
      const limit = Math.max(this.#prrDelivered - this.#prrOut, delivered) + this.#mss;
      count = Math.min(this.#threshold - inFlight, limit);
    }
    const least = this.#prrOut === 0 ? this.#mss : 0; // the first retransmission goes at once
    this.window = Math.max(inFlight + Math.max(least, count), this.#mss);
  }

  onRecovered(wasTimeout: boolean): void {
    if (!wasTimeout) this.window = Math.max(this.#threshold, 2 * this.#mss);
  }

  onTimeout(inFlight: number, isFirst: boolean): void {
    if (isFirst) this.#reduce(inFlight);
    this.window = this.#mss;
    this.#epochAt = -1;
  }

  onTailLoss(inFlight: number): void {
    this.#reduce(inFlight);
    this.window = this.#threshold;
  }

  undo(): void {
    if (this.#before === undefined) return;
    this.window = Math.max(this.window, this.#before.window);
    this.#threshold = this.#before.threshold;
    this.#plateau = this.#before.plateau;
    this.#epochAt = -1;
    this.#before = undefined;
  }

  /** RFC 5681 §4.1: after silence the old window says nothing. */
  onIdle(gap: number): void {
    this.window = Math.min(this.window, INITIAL_SEGMENTS * this.#mss);
    if (this.#epochAt >= 0) this.#epochAt += gap;
  }
}
