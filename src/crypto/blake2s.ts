import { createHash } from "node:crypto";
import { blake2s } from "@noble/hashes/blake2.js";
import { concatBytes } from "../base/bytes.ts";

export const MAC_BYTES = 16;
const BLOCK_BYTES = 64;

/** BLAKE2s-256 of the parts, one after another. */
export function hash(...parts: readonly Uint8Array[]): Uint8Array {
  const state = createHash("blake2s256");
  for (const part of parts) state.update(part);
  return new Uint8Array(state.digest());
}

/** Keyed BLAKE2s with a 16-byte output (its own parameter block: not a cut-off hash). node:crypto has none. */
export function mac(key: Uint8Array, message: Uint8Array): Uint8Array {
  return blake2s(message, { key, dkLen: MAC_BYTES });
}

/** HMAC (RFC 2104) over BLAKE2s-256. The key is never longer than a block here. */
export function hmac(key: Uint8Array, ...parts: readonly Uint8Array[]): Uint8Array {
  const inner = new Uint8Array(BLOCK_BYTES).fill(0x36);
  const outer = new Uint8Array(BLOCK_BYTES).fill(0x5c);
  for (let i = 0; i < key.length; i++) {
    inner[i]! ^= key[i]!;
    outer[i]! ^= key[i]!;
  }
  const result = hash(outer, hash(inner, ...parts));
  inner.fill(0);
  outer.fill(0);
  return result;
}

/** WireGuard's KDFn: HKDF (RFC 5869) with `key` as salt and no info; `count` outputs of 32 bytes. */
export function kdf(key: Uint8Array, input: Uint8Array, count: 1 | 2 | 3): Uint8Array[] {
  const secret = hmac(key, input);
  const outputs: Uint8Array[] = [];
  let last: Uint8Array = new Uint8Array(0);
  for (let i = 1; i <= count; i++) {
    last = hmac(secret, concatBytes(last, Uint8Array.of(i)));
    outputs.push(last);
  }
  secret.fill(0);
  return outputs;
}
