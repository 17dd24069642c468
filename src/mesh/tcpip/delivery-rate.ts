import { type Scoreboard, STARVED } from "./scoreboard.ts";

/**
 * How fast data arrives at the other side (draft-ietf-ccwg-bbr §4.1): each segment remembers how much had arrived when
 * it left, and the newest one that arrives in a turn tells how much came since.
 */
export class DeliveryRate {
  /** Bytes that ever arrived. */
  delivered = 0;
  /** The count when the newest segment of this turn left; -1: none arrived. */
  before = -1;
  isLimited = false;
  #deliveredAt = 0;
  #firstSentAt = 0;
  /** Until so much has arrived, what is in flight was held back by a lack of data. */
  #starvedUntil = -1;
  #beforeAt = 0;
  #sendSpan = 0;

  /** A segment leaves. */
  stamp(board: Scoreboard, segment: number, isAlone: boolean, now: number): void {
    if (isAlone) this.#firstSentAt = this.#deliveredAt = now;
    board.stamp(segment, this.delivered, this.#deliveredAt, this.#firstSentAt, this.#starvedUntil >= 0);
  }

  /** There was room for more than the user gave, or the other side would take. */
  starve(inFlight: number): void {
    this.#starvedUntil = this.delivered + inFlight;
  }

  /** A segment arrived. */
  take(board: Scoreboard, segment: number, now: number): void {
    this.delivered += board.end(segment) - board.start(segment);
    this.#deliveredAt = now;
    const before = board.deliveredBefore(segment);
    if (before < this.before) return;
    this.before = before;
    this.#beforeAt = board.deliveredAt(segment);
    this.#sendSpan = board.time(segment) - board.firstSentAt(segment);
    this.#firstSentAt = board.time(segment);
    this.isLimited = (board.fate(segment) & STARVED) !== 0;
  }

  /** Ends the turn: bytes a ms, -1 where nothing can be said. Shorter than the least round trip is not believed. */
  rate(leastRtt: number): number {
    if (this.#starvedUntil >= 0 && this.delivered > this.#starvedUntil) this.#starvedUntil = -1;
    if (this.before < 0) return -1;
    const span = Math.max(this.#sendSpan, this.#deliveredAt - this.#beforeAt);
    if (span <= 0 || span < leastRtt) return -1;
    return (this.delivered - this.before) / span;
  }

  reset(): void {
    this.before = -1;
  }
}
