const RING_BITS = 8192;
const WORD_BITS = 32;
const WORDS = RING_BITS / WORD_BITS;
/** How far behind the newest counter one may arrive: the ring less the 64 bits that wireguard-go keeps clear. */
export const WINDOW: number = RING_BITS - 64;

/**
 * Which counters were seen (RFC 6479). A counter is two unsigned 32-bit halves, so it is exact up to 2^64: the place in
 * the ring needs only the low half, and the distance is exact wherever it matters (below 2^53).
 */
export class ReplayWindow {
  readonly #ring: Int32Array = new Int32Array(WORDS);
  #low = 0;
  #high = 0;

  /** True once for each counter that is not too old. Ask only after the packet was authenticated. */
  accept(low: number, high: number): boolean {
    const ahead = (high - this.#high) * 0x1_0000_0000 + (low - this.#low);
    if (ahead < -WINDOW) return false;
    if (ahead > 0) this.#advance(low, high, ahead);
    const word = (low >>> 5) & (WORDS - 1);
    const bit = 1 << (low & (WORD_BITS - 1));
    if ((this.#ring[word]! & bit) !== 0) return false;
    this.#ring[word]! |= bit;
    return true;
  }

  /** Clears the words between the old newest and the new one. */
  #advance(low: number, high: number, ahead: number): void {
    const from = this.#low >>> 5;
    const words = ahead >= RING_BITS ? WORDS : ((low >>> 5) - from) & (WORDS - 1);
    for (let i = 1; i <= words; i++) this.#ring[(from + i) & (WORDS - 1)] = 0;
    this.#low = low;
    this.#high = high;
  }
}
