import { hsalsa, secretbox } from "@noble/ciphers/salsa.js";
import { sharedSecret } from "./keys.ts";

export const BOX_NONCE_BYTES = 24;
export const BOX_TAG_BYTES = 16;

const SIGMA: Uint32Array = new Uint32Array(new TextEncoder().encode("expand 32-byte k").buffer);
const NO_NONCE: Uint32Array = new Uint32Array(4);

/**
 * The key of NaCl's `crypto_box` between two parties: X25519, then HSalsa20 with a zero nonce. Keep it: it is the
 * costly part. `undefined` for public keys of low order, whose secret anybody knows.
 */
export function boxKey(privateKey: Uint8Array, publicKey: Uint8Array): Uint8Array | undefined {
  const secret = sharedSecret(privateKey, publicKey);
  if (secret === undefined) return undefined;
  const key = new Uint32Array(8);
  hsalsa(SIGMA, new Uint32Array(secret.slice().buffer), NO_NONCE, key);
  return new Uint8Array(key.buffer);
}

/** Tag 16, then ciphertext. A nonce must never be used twice with one key. */
export function sealBox(key: Uint8Array, nonce: Uint8Array, plain: Uint8Array): Uint8Array {
  return secretbox(key, nonce).seal(plain);
}

/** `undefined` when it was not sealed with this key and nonce. */
export function openBox(key: Uint8Array, nonce: Uint8Array, box: Uint8Array): Uint8Array | undefined {
  if (box.length < BOX_TAG_BYTES || nonce.length !== BOX_NONCE_BYTES) return undefined;
  try {
    return secretbox(key, nonce).open(box);
  } catch {
    return undefined; // the tag does not match
  }
}
