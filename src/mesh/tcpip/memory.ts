/** A window that is never refused: enough to go on, whoever else holds what there is. */
const SMALLEST_SHARE_BYTES = 32 * 1024;
/** A ring that is never refused: it holds the window of a SYN, which cannot be taken back (RFC 9293 §3.8.6.2.1). */
const SMALLEST_RING_BYTES = 64 * 1024;
/** What one may hold, as a part of what is left. */
const PART = 1 / 8;
/** The most that one connection holds in one direction, however much there is. */
export const LARGEST_BUFFER_BYTES: number = 8 * 1024 * 1024;
export const DEFAULT_MEMORY_BYTES: number = 256 * 1024 * 1024;

/**
 * What the buffers of all connections of a stack hold together, as Linux's `tcp_mem` bounds it. Each may hold a part of
 * what is left (dynamic thresholds, Choudhury and Hahne 1998): nobody feels it until three quarters are held, then those
 * who hold most are the first whose windows grow no further, and for who comes new something is always left.
 */
export class TcpMemory {
  /** Bytes of all rings, full or not. */
  held: number = 0;
  readonly #most: number;

  constructor(most: number = DEFAULT_MEMORY_BYTES) {
    this.#most = most;
  }

  /** How much one connection may hold in each direction now. */
  get share(): number {
    const share = (this.#most - this.held) * PART;
    return Math.min(LARGEST_BUFFER_BYTES, Math.max(SMALLEST_SHARE_BYTES, share));
  }

  get isScarce(): boolean {
    return this.share < LARGEST_BUFFER_BYTES;
  }

  /** May a ring that holds `size` hold `wanted` for what comes in? What was promised and does not fit is lost, and comes again. */
  mayGrow(size: number, wanted: number): boolean {
    return wanted <= SMALLEST_RING_BYTES || this.held + wanted - size <= this.#most;
  }
}
