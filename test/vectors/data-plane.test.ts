import { describe, expect, test } from "vitest";
import { formatAddress, maskedPrefix, parseAddress, parsePrefix } from "../../src/base/address.ts";
import { fromHex, toHex } from "../../src/base/bytes.ts";
import { chooseAead } from "../../src/crypto/aead/choose.ts";
import { boxKey, openBox, sealBox } from "../../src/crypto/box.ts";
import { publicKeyOf, sharedSecret } from "../../src/crypto/keys.ts";
import { via6Address } from "../../src/mesh/dns/names.ts";
import { peerApiPort } from "../../src/mesh/peerapi.ts";
import { CookieJar, cookieKeys, encodeCookieReply } from "../../src/mesh/wireguard/cookie.ts";
import {
  createInitiation,
  createResponse,
  openInitiation,
  openResponse,
  openTimestamp,
} from "../../src/mesh/wireguard/handshake.ts";
import { Session } from "../../src/mesh/wireguard/session.ts";
import { DERP, encodeDerpFrame, encodeDerpServerKey } from "../../src/wire/derp.ts";
import { decodeDiscoFrame, decodeDiscoMessage, encodeDiscoFrame, encodeDiscoMessage } from "../../src/wire/disco.ts";
import { decodeStunAnswer, decodeStunRequest, encodeStunAnswer, encodeStunRequest } from "../../src/wire/stun.ts";
import { encodeTimestamp, INITIATION, RESPONSE } from "../../src/wire/wireguard.ts";

// Appendix A of the data-plane sheet, each vector under its name there: made by an implementation that shares nothing
// with this one and that reproduces the published vectors of Noise (cacophony), NaCl's box and HChaCha20.

const hex = (text: string): Uint8Array => fromHex(text.replaceAll(/\s/g, ""))!;
const filled = (byte: number): Uint8Array => new Uint8Array(32).fill(byte);
const counted = (first: number, length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => first + i);

