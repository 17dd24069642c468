import { expect, test } from "vitest";
import { fromHex, toHex } from "../base/bytes.ts";
import { controlPrologue, decodeInitiation, encodeInitiation, encodeRecord, encodeResponse } from "../wire/control.ts";
import { NoiseInitiator, respondNoise } from "./noise.ts";

const hex = (text: string) => fromHex(text)!;

// control-protocol appendix A: upstream's handshake code with fixed keys.
const VECTOR = {
  machine: "101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e6f",
  machinePublic: "d89e3bad79437dbed9f843418304f460ff05c7fe81fe4a9577a804cb9367ff66",
  control: "404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f",
  controlPublic: "79a631eede1bf9c98f12032cdeadd0e7a079398fc786b88cc846ec89af85a51a",
  clientEphemeral: "707172737475767778797a7b7c7d7e7f808182838485868788898a8b8c8d8e4f",
  serverEphemeral: "a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbe7f",
  initiation:
    "009101006023b7bb8c91ae008711fb12846780bcdf1e065f821bdfec49f57e7c7dcd4c48233e3656b8d011d79289238e398d21992719757cfddd7b176b1542816cfce2502c9e0d5a1f52682b6b32262b5c874658c39d1feb6d320dd80bfe318d5aab519c61",
  response: "020030605a725d2a4adfeeb1a29e17edd621c1b7593ee8cdbc44ac6c4ab6e2f805d23ccad3c9a0e67a46e2079e74e5608a159f",
  hash: "a53756579002be4585d14458a46f1de01fbb21887a7d1b747b1b8cae91806ec4",
  hello: "040015d4a48155615b28c909173f726d10d9c5af500ba75a",
  world: "040015a9fe3cb199eb32148e923fb091b6499720303360f3",
  again: "0400152d0acf5d7eb69691be0210e79a6d45ca10a91a325f",
} as const;

function start(responderKey = hex(VECTOR.controlPublic)) {
  return NoiseInitiator.start({
    prologue: controlPrologue(145),
    staticKey: hex(VECTOR.machine),
    ephemeralKey: hex(VECTOR.clientEphemeral),
    responderKey,
  });
}

function respond(initiation: Uint8Array, version = 145) {
  return respondNoise({
    prologue: controlPrologue(version),
    staticKey: hex(VECTOR.control),
    ephemeralKey: hex(VECTOR.serverEphemeral),
    initiation,
  });
}

test("both roles give upstream's bytes", () => {
  const { initiation, initiator } = start()!;
  expect(toHex(encodeInitiation(145, initiation))).toBe(VECTOR.initiation);
  const { response, session: server } = respond(decodeInitiation(hex(VECTOR.initiation))!.payload)!;
  expect(toHex(encodeResponse(response))).toBe(VECTOR.response);
  expect(toHex(server.peerKey)).toBe(VECTOR.machinePublic);
  const client = initiator.finish(response)!;
  expect([toHex(client.handshakeHash), toHex(server.handshakeHash)]).toEqual([VECTOR.hash, VECTOR.hash]);
  expect(toHex(encodeRecord(client.seal.next(Buffer.from("hello"))!))).toBe(VECTOR.hello);
  expect(toHex(encodeRecord(server.seal.next(Buffer.from("world"))!))).toBe(VECTOR.world);
  expect(toHex(encodeRecord(server.seal.next(Buffer.from("again"))!))).toBe(VECTOR.again);
  expect(Buffer.from(client.open.next(hex(VECTOR.world).subarray(3))!).toString()).toBe("world");
  expect(Buffer.from(client.open.next(hex(VECTOR.again).subarray(3))!).toString()).toBe("again");
});

test("CC-2: one changed bit anywhere, another version or a zero key is refused", () => {
  const { initiation } = start()!;
  for (let i = 0; i < initiation.length; i++) {
    const bent = initiation.slice();
    bent[i]! ^= 1;
    expect(respond(bent), `initiation byte ${i}`).toBeUndefined();
  }
  expect(respond(initiation, 144)).toBeUndefined();
  const { response } = respond(initiation)!;
  for (let i = 0; i < response.length; i++) {
    const bent = response.slice();
    bent[i]! ^= 1;
    expect(start()!.initiator.finish(bent), `response byte ${i}`).toBeUndefined();
  }
  expect(start(new Uint8Array(32))).toBeUndefined();
});

test("CC-2: a repeated record is refused, and nothing opens after it", () => {
  const { initiator, initiation } = start()!;
  const { response, session: server } = respond(initiation)!;
  const client = initiator.finish(response)!;
  const [first, second] = [server.seal.next(Buffer.from("a"))!, server.seal.next(Buffer.from("b"))!];
  expect(client.open.next(first)).toBeDefined();
  expect(client.open.next(first)).toBeUndefined();
  expect(client.open.next(second)).toBeUndefined();
  expect(initiator.finish(response)).toBeUndefined();
});
