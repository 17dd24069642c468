import { expect, test } from "vitest";
import { fromHex, toHex } from "../base/bytes.ts";
import { boxKey, openBox, sealBox } from "./box.ts";
import { publicKeyOf } from "./keys.ts";

const alice = new Uint8Array(32).fill(0x55);
const bob = new Uint8Array(32).fill(0x66);
const nonce = fromHex("000102030405060708090a0b0c0d0e0f1011121314151617")!;
/** data-plane sheet, appendix A.2: a disco ping after its 62 bytes of header. */
const PING =
  "efa9440a3546061255e1f260146a49a671165a322f4577d2b59dee20e8a298b6d4c8605f1b51fdc1dc84c45f95b4f92c4a43a996f990b11efc5ea8d75da6";
const PLAIN = "0100202122232425262728292a2b7b4e909bbe7ffe44c465a220037d608ee35897d31ef972f07f74892cb0f73f13";

test("seals and opens the disco ping of the reference", () => {
  const key = boxKey(alice, publicKeyOf(bob))!;
  expect(key).toEqual(boxKey(bob, publicKeyOf(alice)));
  expect(toHex(sealBox(key, nonce, fromHex(PLAIN)!))).toBe(PING);
  expect(toHex(openBox(key, nonce, fromHex(PING)!)!)).toBe(PLAIN);
});

test("a changed bit, a short box and a wrong nonce open to nothing", () => {
  const key = boxKey(alice, publicKeyOf(bob))!;
  for (let i = 0; i < PING.length / 2; i++) {
    const box = fromHex(PING)!;
    box[i]! ^= 1;
    expect(openBox(key, nonce, box)).toBeUndefined();
  }
  expect(openBox(key, nonce, new Uint8Array(15))).toBeUndefined();
  expect(openBox(key, new Uint8Array(24), fromHex(PING)!)).toBeUndefined();
  expect(openBox(key, new Uint8Array(3), fromHex(PING)!)).toBeUndefined();
});

test("DD-4: keys of low order give no box key", () => {
  expect(boxKey(alice, new Uint8Array(32))).toBeUndefined();
  expect(boxKey(alice, Uint8Array.of(1, ...new Uint8Array(31)))).toBeUndefined();
});
