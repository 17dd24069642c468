import { parseAddress } from "../../base/address.ts";
import { toHex } from "../../base/bytes.ts";

const PER_SECOND = 100;
const BURST = 200;
/** Networks that are remembered; the one that was longest silent makes room. */
const MOST_NETWORKS = 16_384;

interface Bucket {
  left: number;
  at: number;
  limited: number;
}

/**
 * How much a network may ask over UDP, where senders are what they say they are. Past its share every second query is
 * told to come by TCP, as real resolvers do; the others hear nothing.
 */
export class AnswerRate {
  readonly #buckets: Map<string, Bucket> = new Map();

  /** `now`: monotonic ms. */
  take(address: string, now: number): "answer" | "to-tcp" | "drop" {
    const network = networkOf(address);
    const bucket = this.#buckets.get(network) ?? { left: BURST, at: now, limited: 0 };
    this.#buckets.delete(network);
    this.#buckets.set(network, bucket); // the last one now
    if (this.#buckets.size > MOST_NETWORKS) this.#buckets.delete(this.#buckets.keys().next().value!);
    bucket.left = Math.min(BURST, bucket.left + ((now - bucket.at) * PER_SECOND) / 1000);
    bucket.at = now;
    if (bucket.left >= 1) {
      bucket.left--;
      return "answer";
    }
    return bucket.limited++ % 2 === 0 ? "to-tcp" : "drop";
  }
}

/** A /24 or a /56: what one attacker has, and one resolver farm. */
function networkOf(address: string): string {
  const bytes = parseAddress(address.split("%", 1)[0]!);
  return bytes === undefined ? address : toHex(bytes.subarray(0, bytes.length === 4 ? 3 : 7));
}
