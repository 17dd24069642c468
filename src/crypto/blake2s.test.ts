import { blake2s } from "@noble/hashes/blake2.js";
import { hkdf } from "@noble/hashes/hkdf.js";
import { hmac as nobleHmac } from "@noble/hashes/hmac.js";
import { expect, test } from "vitest";
import { toHex } from "../base/bytes.ts";
import { seededRandom } from "../base/random.ts";
import { hash, hmac, kdf, mac } from "./blake2s.ts";

const text = (words: string) => new TextEncoder().encode(words);

test("the two hashes that WireGuard starts from", () => {
  const chain = hash(text("Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"));
  expect(toHex(chain)).toBe("60e26daef327efc02ec335e2a025d2d016eb4206f87277f52d38d1988b78cd36");
  const first = hash(chain, text("WireGuard v1 zx2c4 Jason@zx2c4.com"));
  expect(toHex(first)).toBe("2211b361081ac566691243db458ad5322d9c6c662293e8b70ee19c65ba079ef3");
});

test("HMAC and HKDF agree with noble", () => {
  const random = seededRandom(11);
  for (const length of [0, 1, 32, 64, 100]) {
    const [key, input] = [random(32), random(length)];
    expect(hmac(key, input)).toEqual(nobleHmac(blake2s, key, input));
    const outputs = hkdf(blake2s, input, key, new Uint8Array(0), 96);
    expect(toHex(Buffer.concat(kdf(key, input, 3)))).toBe(toHex(outputs));
  }
});

test("a MAC of 16 bytes is not a shortened hash", () => {
  const [key, message] = [seededRandom(1)(32), text("message")];
  expect(mac(key, message)).toHaveLength(16);
  expect(mac(key, message)).not.toEqual(blake2s(message, { key }).subarray(0, 16));
});
