import { duplexPair } from "node:stream";
import fc from "fast-check";
import { expect, test } from "vitest";
import { FakeClock } from "../../base/clock.ts";
import { seededRandom } from "../../base/random.ts";
import { boxKey, sealBox } from "../../crypto/box.ts";
import { generatePrivateKey, publicKeyOf } from "../../crypto/keys.ts";
import { DERP, encodeDerpFrame, encodeDerpServerKey } from "../../wire/derp.ts";
import { DerpClient } from "./derp-client.ts";

const settle = async (): Promise<void> => {
  for (let i = 0; i < 6; i++) await new Promise((done) => void setImmediate(done));
};

/** A client whose server is played by the test. */
async function greeted(info: object = { version: 2 }) {
  const random = seededRandom(21);
  const clock = new FakeClock();
  const [serverPrivate, nodePrivateKey] = [generatePrivateKey(random), generatePrivateKey(random)];
  const [near, far] = duplexPair();
  const log = { packets: 0, health: [] as string[], gone: 0, ready: 0, closed: [] as string[], written: 0 };
  const client = new DerpClient({
    stream: near,
    nodePrivateKey,
    random,
    clock,
    onReady: () => void log.ready++,
    onPacket: () => void log.packets++,
    onPeerGone: () => void log.gone++,
    onHealth: (text) => void log.health.push(text),
    onClose: (fault) => void log.closed.push(fault.code),
  });
  far.on("error", () => far.destroy());
  far.on("data", (chunk: Uint8Array) => {
    log.written += chunk.length;
  });
  far.write(encodeDerpServerKey(publicKeyOf(serverPrivate)));
  const nonce = random(24);
  const box = sealBox(
    boxKey(serverPrivate, publicKeyOf(nodePrivateKey))!,
    nonce,
    new TextEncoder().encode(JSON.stringify(info)),
  );
  far.write(encodeDerpFrame(DERP.serverInfo, nonce, box));
  await settle();
  return { client, clock, far, log };
}

test("DD-6: unknown frames, strangers, long health texts and advice of years do nothing", async () => {
  const { far, log } = await greeted();
  expect(log.ready).toBe(1);
  far.write(encodeDerpFrame(0x66, new Uint8Array(70_000)));
  far.write(encodeDerpFrame(DERP.peerGone, new Uint8Array(32)));
  far.write(encodeDerpFrame(DERP.peerGone, new Uint8Array(3)));
  far.write(encodeDerpFrame(DERP.receivePacket, new Uint8Array(31)));
  far.write(encodeDerpFrame(DERP.restarting, new Uint8Array(8).fill(255)));
  far.write(encodeDerpFrame(DERP.health, new TextEncoder().encode(`bad\n\u001b[31m${"x".repeat(9000)}`)));
  await settle();
  expect(log).toMatchObject({ gone: 1, packets: 0, closed: [] });
  expect(log.health[0]).toHaveLength(256);
  expect(log.health[0]).not.toContain("\n");
  expect(log.health[0]).not.toContain("\u001b");
});

test("DD-6: a length of 4 GiB closes", async () => {
  const { far, log } = await greeted();
  far.write(Uint8Array.of(5, 255, 255, 255, 255));
  await settle();
  expect(log.closed).toEqual(["DERP_FRAME_TOO_LONG"]);
});

test("a limit that the server tells is kept by dropping", async () => {
  const { client, log } = await greeted({ version: 2, TokenBucketBytesPerSecond: 1000, TokenBucketBytesBurst: 5000 });
  await settle();
  const before = log.written;
  for (let i = 0; i < 100; i++) client.send(new Uint8Array(32), new Uint8Array(1000));
  await settle();
  expect(log.written - before).toBeLessThanOrEqual(5000);
});

test("a server that does not greet, or does not answer a check, is left", async () => {
  const { client, clock, log } = await greeted();
  client.check();
  clock.advance(3001);
  expect(log.closed).toEqual(["DERP_CLOSED"]);
});

test("DD-5: no bytes of a server make it throw", async () => {
  const frame = fc.tuple(fc.nat(0x16), fc.uint8Array({ maxLength: 80 }));
  await fc.assert(
    fc.asyncProperty(fc.array(frame, { maxLength: 20 }), fc.uint8Array({ maxLength: 40 }), async (frames, tail) => {
      const { far, client } = await greeted();
      for (const [type, payload] of frames) far.write(encodeDerpFrame(type, payload));
      if (!far.destroyed) far.write(tail);
      await settle();
      client.close();
    }),
    { numRuns: 60 },
  );
});
