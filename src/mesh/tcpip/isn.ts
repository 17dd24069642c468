import { hash } from "node:crypto";
import type { Random } from "../../base/random.ts";

const SECRET_BYTES = 32;
const LONGEST_ADDRESS = 16;

/** Initial sequence numbers and timestamp offsets (RFC 6528, RFC 7323 §5.4), unguessable from outside. */
export class InitialNumbers {
  /** The secret, then what the connection is; of one length, so that no digest is a step on the way to another. */
  readonly #input: Buffer = Buffer.alloc(SECRET_BYTES + 2 * LONGEST_ADDRESS + 5);
  readonly #result: { sequence: number; timestampOffset: number } = { sequence: 0, timestampOffset: 0 };

  constructor(random: Random) {
    this.#input.set(random(SECRET_BYTES));
  }

  /** The result is reused by the next call. */
  of(
    local: Uint8Array,
    localPort: number,
    remote: Uint8Array,
    remotePort: number,
    now: number,
  ): { readonly sequence: number; readonly timestampOffset: number } {
    const input = this.#input;
    input.fill(0, SECRET_BYTES);
    input.set(local, SECRET_BYTES);
    input.set(remote, SECRET_BYTES + LONGEST_ADDRESS);
    let at = SECRET_BYTES + 2 * LONGEST_ADDRESS;
    at = input.writeUInt16BE(localPort, at);
    at = input.writeUInt16BE(remotePort, at);
    input[at] = local.length;
    const digest = hash("sha256", input, "binary"); // a string, at a tenth of the cost of createHmac
    const ticks = Math.floor(now * 250) % 2 ** 32; // M of RFC 6528: one each 4 µs
    this.#result.sequence = (word(digest, 0) + ticks) >>> 0;
    this.#result.timestampOffset = word(digest, 4);
    return this.#result;
  }
}

function word(digest: string, at: number): number {
  let value = 0;
  for (let i = at; i < at + 4; i++) value = value * 256 + digest.charCodeAt(i);
  return value;
}
