import { createHmac } from "node:crypto";
import type { Random } from "../../base/random.ts";

/** Initial sequence numbers and timestamp offsets (RFC 6528, RFC 7323 §5.4), unguessable from outside. */
export class InitialNumbers {
  readonly #secret: Uint8Array;
  readonly #result: { sequence: number; timestampOffset: number } = { sequence: 0, timestampOffset: 0 };

  constructor(random: Random) {
    this.#secret = random(32);
  }

  /** The result is reused by the next call. */
  of(
    local: Uint8Array,
    localPort: number,
    remote: Uint8Array,
    remotePort: number,
    now: number,
  ): { readonly sequence: number; readonly timestampOffset: number } {
    const digest = createHmac("sha256", this.#secret)
      .update(local)
      .update(remote)
      .update(Uint8Array.of(localPort >> 8, localPort, remotePort >> 8, remotePort))
      .digest();
    const ticks = Math.floor(now * 250) % 2 ** 32; // M of RFC 6528: one each 4 µs
    this.#result.sequence = (digest.readUInt32BE(0) + ticks) >>> 0;
    this.#result.timestampOffset = digest.readUInt32BE(4);
    return this.#result;
  }
}
