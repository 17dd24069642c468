import fc from "fast-check";
import { expect, test } from "vitest";
import { parseAddress } from "../base/address.ts";
import { toHex } from "../base/bytes.ts";
import { writeIpHeader } from "./ip.ts";
import { pongFor, TSMP_PROTOCOL } from "./tsmp.ts";

function packet(source: string, destination: string, body: Uint8Array): Uint8Array {
  const [from, to] = [parseAddress(source)!, parseAddress(destination)!];
  const start = from.length === 4 ? 20 : 40;
  const bytes = new Uint8Array(start + body.length);
  writeIpHeader(bytes, from, to, TSMP_PROTOCOL, body.length);
  bytes.set(body, start);
  return bytes;
}

const ping = Uint8Array.from([0x70, 1, 2, 3, 4, 5, 6, 7, 8]);

test.each([
  ["IPv4", "100.64.0.1", "100.64.0.2", 20],
  ["IPv6", "fd7a:115c:a1e0::1", "fd7a:115c:a1e0::2", 40],
])("a ping over %s is answered with its own bytes and the peerapi port", (_, theirs, ours, start) => {
  const request = packet(theirs, ours, ping);
  const pong = pongFor(request, 0, request.length, 58436)!;
  expect(toHex(pong.subarray(start))).toBe("6f" + "0102030405060708" + "e444");
  const expected = packet(ours, theirs, pong.subarray(start));
  expect(toHex(pong)).toBe(toHex(expected));
});

test.each([
  ["one byte short", ping.subarray(0, 8)],
  ["a pong", Uint8Array.from([0x6f, ...ping.subarray(1)])],
  ["nothing", new Uint8Array(0)],
])("no answer to %s", (_, body) => {
  const request = packet("100.64.0.1", "100.64.0.2", body);
  expect(pongFor(request, 0, request.length, 1)).toBeUndefined();
});

test("no bytes make it throw", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 80 }), (bytes) => void pongFor(bytes, 0, bytes.length, 1)));
});