describe("A.1 WireGuard", () => {
  const pairOf = (byte: number) => ({ privateKey: filled(byte), publicKey: publicKeyOf(filled(byte)) });
  const [initiator, responder] = [pairOf(0x11), pairOf(0x22)];
  const presharedKey = new Uint8Array(32);
  const INITIATION_BYTES = hex(`
    01000000040302017b0d47d93427f8311160781c7c733fd89f88970aef490d8aa0ee19a4cb8a1b1481e498317da959fb
    a46669572516a5e6c021bfa620bb6c56ca0082e1feae14988c2c64d024c617734a263f76a008df04d0f94bad8ee75ec8
    e0c26955f1fe965898ea5b7b4d707870f6656d821ecd485a2449303ab9c6a7ef45fe96ab000000000000000000000000
    00000000`);
  const RESPONSE_BYTES = hex(`
    020000000807060504030201ff2ee45601ec1b67310c7790404585ae697331eee1c1f8cf2419731c1fff3e6b5457824a
    f18574cfdb91039f12352962b538f33ce18d083906ad39789578b78f00000000000000000000000000000000`);
  const timestamp = encodeTimestamp(1_700_000_000_000, 16_777_216);

  const initiation = () => {
    const made = createInitiation({
      self: initiator,
      peerPublic: responder.publicKey,
      staticSecret: sharedSecret(initiator.privateKey, responder.publicKey)!,
      ephemeralPrivate: filled(0x33),
      sender: 0x01020304,
      timestamp,
    })!;
    const jar = new CookieJar(responder.publicKey);
    jar.sign(made.message, INITIATION.mac1, 0);
    return { ...made, jar };
  };

  test.each([
    ["static I pub", 0x11, "7b4e909bbe7ffe44c465a220037d608ee35897d31ef972f07f74892cb0f73f13"],
    ["static R pub", 0x22, "0faa684ed28867b97f4a6a2dee5df8ce974e76b7018e3f22a1c4cf2678570f20"],
    ["ephemeral I", 0x33, "7b0d47d93427f8311160781c7c733fd89f88970aef490d8aa0ee19a4cb8a1b14"],
    ["ephemeral R", 0x44, "ff2ee45601ec1b67310c7790404585ae697331eee1c1f8cf2419731c1fff3e6b"],
  ])("%s", (_, byte, wanted) => {
    expect(toHex(publicKeyOf(filled(byte)))).toBe(wanted);
  });

  test("TAI64N", () => {
    expect(toHex(timestamp)).toBe("400000006553f10a01000000");
  });

  test("Ck and H after msg 1", () => {
    const { chain, hash } = initiation().transcript;
    expect(toHex(chain)).toBe("24eca314409f2ca9ccbf8d50ebb72b7235d67ed11b21eeefc67942a2596df51e");
    expect(toHex(hash)).toBe("79d20375d49f8f3bd4d4525582962f119cba301b43d46508a867b488be042c3b");
  });

  test("initiation", () => {
    expect(toHex(initiation().message)).toBe(toHex(INITIATION_BYTES));
    const opened = openInitiation(responder, INITIATION_BYTES)!;
    expect(toHex(opened.peerPublic)).toBe(toHex(initiator.publicKey));
    const secret = sharedSecret(responder.privateKey, initiator.publicKey)!;
    expect(toHex(openTimestamp(opened, secret, INITIATION_BYTES)!)).toBe(toHex(timestamp));
  });

  test("response, T1, T2 and keepalive I→R", () => {
    const { transcript } = initiation();
    const opened = openInitiation(responder, INITIATION_BYTES)!;
    openTimestamp(opened, sharedSecret(responder.privateKey, initiator.publicKey)!, INITIATION_BYTES);
    const indices = { sender: 0x05060708, receiver: 0x01020304 };
    const made = createResponse({ opened, presharedKey, ephemeralPrivate: filled(0x44), ...indices })!;
    new CookieJar(initiator.publicKey).sign(made.message, RESPONSE.mac1, 0);
    expect(toHex(made.message)).toBe(toHex(RESPONSE_BYTES));
    const keys = openResponse(initiator, presharedKey, filled(0x33), transcript, RESPONSE_BYTES)!;
    expect(toHex(keys.first)).toBe("e07b709efbfd0361a08a9de658ceb3847d648c207ed71d4dbdfe248bef23a651");
    expect(toHex(keys.second)).toBe("f76ba55a113d83abf16240859ca361a9017ae9fbac0b4aa43179112c40e0163f");
    expect(made.keys).toEqual(keys);
    const [sendKey, receiveKey] = [keys.first, keys.second];
    const about = { peer: 0, localIndex: 0x01020304, remoteIndex: 0x05060708, isInitiator: true, created: 0 };
    const slab = new Uint8Array(32);
    new Session({ ...about, sendKey, receiveKey }).seal(chooseAead(), new Uint8Array(0), slab, 0, 1280);
    expect(toHex(slab)).toBe("0400000008070605000000000000000069958abbebcb06f97a256144abed28f6");
  });

  test("cookie reply and mac2", () => {
    const { message, jar } = initiation();
    const mac1 = message.slice(INITIATION.mac1, INITIATION.mac2);
    const keys = cookieKeys(responder.publicKey);
    const reply = encodeCookieReply(keys, 0x01020304, counted(0x40, 24), counted(0, 16), mac1);
    const wanted = hex(`
      0300000004030201404142434445464748494a4b4c4d4e4f5051525354555657b53c650b3b8f8b0b3bd1ad145754b492
      001c2a40610278909f8dcffb40004203`);
    expect(toHex(reply)).toBe(toHex(wanted));
    expect(jar.take(wanted, 0)).toBe(true);
    jar.sign(message, INITIATION.mac1, 1);
    expect(toHex(message.subarray(INITIATION.mac2))).toBe("959b36dc39941a56962221f3b5a441dd");
  });
});

test("A.2 ping", () => {
  const wanted = hex(`
    5453f09f92ac38ab664bd86f77d7e66bdd9ae0792913a94fd8b33a1260027e4b46c1f4884c6700010203040506070809
    0a0b0c0d0e0f1011121314151617efa9440a3546061255e1f260146a49a671165a322f4577d2b59dee20e8a298b6d4c8
    605f1b51fdc1dc84c45f95b4f92c4a43a996f990b11efc5ea8d75da6`);
  expect(wanted).toHaveLength(124);
  const [sender, receiver] = [filled(0x55), filled(0x66)];
  const ping = { kind: "ping", tx: counted(0x20, 12), nodeKey: publicKeyOf(filled(0x11)) } as const;
  const nonce = counted(0, 24);
  const key = boxKey(sender, publicKeyOf(receiver))!;
  const box = sealBox(key, nonce, encodeDiscoMessage(ping));
  expect(toHex(encodeDiscoFrame({ senderKey: publicKeyOf(sender), nonce, box }))).toBe(toHex(wanted));
  const read = decodeDiscoFrame(wanted)!;
  const theirs = boxKey(receiver, read.senderKey)!;
  expect(decodeDiscoMessage(openBox(theirs, read.nonce, read.box)!)).toEqual(ping);
});

