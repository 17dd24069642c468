import { expect, test } from "vitest";
import { seededRandom } from "../base/random.ts";
import { checksumOf, sumWords } from "./checksum.ts";

test("RFC 1071 §3 example", () => {
  expect(sumWords(Uint8Array.of(0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7), 0, 8)).toBe(0xddf2);
  expect(checksumOf(0xddf2)).toBe(0x220d);
});

test("every alignment and length agrees with the plain sum", () => {
  const bytes = seededRandom(3)(600);
  for (let offset = 0; offset < 4; offset++) {
    for (let length = 0; length < 80; length++) {
      let plain = 0;
      for (let i = 0; i < length; i++) plain += bytes[offset + i]! << (i % 2 === 0 ? 8 : 0);
      while (plain > 0xffff) plain = (plain & 0xffff) + (plain >>> 16);
      expect(sumWords(bytes, offset, length)).toBe(plain);
      expect(sumWords(bytes.subarray(1), offset, length)).toBe(sumWords(bytes, offset + 1, length));
    }
  }
});

test("64 KiB of ones do not overflow", () => {
  expect(sumWords(new Uint8Array(65_535).fill(0xff), 0, 65_535)).toBe(0xff00);
});
