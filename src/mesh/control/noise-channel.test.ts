import { type Duplex, duplexPair } from "node:stream";
import { describe, expect, test } from "vitest";
import { seededRandom } from "../../base/random.ts";
import { RecordDuplex } from "../../base/record-duplex.ts";
import { generatePrivateKey, publicKeyOf } from "../../crypto/keys.ts";
import { NoiseInitiator, type NoiseSession, respondNoise } from "../../crypto/noise.ts";
import { controlPrologue, encodeEarlyPayload, encodeRecord, LARGEST_RECORD_BODY } from "../../wire/control.ts";
import { clientChannel, noiseRecords } from "./noise-channel.ts";

/** Both ends of a finished handshake. */
function handshake(): { client: NoiseSession; server: NoiseSession } {
  const random = seededRandom(12);
  const [clientKey, serverKey] = [generatePrivateKey(random), generatePrivateKey(random)];
  const started = NoiseInitiator.start({
    prologue: controlPrologue(113),
    staticKey: clientKey,
    ephemeralKey: generatePrivateKey(random),
    responderKey: publicKeyOf(serverKey),
  })!;
  const answer = respondNoise({
    prologue: controlPrologue(113),
    staticKey: serverKey,
    ephemeralKey: generatePrivateKey(random),
    initiation: started.initiation,
  })!;
  return { client: started.initiator.finish(answer.response)!, server: answer.session };
}

interface Ends {
  /** What the server writes goes in here. */
  readonly wire: Duplex;
  readonly server: NoiseSession;
  readonly read: () => string;
  readonly error: () => string | undefined;
}

function open(): Ends {
  const { client, server } = handshake();
  const [ours, theirs] = duplexPair();
  for (const end of [ours, theirs]) end.on("error", () => {});
  const channel: RecordDuplex = clientChannel(ours, client, new Uint8Array(0));
  let text = "";
  let error: string | undefined;
  channel.on("data", (chunk) => {
    text += String(chunk);
  });
  channel.on("error", (thrown: Error & { code?: string }) => {
    error = thrown.code ?? thrown.message;
  });
  return { wire: theirs, server, read: () => text, error: () => error };
}

const settle = async () => {
  for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
};

function record(session: NoiseSession, text: string | Uint8Array): Uint8Array {
  return noiseRecords(session).seal(typeof text === "string" ? Buffer.from(text) : text);
}

describe("CC-2 records of the control channel", () => {
  test("may be cut anywhere", async () => {
    const early = encodeEarlyPayload({ nodeKeyChallenge: "chalpub:1" });
    const { server } = handshake();
    const whole = Buffer.concat([record(server, early), record(server, "first "), record(server, "second")]);
    for (let cut = 1; cut < whole.length; cut++) {
      const ends = open(); // the same keys: the handshake is seeded
      ends.wire.write(whole.subarray(0, cut));
      await settle();
      ends.wire.write(whole.subarray(cut));
      await settle();
      expect([cut, ends.read(), ends.error()]).toEqual([cut, "first second", undefined]);
    }
  }, 60_000);

  test("the early payload may share records with what follows, or be cut over several", async () => {
    const early = encodeEarlyPayload({ nodeKeyChallenge: "chalpub:1" });
    const ends = open();
    ends.wire.write(record(ends.server, early.subarray(0, 7)));
    ends.wire.write(record(ends.server, Buffer.concat([early.subarray(7), Buffer.from("rest")])));
    await settle();
    expect(ends.read()).toBe("rest");
  });

  test("a server without an early payload is understood too", async () => {
    const ends = open();
    ends.wire.write(record(ends.server, "PRI * HTTP/2.0"));
    await settle();
    expect(ends.read()).toBe("PRI * HTTP/2.0");
  });

  test("the longest is taken, a longer one ends the channel before it is read", async () => {
    const ends = open();
    ends.wire.write(record(ends.server, "x".repeat(9)));
    ends.wire.write(record(ends.server, "y".repeat(LARGEST_RECORD_BODY - 16)));
    await settle();
    expect(ends.read().length).toBe(9 + LARGEST_RECORD_BODY - 16);
    ends.wire.write(encodeRecord(new Uint8Array(LARGEST_RECORD_BODY + 1)).subarray(0, 3));
    await settle();
    expect(ends.error()).toBe("CONTROL_BAD_FRAME");
  });

  test.each<[string, (good: Uint8Array) => Uint8Array, string]>([
    ["of no bytes", () => encodeRecord(new Uint8Array(0)), "CONTROL_BAD_RECORD"],
    ["of another type", (good) => good.with(0, 9), "CONTROL_BAD_FRAME"],
    ["with a changed bit", (good) => good.with(10, good[10]! ^ 1), "CONTROL_BAD_RECORD"],
    ["that was sent before", (good) => good, "CONTROL_BAD_RECORD"],
  ])("one %s ends the channel, and nothing after it is delivered", async (_, change, code) => {
    const ends = open();
    const first = record(ends.server, "x".repeat(9));
    ends.wire.write(first);
    await settle();
    ends.wire.write(change(first.slice()));
    ends.wire.write(record(ends.server, "after"));
    await settle();
    expect([ends.error(), ends.read()]).toEqual([code, "x".repeat(9)]);
  });
});

test("CC-2 what we send is understood by the server however long it is", async () => {
  const { client, server } = handshake();
  const [ours, theirs] = duplexPair();
  const channel = clientChannel(ours, client, new Uint8Array(0));
  const serving = new RecordDuplex(theirs, noiseRecords(server));
  let length = 0;
  serving.on("data", (chunk: Buffer) => {
    length += chunk.length;
  });
  channel.write(Buffer.alloc(100_000));
  await settle();
  expect(length).toBe(100_000);
});
