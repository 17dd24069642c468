import type { IncomingMessage } from "node:http";
import { duplexPair } from "node:stream";
import { expect, test } from "vitest";
import { type House, house, join, settle } from "../../test/suites/derp-house.ts";
import { fromHex } from "../base/bytes.ts";
import { boxKey, sealBox } from "../crypto/box.ts";
import { generatePrivateKey, publicKeyOf } from "../crypto/keys.ts";
import { DerpClient } from "../mesh/derp/derp-client.ts";
import { DERP, encodeDerpFrame, encodeDerpServerKey } from "../wire/derp.ts";

test.each([
  ["says no", () => false],
  ["rejects", () => Promise.reject(new Error("verifier down"))],
  [
    "throws",
    () => {
      throw new Error("x");
    },
  ],
  ["answers nonsense", () => "yes" as unknown as boolean],
])("DD-10: an admission that %s refuses", async (_, admit) => {
  const here = house({ admit });
  const guest = await join(here);
  expect(guest.closed).toHaveLength(1);
  expect(here.server.clients).toBe(0);
});

test("DD-10: an admission that never answers is given up after 10 s", async () => {
  const here = house({ admit: () => new Promise(() => {}) });
  const guest = await join(here);
  expect(guest.closed).toHaveLength(0);
  here.clock.advance(10_001);
  await settle();
  expect(guest.closed).toHaveLength(1);
});

test.each([
  ["a packet over 64 KiB", encodeDerpFrame(DERP.sendPacket, new Uint8Array(32 + 65_537))],
  ["a frame that promises 1 GiB", Uint8Array.of(4, 64, 0, 0, 0)],
  ["a short SendPacket", encodeDerpFrame(DERP.sendPacket, new Uint8Array(31))],
  ["ForwardPacket", encodeDerpFrame(DERP.forwardPacket, new Uint8Array(70))],
  ["WatchConns", encodeDerpFrame(DERP.watchConnections)],
  ["ClosePeer", encodeDerpFrame(DERP.closePeer, new Uint8Array(32))],
  ["a ping of 4 bytes", encodeDerpFrame(DERP.ping, new Uint8Array(4))],
  ["a ping of 1001 bytes", encodeDerpFrame(DERP.ping, new Uint8Array(1001))],
])("DD-7: %s disconnects", async (_, frame) => {
  const here = house();
  const guest = await join(here);
  guest.end.write(frame);
  await settle();
  expect(guest.closed).toHaveLength(1);
  expect(here.server.clients).toBe(0);
});

test("DD-7: frames of unknown types are passed over", async () => {
  const here = house();
  const guest = await join(here);
  guest.end.write(encodeDerpFrame(0x77, new Uint8Array(5000)));
  await settle();
  expect(guest.closed).toHaveLength(0);
});

test("DD-8: a client that does not read loses its own packets only, and is given up after 2 s", async () => {
  const here = house();
  const [sender, stalled, other] = [await join(here), await join(here), await join(here)];
  stalled.end.pause();
  for (let i = 0; i < 500; i++) {
    sender.client.send(stalled.key, new Uint8Array(1000));
    sender.client.send(other.key, Uint8Array.of(i));
    await new Promise((done) => void setImmediate(done));
  }
  await settle();
  expect(other.got).toHaveLength(500);
  here.clock.advance(2001);
  await settle();
  expect(here.server.clients).toBe(2);
});

test("DD-9: with two connections of one key the last writer gets the packets, and both are told", async () => {
  const here = house();
  const key = generatePrivateKey(here.random);
  const [first, second, other] = [await join(here, key), await join(here, key), await join(here)];
  expect(here.server.clients).toBe(2);
  other.client.send(first.key, Uint8Array.of(1));
  await settle();
  expect([first.got.length, second.got.length]).toEqual([0, 1]);
  first.client.send(other.key, Uint8Array.of(0));
  await settle();
  other.client.send(first.key, Uint8Array.of(2));
  await settle();
  expect([first.got.length, second.got.length]).toEqual([1, 1]);
  expect(first.health[0]).toContain("another connection");
  second.client.close();
  await settle();
  expect(first.health.at(-1)).toBe("");
});

test("DD-9: over its rate a client's reads wait", async () => {
  const here = house({ bytesPerSecond: 10_000 });
  const [a, b] = [await join(here), await join(here)];
  // Straight to the stream: our own client would keep to the limit that the server told it.
  for (let i = 0; i < 100; i++) a.end.write(encodeDerpFrame(DERP.sendPacket, b.key, new Uint8Array(1000)));
  await settle();
  const before = b.got.length;
  expect(before).toBeLessThan(100);
  for (let i = 0; i < 50; i++) {
    here.clock.advance(200);
    await settle();
  }
  expect(b.got).toHaveLength(100);
});

