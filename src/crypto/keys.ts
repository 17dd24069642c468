import { createPrivateKey, createPublicKey, diffieHellman, type KeyObject } from "node:crypto";
import { fromHex, toHex } from "../base/bytes.ts";
import type { Random } from "../base/random.ts";

export const KEY_BYTES = 32;

/** What a key is for, as written before its hex digits (upstream types/key). */
export type KeyPrefix = "nodekey" | "mkey" | "discokey" | "privkey" | "nlpub" | "chalpub";

// The fixed ASN.1 that goes before the 32 bytes of a key (RFC 8410 section 7 and section 4).
const PKCS8 = Buffer.from("302e020100300506032b656e04220420", "hex");
const SPKI = Buffer.from("302a300506032b656e032100", "hex");

/** A new X25519 private key, clamped (RFC 7748 section 5). */
export function generatePrivateKey(random: Random): Uint8Array {
  return clampPrivateKey(random(KEY_BYTES));
}

/** Clamps in place and gives the same bytes back. */
export function clampPrivateKey(bytes: Uint8Array): Uint8Array {
  bytes[0]! &= 248;
  bytes[31]! = (bytes[31]! & 127) | 64;
  return bytes;
}

/** A private key read once: reading costs as much as using it, so keys that are used again are kept like this. */
export type ReadyPrivateKey = KeyObject;

export function readyPrivateKey(bytes: Uint8Array): ReadyPrivateKey {
  const der = Buffer.concat([PKCS8, bytes]);
  const key = createPrivateKey({ key: der, format: "der", type: "pkcs8" });
  der.fill(0);
  return key;
}

export function publicKeyOf(privateKey: Uint8Array | ReadyPrivateKey): Uint8Array {
  const der = createPublicKey(ready(privateKey)).export({ format: "der", type: "spki" });
  return new Uint8Array(der.subarray(SPKI.length));
}

/** X25519. `undefined` when the result is all zeros: the other side sent a point of low order (RFC 7748 section 6.1). */
export function sharedSecret(privateKey: Uint8Array | ReadyPrivateKey, publicKey: Uint8Array): Uint8Array | undefined {
  if (publicKey.length !== KEY_BYTES) return undefined;
  const mine = ready(privateKey);
  const theirs = createPublicKey({ key: Buffer.concat([SPKI, publicKey]), format: "der", type: "spki" });
  let secret: Uint8Array;
  try {
    secret = new Uint8Array(diffieHellman({ privateKey: mine, publicKey: theirs }));
  } catch {
    return undefined; // OpenSSL refuses an all-zero result by throwing
  }
  return secret.some((byte) => byte !== 0) ? secret : undefined;
}

/** `nodekey:` and 64 hex digits. */
export function formatKey(prefix: KeyPrefix, bytes: Uint8Array): string {
  return `${prefix}:${toHex(bytes)}`;
}

/** `undefined` unless `text` is exactly the prefix, a colon and 64 hex digits. */
export function parseKey(prefix: KeyPrefix, text: string): Uint8Array | undefined {
  if (!text.startsWith(`${prefix}:`)) return undefined;
  const bytes = fromHex(text.slice(prefix.length + 1));
  return bytes?.length === KEY_BYTES ? bytes : undefined;
}

function ready(key: Uint8Array | ReadyPrivateKey): ReadyPrivateKey {
  return key instanceof Uint8Array ? readyPrivateKey(key) : key;
}
