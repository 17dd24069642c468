import { x25519 } from "@noble/curves/ed25519.js";
import { expect, test } from "vitest";
import { fromHex, toHex } from "../base/bytes.ts";
import { seededRandom } from "../base/random.ts";
import { clampPrivateKey, formatKey, generatePrivateKey, parseKey, publicKeyOf, sharedSecret } from "./keys.ts";

test.each([
  ["11", "7b4e909bbe7ffe44c465a220037d608ee35897d31ef972f07f74892cb0f73f13"],
  ["22", "0faa684ed28867b97f4a6a2dee5df8ce974e76b7018e3f22a1c4cf2678570f20"],
  ["33", "7b0d47d93427f8311160781c7c733fd89f88970aef490d8aa0ee19a4cb8a1b14"],
  ["44", "ff2ee45601ec1b67310c7790404585ae697331eee1c1f8cf2419731c1fff3e6b"],
])("the public key of 32 times %s", (byte, expected) => {
  const key = fromHex(byte.repeat(32))!;
  expect(toHex(publicKeyOf(key))).toBe(expected);
  expect(toHex(publicKeyOf(clampPrivateKey(key)))).toBe(expected);
});

test("agrees with noble on random keys", () => {
  const random = seededRandom(7);
  for (let i = 0; i < 20; i++) {
    const [a, b] = [generatePrivateKey(random), generatePrivateKey(random)];
    expect(publicKeyOf(a)).toEqual(x25519.getPublicKey(a));
    expect(sharedSecret(a, publicKeyOf(b))).toEqual(x25519.getSharedSecret(b, publicKeyOf(a)));
  }
});

// All encodings of points of order 1, 2, 4 and 8 on the curve and its twist, as listed in curve25519-donna's notes.
const lowOrderPoints: readonly string[] = [
  "00".repeat(32),
  `01${"00".repeat(31)}`,
  "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
  "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
  `ec${"ff".repeat(30)}7f`,
  `ed${"ff".repeat(30)}7f`,
  `ee${"ff".repeat(30)}7f`,
];

test.each(lowOrderPoints)("WG-10: point of low order %s gives no secret", (point) => {
  const key = generatePrivateKey(seededRandom(3));
  expect(sharedSecret(key, fromHex(point)!)).toBeUndefined();
});

test("a key is read as it was written; another kind, length or no prefix is no key", () => {
  const key = publicKeyOf(generatePrivateKey(seededRandom(9)));
  expect(parseKey("nodekey", formatKey("nodekey", key))).toEqual(key);
  for (const bad of ["", "nodekey:", "mkey:".concat(toHex(key)), `nodekey:${toHex(key)}00`, toHex(key)]) {
    expect(parseKey("nodekey", bad)).toBeUndefined();
  }
});
