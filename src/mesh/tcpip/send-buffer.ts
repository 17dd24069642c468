import { ByteRing } from "./ring.ts";

export const LARGEST_BUFFER_BYTES: number = 8 * 1024 * 1024;
const FIRST_BUFFER_BYTES = 256 * 1024;

/** What the user wrote and is not acknowledged. */
export class SendBuffer {
  readonly ring: ByteRing = new ByteRing(1);
  /** End of what he wrote. */
  written: number = 1;
  isFinQueued: boolean = false;
  /** How much he may have in it; grows with the congestion window. */
  limit: number = FIRST_BUFFER_BYTES;

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
    if (this.ring.capacity > 2 * LARGEST_BUFFER_BYTES && position >= this.written) this.ring.release();
  }

  widen(window: number): void {
    const wanted = Math.min(2 * window, LARGEST_BUFFER_BYTES);
    if (wanted > this.limit) this.limit = wanted;
  }
}
