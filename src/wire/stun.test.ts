import fc from "fast-check";
import { expect, test } from "vitest";
import { fromHex, toHex } from "../base/bytes.ts";
import {
  decodeStunAnswer,
  decodeStunRequest,
  encodeStunAnswer,
  encodeStunRequest,
  looksLikeStunAnswer,
} from "./stun.ts";

const tx = fromHex("000102030405060708090a0b")!;
const REQUEST = "000100142112a442000102030405060708090a0b802200087461696c6e6f6465802800048aabad90";
const ANSWER = "0101000c2112a442000102030405060708090a0b00200008000183bbea12d547";

test("requests and answers are those of the reference", () => {
  expect(toHex(encodeStunRequest(tx))).toBe(REQUEST);
  expect(decodeStunRequest(fromHex(REQUEST)!)).toEqual(tx);
  expect(toHex(encodeStunAnswer(tx, { address: "203.0.113.5", port: 41641 })!)).toBe(ANSWER);
});

test.each(["203.0.113.5", "2001:db8:1:2:3:4:5:6"])("an answer tells %s", (address) => {
  const answer = encodeStunAnswer(tx, { address, port: 41641 })!;
  expect(decodeStunAnswer(answer)).toEqual({ tx, mapped: { address, port: 41641 } });
  expect(looksLikeStunAnswer(answer, 0, answer.length)).toBe(true);
  expect(answer.length).toBeLessThanOrEqual(60); // DD-11: at most 1.5 × request
});

test("a plain MAPPED-ADDRESS does where there is no other", () => {
  const answer = fromHex("0101000c2112a442000102030405060708090a0b0001000800010050cb007105")!;
  expect(decodeStunAnswer(answer)?.mapped).toEqual({ address: "203.0.113.5", port: 80 });
});

test.each(Array.from({ length: 40 }, (_, i) => i))("DD-11: a request with byte %i changed is not answered", (i) => {
  const request = fromHex(REQUEST)!;
  request[i]! ^= 0x41;
  expect(decodeStunRequest(request)).toBeUndefined();
});

test("DD-5: nothing that comes makes the decoders throw", () => {
  const header = fromHex(ANSWER)!.subarray(0, 20);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 120 }), fc.boolean(), (bytes, isHeaded) => {
      const datagram = isHeaded ? Uint8Array.of(...header, ...bytes) : bytes;
      decodeStunAnswer(datagram);
      decodeStunRequest(datagram);
    }),
    { numRuns: 5000 },
  );
});
