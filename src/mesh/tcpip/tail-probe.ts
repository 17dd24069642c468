const WORST_DELAYED_ACK_MS = 200; // RFC 8985 §7.2
const LEAST_MS = 2;

/** One segment more after silence at the end of a flight, so that its loss is found without a timeout (RFC 8985 §7). */
export class TailProbe {
  deadline: number = Infinity;
  #end = -1; // TLP.end_seq; -1: none is under way
  #isRetransmission = false;

  get isOut(): boolean {
    return this.#end >= 0;
  }

  arm(smoothedRtt: number, isSingle: boolean, rtoAt: number, now: number): void {
    const wait = Math.max(2 * smoothedRtt + (isSingle ? WORST_DELAYED_ACK_MS : 0), LEAST_MS);
    this.deadline = now + wait < rtoAt ? now + wait : Infinity;
  }

  disarm(): void {
    this.deadline = Infinity;
  }

  sent(end: number, isRetransmission: boolean): void {
    this.deadline = Infinity;
    this.#end = end;
    this.#isRetransmission = isRetransmission;
  }

  /** The probe arrived beside the original: nothing was lost. */
  onDuplicate(una: number): void {
    if (this.#isRetransmission && una >= this.#end) this.#end = -1;
  }

  /** True: the probe repaired a loss that nothing else will tell of (§7.4). */
  finish(una: number): boolean {
    if (this.#end < 0 || una < this.#end) return false;
    const isRepair = this.#isRetransmission && una > this.#end;
    this.#end = -1;
    return isRepair;
  }

  reset(): void {
    this.deadline = Infinity;
    this.#end = -1;
  }
}
