import { randomBytes } from "node:crypto";

/** Gives `length` unpredictable bytes. An argument everywhere, so that tests can seed it. */
export type Random = (length: number) => Uint8Array;

export const systemRandom: Random = (length) => new Uint8Array(randomBytes(length));

/** Repeatable bytes for tests (xorshift32): the same seed gives the same bytes. */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0 || 1;
  return (length) => {
    const bytes = new Uint8Array(length);
    for (let i = 0; i < length; i++) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      bytes[i] = state;
    }
    return bytes;
  };
}
