import { createDecipheriv } from "node:crypto";
import { describe, expect, test } from "vitest";
import { fromHex, toHex } from "../../src/base/bytes.ts";
import { publicKeyOf } from "../../src/crypto/keys.ts";
import { NoiseInitiator, NoiseOpener, NoiseSealer, respondNoise } from "../../src/crypto/noise.ts";
import {
  CONTROL_HEADER_BYTES,
  controlPrologue,
  decodeHandshakeAnswer,
  decodeInitiation,
  encodeInitiation,
  encodeRecord,
  encodeResponse,
  recordBodyLength,
} from "../../src/wire/control.ts";

// Appendix A of the control-protocol sheet, each item under its name there: upstream's handshake code with fixed keys.

const VERSION = 145;
const hex = (text: string): Uint8Array => fromHex(text)!;
const KEYS = {
  client: hex("101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e6f"),
  control: hex("404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f"),
  clientEphemeral: hex("707172737475767778797a7b7c7d7e7f808182838485868788898a8b8c8d8e4f"),
  serverEphemeral: hex("a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbe7f"),
};
const INITIATION =
  "009101006023b7bb8c91ae008711fb12846780bcdf1e065f821bdfec49f57e7c7dcd4c48233e3656b8d011d79289238e398d21992719757cfddd7b176b1542816cfce2502c9e0d5a1f52682b6b32262b5c874658c39d1feb6d320dd80bfe318d5aab519c61";
const RESPONSE =
  "020030605a725d2a4adfeeb1a29e17edd621c1b7593ee8cdbc44ac6c4ab6e2f805d23ccad3c9a0e67a46e2079e74e5608a159f";
const K1 = "7fae2c4dfe32dc87bfa7509e8f277d722fbb5a363cd7d884ef1106bd2bd2fad9";
const K2 = "3b0b7ee8ca35498aced65f09705b6c04d31794785abc4069e886b45386330022";

function handshake() {
  const started = NoiseInitiator.start({
    prologue: controlPrologue(VERSION),
    staticKey: KEYS.client,
    ephemeralKey: KEYS.clientEphemeral,
    responderKey: publicKeyOf(KEYS.control),
  })!;
  const answered = respondNoise({
    prologue: controlPrologue(VERSION),
    staticKey: KEYS.control,
    ephemeralKey: KEYS.serverEphemeral,
    initiation: decodeInitiation(hex(INITIATION))!.payload,
  })!;
  return { initiation: started.initiation, answered, client: started.initiator.finish(answered.response)! };
}

describe("Appendix A, Noise", () => {
  test.each([
    ["client machine public", KEYS.client, "d89e3bad79437dbed9f843418304f460ff05c7fe81fe4a9577a804cb9367ff66"],
    ["control public", KEYS.control, "79a631eede1bf9c98f12032cdeadd0e7a079398fc786b88cc846ec89af85a51a"],
    [
      "client ephemeral public",
      KEYS.clientEphemeral,
      "23b7bb8c91ae008711fb12846780bcdf1e065f821bdfec49f57e7c7dcd4c4823",
    ],
    [
      "server ephemeral public",
      KEYS.serverEphemeral,
      "605a725d2a4adfeeb1a29e17edd621c1b7593ee8cdbc44ac6c4ab6e2f805d23c",
    ],
  ])("%s", (_, privateKey, wanted) => {
    expect(toHex(publicKeyOf(privateKey))).toBe(wanted);
  });

  test("initiation (101)", () => {
    expect(hex(INITIATION)).toHaveLength(101);
    expect(toHex(encodeInitiation(VERSION, handshake().initiation))).toBe(INITIATION);
    expect(decodeInitiation(hex(INITIATION))?.version).toBe(VERSION);
  });

  test("response (51)", () => {
    expect(hex(RESPONSE)).toHaveLength(51);
    const { answered } = handshake();
    expect(toHex(encodeResponse(answered.response))).toBe(RESPONSE);
    expect(toHex(decodeHandshakeAnswer(hex(RESPONSE))!.payload)).toBe(toHex(answered.response));
  });

  test("handshake hash", () => {
    const { client, answered } = handshake();
    const wanted = "a53756579002be4585d14458a46f1de01fbb21887a7d1b747b1b8cae91806ec4";
    expect([toHex(client.handshakeHash), toHex(answered.session.handshakeHash)]).toEqual([wanted, wanted]);
  });

  test.each([
    ["k1 (client→server)", K1, "hello", 0],
    ["k2 (server→client)", K2, "world", 1],
  ])("%s", (_, key, text, direction) => {
    // A session does not give its keys away: what it seals first opens with the key of the sheet, without our code.
    const { client, answered } = handshake();
    const sealed = [client, answered.session][direction]!.seal.next(Buffer.from(text))!;
    const open = createDecipheriv("chacha20-poly1305", hex(key), new Uint8Array(12), { authTagLength: 16 });
    open.setAuthTag(sealed.subarray(-16));
    expect(Buffer.concat([open.update(sealed.subarray(0, -16)), open.final()]).toString()).toBe(text);
  });

  const RECORDS = [
    ["client record 0, hello", K1, ["hello"], "040015d4a48155615b28c909173f726d10d9c5af500ba75a"],
    ["server record 0, world", K2, ["world"], "040015a9fe3cb199eb32148e923fb091b6499720303360f3"],
    ["server record 1, again", K2, ["world", "again"], "0400152d0acf5d7eb69691be0210e79a6d45ca10a91a325f"],
  ] as const;
  test.each(RECORDS)("%s", (_, key, texts, wanted) => {
    const sealer = new NoiseSealer(hex(key));
    const opener = new NoiseOpener(hex(key));
    const records = texts.map((text) => encodeRecord(sealer.next(Buffer.from(text))!));
    expect(toHex(records.at(-1)!)).toBe(wanted);
    const opened = records.map((record) => {
      const body = record.subarray(CONTROL_HEADER_BYTES);
      expect(recordBodyLength(record)).toBe(body.length);
      return Buffer.from(opener.next(body)!).toString();
    });
    expect(opened).toEqual([...texts]);
  });
});
