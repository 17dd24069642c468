import { LARGEST_BUFFER_BYTES, type TcpMemory } from "./memory.ts";
import { ByteRing } from "./ring.ts";

const FIRST_BUFFER_BYTES = 256 * 1024;

/** What the user wrote and is not acknowledged. */
export class SendBuffer {
  readonly ring: ByteRing;
  /** End of what he wrote. */
  written: number = 1;
  isFinQueued: boolean = false;
  readonly #memory: TcpMemory;
  #limit = FIRST_BUFFER_BYTES;

  constructor(memory: TcpMemory) {
    this.#memory = memory;
    this.ring = new ByteRing(1, memory);
  }

  /** How much he may have in it; grows with the congestion window. */
  get limit(): number {
    return Math.min(this.#limit, this.#memory.share);
  }

  /** What is to be acknowledged in the end: FIN takes a position of its own. */
  get end(): number {
    return this.written + (this.isFinQueued ? 1 : 0);
  }

  write(view: Uint8Array): void {
    this.ring.put(this.written, view, 0, view.length, this.written);
    this.written += view.length;
  }

  discard(position: number): void {
    this.ring.discard(Math.min(position, this.written));
    if (this.#memory.isScarce) this.ring.fit(this.written);
    else if (this.ring.capacity > 2 * LARGEST_BUFFER_BYTES && position >= this.written) this.ring.release();
  }

  widen(window: number): void {
    const wanted = Math.min(2 * window, LARGEST_BUFFER_BYTES);
    if (wanted > this.#limit) this.#limit = wanted;
  }
}
