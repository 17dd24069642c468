const SYN_TRIES = 6; // 1, 2, 4, … s, as gVisor
const SYN_ACK_TRIES = 5;
const FIRST_WAIT_MS = 1000;

/** How often a SYN went out, and when the next is due. Dropped once the connection is open. */
export class Handshake {
  deadline: number = Infinity;
  readonly #most: number;
  readonly #startedAt: number;
  #tries = 0;
  #waitMs = FIRST_WAIT_MS;

  constructor(isDialed: boolean, now: number) {
    this.#most = isDialed ? SYN_TRIES : SYN_ACK_TRIES;
    this.#startedAt = now;
  }

  sent(): void {
    this.#tries++;
  }

  /** The peer asked once more: an answer to that is not counted, but tells no round trip either. */
  again(): void {
    this.#tries = Math.max(1, this.#tries - 1);
  }

  wait(now: number): void {
    this.deadline = now + this.#waitMs;
    this.#waitMs *= 2;
  }

  get isExhausted(): boolean {
    return this.#tries > this.#most;
  }

  /** -1: it was sent more than once, so the answer tells nothing (Karn). */
  rtt(now: number): number {
    return this.#tries === 1 ? now - this.#startedAt : -1;
  }
}