/** Points of order 1, 2, 4 and 8 and their other spellings (cr.yp.to/ecdh.html, RFC 7748 section 7). */
const LOW_ORDER = [
  "0000000000000000000000000000000000000000000000000000000000000000",
  "0100000000000000000000000000000000000000000000000000000000000000",
  "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
  "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
  "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];

test.each(LOW_ORDER)("DD-4: a client key of low order gets nowhere: %s", async (point) => {
  const { server, random } = house();
  const [near, far] = duplexPair();
  server.accept(far);
  near.resume();
  const nonce = random(24);
  const info = new TextEncoder().encode('{"version":2}');
  const box = sealBox(new Uint8Array(32), nonce, info); // what the all-zero secret would open
  near.write(encodeDerpFrame(DERP.clientInfo, fromHex(point)!, nonce, box));
  await settle();
  expect(far.destroyed).toBe(true);
});

test.each(LOW_ORDER)("DD-4: a server key of low order is left: %s", async (point) => {
  const { clock, random } = house();
  const [near, far] = duplexPair();
  const closed: string[] = [];
  new DerpClient({
    stream: near,
    nodePrivateKey: generatePrivateKey(random),
    random,
    clock,
    onReady: () => {},
    onPacket: () => {},
    onClose: (fault) => void closed.push(fault.code),
  });
  far.resume();
  far.write(encodeDerpServerKey(fromHex(point)!));
  await settle();
  expect(closed).toEqual(["DERP_CLOSED"]);
});

test("DD-4: packets to a key of low order go nowhere, and their sender stays", async () => {
  const here = house();
  const guest = await join(here);
  for (const point of LOW_ORDER) guest.client.send(fromHex(point)!, new Uint8Array(100));
  await settle();
  expect(guest.closed).toEqual([]);
});

/** ClientInfo for `key`, sealed by the holder of `sealer` for the relay. */
function clientInfo({ server, random }: House, key: Uint8Array, sealer: Uint8Array): Uint8Array {
  const nonce = random(24);
  const info = new TextEncoder().encode('{"version":2,"CanAckPings":true}');
  return encodeDerpFrame(DERP.clientInfo, key, nonce, sealBox(boxKey(sealer, server.publicKey)!, nonce, info));
}

test.each<[string, (here: House) => Uint8Array]>([
  ["a packet", () => encodeDerpFrame(DERP.sendPacket, new Uint8Array(132))],
  ["ClientInfo that promises 2 MiB", () => Uint8Array.of(DERP.clientInfo, 0, 0x20, 0, 0)],
  ["ClientInfo of 40 bytes", () => encodeDerpFrame(DERP.clientInfo, new Uint8Array(40).fill(9))],
  [
    "ClientInfo for a key that it does not hold",
    (here) => clientInfo(here, publicKeyOf(generatePrivateKey(here.random)), generatePrivateKey(here.random)),
  ],
  ["HTTP", () => new TextEncoder().encode("GET / HTTP/1.1\r\nHost: relay\r\n\r\n")],
])("DD-7: whoever begins with %s is out", async (_, frame) => {
  const here = house();
  const [near, far] = duplexPair();
  here.server.accept(far);
  near.resume();
  near.write(frame(here));
  await settle();
  expect([far.destroyed, here.server.clients]).toEqual([true, 0]);
});

test("DD-7: whoever says nothing is out after 10 s", () => {
  const here = house();
  const [near, far] = duplexPair();
  here.server.accept(far);
  near.resume();
  here.clock.advance(9999);
  expect(far.destroyed).toBe(false);
  here.clock.advance(2);
  expect(far.destroyed).toBe(true);
});

test("DD-8: a client that reads slowly keeps its connection", async () => {
  const here = house();
  const [sender, slow] = [await join(here), await join(here)];
  slow.end.pause();
  for (let i = 0; i < 100; i++) {
    for (let k = 0; k < 8; k++) sender.client.send(slow.key, new Uint8Array(8000));
    for (let k = 0; k < 10; k++) slow.end.read();
    await settle();
    here.clock.advance(1500);
    await settle();
  }
  expect(slow.closed).toEqual([]);
});

test("DD-9: so many new connections a minute from one address, and no fewer from others", () => {
  const here = house({ acceptsPerMinute: 3 });
  const answerTo = (remoteAddress: string): string => {
    const [near, far] = duplexPair();
    const request = { headers: { upgrade: "DERP" }, socket: { remoteAddress } } as unknown as IncomingMessage;
    here.server.upgrade(request, far);
    return String(near.read() ?? "").split("\r\n")[0]!;
  };
  const taken = "HTTP/1.1 101 Switching Protocols";
  for (let i = 0; i < 3; i++) expect(answerTo("192.0.2.1")).toBe(taken);
  for (let i = 0; i < 100; i++) expect(answerTo("192.0.2.1")).toBe("HTTP/1.1 429 Too Many Requests");
  expect(answerTo("192.0.2.2")).toBe(taken);
  here.clock.advance(60_000);
  expect(answerTo("192.0.2.1")).toBe(taken);
});
