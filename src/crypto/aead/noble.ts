import { chacha20poly1305 } from "@noble/ciphers/chacha.js";
import { type Aead, NONCE_BYTES, TAG_BYTES, writeNonce } from "./aead.ts";

/** Pure JavaScript: the reference that the others are tested against, and the last resort. */
export function nobleAead(): Aead {
  const nonce = new Uint8Array(NONCE_BYTES);
  return {
    name: "noble",
    seal(key, low, high, slab, offset, length) {
      writeNonce(nonce, low, high);
      slab.set(chacha20poly1305(key, nonce).encrypt(slab.subarray(offset, offset + length)), offset);
    },
    open(key, low, high, slab, offset, length) {
      if (length < TAG_BYTES) return false;
      writeNonce(nonce, low, high);
      try {
        slab.set(chacha20poly1305(key, nonce).decrypt(slab.subarray(offset, offset + length)), offset);
        return true;
      } catch {
        return false; // how noble says that the tag is wrong
      }
    },
  };
}
