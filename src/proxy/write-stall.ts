import type { Duplex } from "node:stream";

/**
 * For how long a caller has taken nothing of what is written for it (H1-14). Some bytes a minute are enough: who reads
 * slowly is served slowly, who does not read holds a backend's answer and our memory for nothing.
 */
export class WriteStall {
  readonly #stream: Duplex;
  readonly #unsent: () => number;
  #drains = 0;
  #mark = "";
  #since = 0;

  /** `unsent`: what the connection below the stream holds and the other end has not acknowledged. */
  constructor(stream: Duplex, unsent: () => number = () => 0) {
    this.#stream = stream;
    this.#unsent = unsent;
  }

  drained(): void {
    this.#drains++;
  }

  /** Counts from the first call that finds bytes waiting, in milliseconds. */
  lasts(now: number): number {
    const waiting = this.#stream.writableLength + this.#unsent();
    const mark = `${this.#drains} ${waiting}`;
    if (waiting === 0 || mark !== this.#mark) this.#since = now;
    this.#mark = mark;
    return now - this.#since;
  }
}