describe("A.3 STUN", () => {
  const tx = counted(0, 12);
  const REQUEST = "000100142112a442000102030405060708090a0b802200087461696c6e6f6465802800048aabad90";
  const RESPONSE_HEX = "0101000c2112a442000102030405060708090a0b00200008000183bbea12d547";
  const mapped = { address: "203.0.113.5", port: 41641 };

  test("request", () => {
    expect(toHex(encodeStunRequest(tx))).toBe(REQUEST);
    expect(decodeStunRequest(hex(REQUEST))).toEqual(tx);
  });

  test("response", () => {
    expect(toHex(encodeStunAnswer(tx, mapped)!)).toBe(RESPONSE_HEX);
    expect(decodeStunAnswer(hex(RESPONSE_HEX))).toEqual({ tx, mapped });
  });
});

// Try n adds n to the first of the three bytes that count. A stack of our own never needs another try than the first,
// so the others are told by the address whose first try they are.
test.each([
  ["100.64.0.1", 1, [58436, 36467, 45098]],
  ["100.101.102.103", 1, [59395, 54874, 48237]],
  ["fd7a:115c:a1e0:ab12:4843:cd96:6265:6667", 13, [59395, 54874, 48237]],
])("A.4 PeerAPI ports of %s for tries 0, 1, 2", (text, at, wanted) => {
  const ports = [0, 1, 2].map((attempt) => {
    const address = parseAddress(text)!.slice();
    address[at]! += attempt;
    return peerApiPort(address);
  });
  expect(ports).toEqual(wanted);
});

describe("A.5 address mapping", () => {
  test("4to6 of 100.101.102.103", () => {
    // Nothing here maps so: addresses are always read from the node. What must hold is that both forms go by one port.
    const [v4, v6] = [parseAddress("100.101.102.103")!, parseAddress("fd7a:115c:a1e0:ab12:4843:cd96:6265:6667")!];
    const range = parsePrefix("fd7a:115c:a1e0:ab12:4843:cd96:6200::/104")!;
    const mapped = range.address.slice();
    mapped.set(v4.subarray(1), 13);
    expect(formatAddress(mapped)).toBe(formatAddress(v6));
    expect(peerApiPort(v4)).toBe(peerApiPort(v6));
  });

  test("4via6 site 7, 10.1.1.0/24", () => {
    const prefix = parsePrefix("fd7a:115c:a1e0:b1a:0:7:a01:100/120")!;
    expect(via6Address("10-1-1-0-via-7")).toBe(formatAddress(maskedPrefix(prefix).address));
    expect(prefix.bits).toBe(24 + 96);
  });

  test("name 10-1-1-5-via-7", () => {
    expect(via6Address("10-1-1-5-via-7")).toBe("fd7a:115c:a1e0:b1a:0:7:a01:105");
  });
});

describe("A.6 DERP frames", () => {
  const key = counted(1, 32);
  const packet = counted(7, 148);
  test.each<[string, Uint8Array, string]>([
    ["ServerKey header", encodeDerpServerKey(key), `0100000028 44455250f09f9491 ${toHex(key)}`],
    ["KeepAlive", encodeDerpFrame(DERP.keepAlive), "0600000000"],
    ["NotePreferred yes", encodeDerpFrame(DERP.notePreferred, Uint8Array.of(1)), "070000000101"],
    [
      "SendPacket of a 148-byte initiation",
      encodeDerpFrame(DERP.sendPacket, key, packet),
      `04000000b4 ${toHex(key)} ${toHex(packet)}`,
    ],
    ["PeerGone not here", encodeDerpFrame(DERP.peerGone, key, Uint8Array.of(1)), `0800000021 ${toHex(key)} 01`],
    ["Ping", encodeDerpFrame(DERP.ping, counted(0, 8)), "1200000008 0001020304050607"],
  ])("%s", (_, frame, wanted) => {
    expect(toHex(frame)).toBe(toHex(hex(wanted)));
  });
});
