import { createServer } from "node:http";
import { connect } from "node:net";
import { duplexPair } from "node:stream";
import { expect, onTestFinished, test } from "vitest";
import { house, join, settle } from "../../test/suites/derp-house.ts";
import { listening } from "../../test/suites/listening.ts";
import { boxKey, sealBox } from "../crypto/box.ts";
import { generatePrivateKey, publicKeyOf } from "../crypto/keys.ts";
import { DERP, encodeDerpFrame } from "../wire/derp.ts";

const TEXTS = ["one", "two", "three"].map((text) => text.repeat(20));
const cuts = Array.from({ length: 30 }, (_, i) => 100 + 13 * i);

test.each(cuts)("packets right behind ClientInfo arrive whole and in order, cut at byte %i", async (cut) => {
  const here = house({ admit: () => new Promise((done) => void setImmediate(() => done(true))) });
  const bob = await join(here);
  const key = generatePrivateKey(here.random);
  const nonce = here.random(24);
  const info = sealBox(boxKey(key, here.server.publicKey)!, nonce, Buffer.from('{"version":2}'));
  const stream = Buffer.concat([
    encodeDerpFrame(DERP.clientInfo, publicKeyOf(key), nonce, info),
    ...TEXTS.map((text) => encodeDerpFrame(DERP.sendPacket, bob.key, Buffer.from(text))),
  ]);
  const [near, far] = duplexPair();
  near.on("error", () => {}).resume();
  here.server.accept(far);
  near.write(stream.subarray(0, cut));
  await new Promise((done) => void process.nextTick(done));
  near.write(stream.subarray(cut)); // while the admission is still decided
  await settle();
  expect(bob.got.map(({ payload }) => Buffer.from(payload).toString())).toEqual(TEXTS);
});

test("frames before the admission are bounded, small ones too", async () => {
  const here = house({ admit: () => new Promise(() => {}) });
  const key = generatePrivateKey(here.random);
  const nonce = here.random(24);
  const info = sealBox(boxKey(key, here.server.publicKey)!, nonce, Buffer.from('{"version":2}'));
  const [near, far] = duplexPair();
  near.on("error", () => {}).resume();
  here.server.accept(far);
  const keepAlives = Array.from({ length: 5000 }, () => encodeDerpFrame(DERP.keepAlive));
  near.write(Buffer.concat([encodeDerpFrame(DERP.clientInfo, publicKeyOf(key), nonce, info), ...keepAlives]));
  await settle();
  expect(far.destroyed).toBe(true);
});

test("what nobody serves is answered or cut, and does not wait for ever", async () => {
  const http = createServer();
  house().server.attach(http);
  const port = await listening(http);
  onTestFinished(() => void http.close());
  const ask = async (fields: string): Promise<string> => {
    const client = connect(port, "127.0.0.1");
    client.write(`GET /other HTTP/1.1\r\nHost: x\r\n${fields}\r\n\r\n`);
    return Buffer.concat(await client.toArray()).toString();
  };
  expect(await ask("Accept: */*")).toMatch(/^HTTP\/1.1 404 /);
  expect(await ask("Connection: Upgrade\r\nUpgrade: DERP")).toBe("");
});
