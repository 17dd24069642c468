import { expect, test } from "vitest";
import { fromHex, toHex } from "../../base/bytes.ts";
import { chooseAead } from "../../crypto/aead/choose.ts";
import { publicKeyOf, sharedSecret } from "../../crypto/keys.ts";
import { encodeTimestamp, INITIATION, RESPONSE } from "../../wire/wireguard.ts";
import { CookieJar, cookieKeys, encodeCookieReply } from "./cookie.ts";
import { createInitiation, createResponse, openInitiation, openResponse, openTimestamp } from "./handshake.ts";
import { Session } from "./session.ts";

const pair = (byte: number) => {
  const privateKey = new Uint8Array(32).fill(byte);
  return { privateKey, publicKey: publicKeyOf(privateKey) };
};
const [initiator, responder] = [pair(0x11), pair(0x22)];
const psk = new Uint8Array(32);
const key = (byte: number) => new Uint8Array(32).fill(byte);

const INITIATION_HEX =
  "01000000040302017b0d47d93427f8311160781c7c733fd89f88970aef490d8aa0ee19a4cb8a1b1481e498317da959fb" +
  "a46669572516a5e6c021bfa620bb6c56ca0082e1feae14988c2c64d024c617734a263f76a008df04d0f94bad8ee75ec8" +
  "e0c26955f1fe965898ea5b7b4d707870f6656d821ecd485a2449303ab9c6a7ef45fe96ab000000000000000000000000" +
  "00000000";
const RESPONSE_HEX =
  "020000000807060504030201ff2ee45601ec1b67310c7790404585ae697331eee1c1f8cf2419731c1fff3e6b5457824a" +
  "f18574cfdb91039f12352962b538f33ce18d083906ad39789578b78f00000000000000000000000000000000";

function initiate() {
  const created = createInitiation({
    self: initiator,
    peerPublic: responder.publicKey,
    staticSecret: sharedSecret(initiator.privateKey, responder.publicKey)!,
    ephemeralPrivate: key(0x33),
    sender: 0x01020304,
    timestamp: encodeTimestamp(1_700_000_000_000, 16_777_216),
  })!;
  const jar = new CookieJar(responder.publicKey);
  jar.sign(created.message, INITIATION.mac1, 0);
  return { ...created, jar };
}

test("a whole handshake, byte for byte", () => {
  const { message, transcript, jar } = initiate();
  expect(toHex(transcript.chain)).toBe("24eca314409f2ca9ccbf8d50ebb72b7235d67ed11b21eeefc67942a2596df51e");
  expect(toHex(transcript.hash)).toBe("79d20375d49f8f3bd4d4525582962f119cba301b43d46508a867b488be042c3b");
  expect(toHex(message)).toBe(INITIATION_HEX);

  const opened = openInitiation(responder, message)!;
  expect(opened.peerPublic).toEqual(initiator.publicKey);
  const secret = sharedSecret(responder.privateKey, initiator.publicKey)!;
  expect(toHex(openTimestamp(opened, secret, message)!)).toBe("400000006553f10a01000000");
  const response = createResponse({
    opened,
    presharedKey: psk,
    ephemeralPrivate: key(0x44),
    sender: 0x05060708,
    receiver: 0x01020304,
  })!;
  new CookieJar(initiator.publicKey).sign(response.message, RESPONSE.mac1, 0);
  expect(toHex(response.message)).toBe(RESPONSE_HEX);

  const forged = response.message.slice();
  forged[50]! ^= 1;
  expect(openResponse(initiator, psk, key(0x33), transcript, forged)).toBeUndefined();
  expect(openResponse(initiator, key(1), key(0x33), transcript, response.message)).toBeUndefined();
  const keys = openResponse(initiator, psk, key(0x33), transcript, response.message)!;
  expect(keys).toEqual(response.keys);
  expect(toHex(keys.first)).toBe("e07b709efbfd0361a08a9de658ceb3847d648c207ed71d4dbdfe248bef23a651");
  expect(toHex(keys.second)).toBe("f76ba55a113d83abf16240859ca361a9017ae9fbac0b4aa43179112c40e0163f");

  const base = { peer: 0, localIndex: 0x01020304, remoteIndex: 0x05060708, isInitiator: true, created: 0 };
  const session = new Session({ ...base, sendKey: keys.first, receiveKey: keys.second });
  const slab = new Uint8Array(32);
  expect(session.seal(chooseAead(), new Uint8Array(0), slab, 0, 1280)).toBe(32);
  expect(toHex(slab)).toBe("0400000008070605000000000000000069958abbebcb06f97a256144abed28f6");
  expect(jar).toBeDefined();
});

test("a cookie reply and the mac2 that follows from it", () => {
  const { message, jar } = initiate();
  const mac1 = message.slice(INITIATION.mac1, INITIATION.mac2);
  const cookie = fromHex("000102030405060708090a0b0c0d0e0f")!;
  const nonce = Uint8Array.from({ length: 24 }, (_, i) => 0x40 + i);
  const reply = encodeCookieReply(cookieKeys(responder.publicKey), 0x01020304, nonce, cookie, mac1);
  expect(toHex(reply)).toBe(
    "0300000004030201404142434445464748494a4b4c4d4e4f5051525354555657b53c650b3b8f8b0b3bd1ad145754b492" +
      "001c2a40610278909f8dcffb40004203",
  );
  const forged = reply.slice();
  forged[40]! ^= 1;
  expect(jar.take(forged, 0)).toBe(false);
  expect(jar.take(reply, 0)).toBe(true);
  const again = message.slice();
  jar.sign(again, INITIATION.mac1, 1);
  expect(toHex(again.subarray(INITIATION.mac2))).toBe("959b36dc39941a56962221f3b5a441dd");
  jar.sign(again.fill(0, INITIATION.mac2), INITIATION.mac1, 120_000);
  expect(toHex(again.subarray(INITIATION.mac2))).toBe("00".repeat(16));
});

test("WG-10: an ephemeral key of low order is dropped", () => {
  const { message } = initiate();
  message.fill(0, INITIATION.ephemeral, INITIATION.static);
  expect(openInitiation(responder, message)).toBeUndefined();
});
