import { timingSafeEqual } from "node:crypto";
import type { Random } from "../../base/random.ts";
import { hash, MAC_BYTES, mac } from "../../crypto/blake2s.ts";
import { openExtended, sealExtended } from "../../crypto/chacha20-poly1305.ts";
import { COOKIE_REPLY, MESSAGE, writeU32 } from "../../wire/wireguard.ts";

const REFRESH_MS = 120_000;
const MAC1_LABEL = new TextEncoder().encode("mac1----");
const COOKIE_LABEL = new TextEncoder().encode("cookie--");

/** Keys that follow from the public key of who receives the message (paper section 5.4.4 and 5.4.7). */
export interface CookieKeys {
  readonly mac1: Uint8Array;
  readonly reply: Uint8Array;
}

export function cookieKeys(publicKey: Uint8Array): CookieKeys {
  return { mac1: hash(MAC1_LABEL, publicKey), reply: hash(COOKIE_LABEL, publicKey) };
}

/** The receiving half: checks the MACs of what comes in and hands out cookies. */
export class CookieGuard {
  readonly #keys: CookieKeys;
  readonly #random: Random;
  #secret: Uint8Array = new Uint8Array(0);
  #secretUntil = -Infinity;

  constructor(publicKey: Uint8Array, random: Random) {
    this.#keys = cookieKeys(publicKey);
    this.#random = random;
  }

  /** `at` is where mac1 stands in `message`. */
  hasMac1(message: Uint8Array, at: number): boolean {
    return timingSafeEqual(mac(this.#keys.mac1, message.subarray(0, at)), message.subarray(at, at + MAC_BYTES));
  }

  hasMac2(message: Uint8Array, at: number, source: Uint8Array, now: number): boolean {
    if (now >= this.#secretUntil) return false;
    const expected = mac(this.#cookie(source, now), message.subarray(0, at));
    return timingSafeEqual(expected, message.subarray(at, at + MAC_BYTES));
  }

  /** Smaller than what it answers, so nothing is gained by making us send it elsewhere. */
  reply(message: Uint8Array, mac1At: number, receiver: number, source: Uint8Array, now: number): Uint8Array {
    const mac1 = message.subarray(mac1At, mac1At + MAC_BYTES);
    const nonce = this.#random(COOKIE_REPLY.cookie - COOKIE_REPLY.nonce);
    return encodeCookieReply(this.#keys, receiver, nonce, this.#cookie(source, now), mac1);
  }

  #cookie(source: Uint8Array, now: number): Uint8Array {
    if (now >= this.#secretUntil) {
      this.#secret = this.#random(32);
      this.#secretUntil = now + REFRESH_MS;
    }
    return mac(this.#secret, source);
  }
}

/** The sending half, one for each peer: signs what goes out and keeps the cookie it was given. */
export class CookieJar {
  readonly #keys: CookieKeys;
  #lastMac1: Uint8Array | undefined;
  #cookie: Uint8Array | undefined;
  #cookieUntil = -Infinity;

  constructor(publicKey: Uint8Array) {
    this.#keys = cookieKeys(publicKey);
  }

  sign(message: Uint8Array, mac1At: number, now: number): void {
    const mac1 = mac(this.#keys.mac1, message.subarray(0, mac1At));
    message.set(mac1, mac1At);
    this.#lastMac1 = mac1;
    if (this.#cookie === undefined || now >= this.#cookieUntil) return;
    const mac2At = mac1At + MAC_BYTES;
    message.set(mac(this.#cookie, message.subarray(0, mac2At)), mac2At);
  }

  /** False: forged, or an answer to something older than our last message. */
  take(reply: Uint8Array, now: number): boolean {
    if (this.#lastMac1 === undefined) return false;
    const nonce = reply.subarray(COOKIE_REPLY.nonce, COOKIE_REPLY.cookie);
    const sealed = reply.subarray(COOKIE_REPLY.cookie, COOKIE_REPLY.end);
    const cookie = openExtended(this.#keys.reply, nonce, sealed, this.#lastMac1);
    if (cookie === undefined) return false;
    this.#cookie = cookie;
    this.#cookieUntil = now + REFRESH_MS;
    this.#lastMac1 = undefined; // one reply for one message
    return true;
  }
}

export function encodeCookieReply(
  keys: CookieKeys,
  receiver: number,
  nonce: Uint8Array,
  cookie: Uint8Array,
  mac1: Uint8Array,
): Uint8Array {
  const reply = new Uint8Array(COOKIE_REPLY.end);
  writeU32(reply, 0, MESSAGE.cookieReply);
  writeU32(reply, COOKIE_REPLY.receiver, receiver);
  reply.set(nonce, COOKIE_REPLY.nonce);
  reply.set(sealExtended(keys.reply, nonce, cookie, mac1), COOKIE_REPLY.cookie);
  return reply;
}
