import { createCipheriv, createDecipheriv } from "node:crypto";
import { xchacha20poly1305 } from "@noble/ciphers/chacha.js";
import { concatBytes } from "../base/bytes.ts";

const TAG_BYTES = 16;
const OPTIONS = { authTagLength: TAG_BYTES } as const;
const ZERO_NONCE = new Uint8Array(12);

/** RFC 8439 under a key that is used once, so the nonce is zero. */
export function sealOnce(key: Uint8Array, plain: Uint8Array, data: Uint8Array): Uint8Array {
  const cipher = createCipheriv("chacha20-poly1305", key, ZERO_NONCE, OPTIONS);
  cipher.setAAD(data, { plaintextLength: plain.length });
  const sealed = cipher.update(plain);
  cipher.final();
  return concatBytes(sealed, cipher.getAuthTag());
}

/** `undefined` when not authentic. */
export function openOnce(key: Uint8Array, sealed: Uint8Array, data: Uint8Array): Uint8Array | undefined {
  const length = sealed.length - TAG_BYTES;
  if (length < 0) return undefined;
  const decipher = createDecipheriv("chacha20-poly1305", key, ZERO_NONCE, OPTIONS);
  decipher.setAAD(data, { plaintextLength: length });
  decipher.setAuthTag(sealed.subarray(length));
  const plain = decipher.update(sealed.subarray(0, length));
  try {
    decipher.final();
  } catch {
    return undefined; // how node:crypto says that the tag is wrong
  }
  return new Uint8Array(plain);
}

/** XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha): a 24-byte random nonce. */
export function sealExtended(key: Uint8Array, nonce: Uint8Array, plain: Uint8Array, data: Uint8Array): Uint8Array {
  return xchacha20poly1305(key, nonce, data).encrypt(plain);
}

export function openExtended(
  key: Uint8Array,
  nonce: Uint8Array,
  sealed: Uint8Array,
  data: Uint8Array,
): Uint8Array | undefined {
  try {
    return xchacha20poly1305(key, nonce, data).decrypt(sealed);
  } catch {
    return undefined; // how noble says that the tag is wrong
  }
}
