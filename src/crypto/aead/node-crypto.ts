import { createCipheriv, createDecipheriv } from "node:crypto";
import { type Aead, NONCE_BYTES, TAG_BYTES, writeNonce } from "./aead.ts";

const ALGORITHM = "chacha20-poly1305";
const OPTIONS = { authTagLength: TAG_BYTES } as const;

/** Always there, and fast enough: about 5 µs a packet of 1,420 bytes, most of it the cipher object. */
export function nodeCryptoAead(): Aead {
  const nonce = new Uint8Array(NONCE_BYTES);
  return {
    name: "node-crypto",
    seal(key, low, high, slab, offset, length) {
      writeNonce(nonce, low, high);
      const cipher = createCipheriv(ALGORITHM, key, nonce, OPTIONS);
      slab.set(cipher.update(slab.subarray(offset, offset + length)), offset);
      cipher.final();
      slab.set(cipher.getAuthTag(), offset + length);
    },
    open(key, low, high, slab, offset, length) {
      if (length < TAG_BYTES) return false;
      writeNonce(nonce, low, high);
      const end = offset + length - TAG_BYTES;
      const decipher = createDecipheriv(ALGORITHM, key, nonce, OPTIONS);
      decipher.setAuthTag(slab.subarray(end, end + TAG_BYTES));
      const plain = decipher.update(slab.subarray(offset, end));
      try {
        decipher.final();
      } catch {
        return false; // how node:crypto says that the tag is wrong
      }
      slab.set(plain, offset);
      return true;
    },
  };
}
