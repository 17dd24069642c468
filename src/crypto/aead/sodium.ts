import { createRequire } from "node:module";
import { type Aead, NONCE_BYTES, TAG_BYTES, writeNonce } from "./aead.ts";

/** The two functions used of sodium-native 5, which ships no types. */
interface Sodium {
  crypto_aead_chacha20poly1305_ietf_encrypt(
    cipher: Uint8Array,
    message: Uint8Array,
    data: null,
    secretNonce: null,
    nonce: Uint8Array,
    key: Uint8Array,
  ): number;
  crypto_aead_chacha20poly1305_ietf_decrypt(
    message: Uint8Array,
    secretNonce: null,
    cipher: Uint8Array,
    data: null,
    nonce: Uint8Array,
    key: Uint8Array,
  ): number;
}

/** `undefined` when the optional package is absent or its binary does not load here (musl, unknown machine). */
export function sodiumAead(): Aead | undefined {
  let sodium: Sodium;
  try {
    sodium = createRequire(import.meta.url)("sodium-native") as Sodium;
  } catch {
    return undefined; // optional by design: the next implementation is taken
  }
  const nonce = new Uint8Array(NONCE_BYTES);
  return {
    name: "sodium",
    seal(key, low, high, slab, offset, length) {
      writeNonce(nonce, low, high);
      const end = offset + length;
      const cipher = slab.subarray(offset, end + TAG_BYTES);
      sodium.crypto_aead_chacha20poly1305_ietf_encrypt(cipher, slab.subarray(offset, end), null, null, nonce, key);
    },
    open(key, low, high, slab, offset, length) {
      if (length < TAG_BYTES) return false;
      writeNonce(nonce, low, high);
      const end = offset + length;
      const message = slab.subarray(offset, end - TAG_BYTES);
      try {
        sodium.crypto_aead_chacha20poly1305_ietf_decrypt(message, null, slab.subarray(offset, end), null, nonce, key);
        return true;
      } catch {
        return false; // how sodium-native says that the tag is wrong
      }
    },
  };
}
