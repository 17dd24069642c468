import type { RttEstimator } from "./rtt.ts";
import { LOST, RETRANSMITTED, SACKED, type Scoreboard } from "./scoreboard.ts";

const DUPLICATE_THRESHOLD = 3;
const LARGEST_FACTOR = 20;
const FACTOR_KEPT_RECOVERIES = 16;

/** Finds losses by time (RFC 8985 §6): what left well before something that has arrived is lost. */
export class LossDetector {
  /** When a segment that is late now will count as lost. */
  deadline: number = Infinity;
  // The newest segment that arrived: RACK.xmit_ts, RACK.end_seq, RACK.rtt.
  #time = -1;
  #end = 0;
  #rtt = 0;
  #furthest = 1; // RACK.fack
  #sawReordering = false;
  #factor = 1;
  #factorKept = 0;
  #roundEnd = 0;

  /** §6.2 steps 1 to 3. Returns the send time of an original, -1 of what was sent again (Karn). */
  delivered(board: Scoreboard, segment: number, echoAge: number, rtt: RttEstimator, now: number): number {
    const time = board.time(segment);
    const end = board.end(segment);
    const isAgain = (board.fate(segment) & RETRANSMITTED) !== 0;
    if (isAgain) {
      if (echoAge >= 0 && now - echoAge < Math.floor(time)) return -1;
      if (now - time < rtt.least) return -1;
    } else if (end < this.#furthest) this.#sawReordering = true;
    this.#furthest = Math.max(this.#furthest, end);
    if (time > this.#time || (time === this.#time && end > this.#end)) {
      this.#time = time;
      this.#end = end;
      this.#rtt = now - time;
    }
    return isAgain ? -1 : time;
  }

  /** A segment arrived twice: be more patient, a step each round trip. */
  onDuplicate(una: number, nxt: number): void {
    if (una < this.#roundEnd) return;
    this.#roundEnd = nxt;
    this.#factor = Math.min(this.#factor + 1, LARGEST_FACTOR);
    this.#factorKept = FACTOR_KEPT_RECOVERIES;
  }

  onRecovered(): void {
    if (this.#factorKept > 0 && --this.#factorKept === 0) this.#factor = 1;
  }

  /** §6.2 steps 4 and 5: marks what is lost. Returns the first segment marked, or -1. */
  detect(board: Scoreboard, rtt: RttEstimator, mss: number, isRecovering: boolean, now: number): number {
    this.deadline = Infinity;
    if (this.#time < 0) return -1;
    let window = 0;
    const isCertain = isRecovering || board.sackedBytes >= DUPLICATE_THRESHOLD * mss;
    if (this.#sawReordering || !isCertain) {
      window = Math.min((rtt.least / 4) * this.#factor, Math.max(rtt.smoothed, 1));
    }
    let wait = 0;
    let first = -1;
    for (let i = board.head; i < board.tail; i++) {
      const time = board.time(i);
      const fate = board.fate(i);
      if (time > this.#time || (time === this.#time && board.end(i) >= this.#end)) {
        if ((fate & RETRANSMITTED) === 0) break; // originals leave in order: all that follow are later still
        continue;
      }
      if ((fate & (SACKED | LOST)) !== 0) continue;
      const remaining = time + this.#rtt + window - now;
      if (remaining <= 0) {
        board.markLost(i);
        if (first < 0) first = i;
      } else wait = Math.max(wait, remaining);
    }
    if (wait > 0) this.deadline = now + wait;
    return first;
  }
}
