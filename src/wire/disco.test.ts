import fc from "fast-check";
import { expect, test } from "vitest";
import { fromHex, toHex } from "../base/bytes.ts";
import {
  decodeDiscoFrame,
  decodeDiscoMessage,
  encodeDiscoFrame,
  encodeDiscoMessage,
  looksLikeDisco,
  looksLikeGeneve,
} from "./disco.ts";

const tx = fromHex("202122232425262728292a2b")!;

test.each([
  ["IPv4", "203.0.113.5", 41641],
  ["IPv6", "2001:db8::1", 1],
])("pong and call-me-maybe carry %s addresses", (_, address, port) => {
  const pong = { kind: "pong", tx, source: { address, port } } as const;
  expect(decodeDiscoMessage(encodeDiscoMessage(pong))).toEqual(pong);
  const call = { kind: "callMeMaybe", endpoints: [{ address, port }] } as const;
  expect(decodeDiscoMessage(encodeDiscoMessage(call))).toEqual(call);
});

test("IPv4 in a pong is IPv4-mapped on the wire", () => {
  const plain = encodeDiscoMessage({ kind: "pong", tx, source: { address: "1.2.3.4", port: 0x5678 } });
  expect(toHex(plain.subarray(14))).toBe("00000000000000000000ffff010203045678");
});

test("a call-me-maybe of broken length is an empty list; an unknown type is nothing", () => {
  expect(decodeDiscoMessage(Uint8Array.of(3, 0, ...new Uint8Array(19)))).toEqual({
    kind: "callMeMaybe",
    endpoints: [],
  });
  expect(decodeDiscoMessage(Uint8Array.of(9, 0, ...new Uint8Array(90)))).toBeUndefined();
});

test("a padded ping is a ping, one without a node key too", () => {
  const ping = encodeDiscoMessage({ kind: "ping", tx, nodeKey: new Uint8Array(32).fill(7) });
  const padded = new Uint8Array(1200);
  padded.set(ping);
  expect(decodeDiscoMessage(padded)).toEqual(decodeDiscoMessage(ping));
  expect(decodeDiscoMessage(ping.subarray(0, 14))).toEqual({ kind: "ping", tx, nodeKey: undefined });
});

test("frames are told from WireGuard and Geneve", () => {
  const frame = encodeDiscoFrame({ senderKey: new Uint8Array(32), nonce: new Uint8Array(24), box: new Uint8Array(40) });
  expect(looksLikeDisco(frame, 0, frame.length)).toBe(true);
  expect(looksLikeGeneve(frame, 0, frame.length)).toBe(false);
  const initiation = Uint8Array.of(1, 0, 0, 0, ...new Uint8Array(144));
  expect(looksLikeDisco(initiation, 0, 148) || looksLikeGeneve(initiation, 0, 148)).toBe(false);
  expect(looksLikeGeneve(Uint8Array.of(0, 0, 0x7a, 0x12, 0, 0, 1, 0), 0, 8)).toBe(true);
});

test("DD-5: nothing that comes makes the decoders throw", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      decodeDiscoMessage(bytes);
      decodeDiscoMessage(Uint8Array.of(1 + (bytes.length % 3), 0, ...bytes));
      decodeDiscoFrame(Uint8Array.of(0x54, 0x53, 0xf0, 0x9f, 0x92, 0xac, ...bytes));
    }),
    { numRuns: 5000 },
  );
});
