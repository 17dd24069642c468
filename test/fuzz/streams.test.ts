import { once } from "node:events";
import { duplexPair } from "node:stream";
import { zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { toHex } from "../../src/base/bytes.ts";
import { Fault } from "../../src/base/fault.ts";
import { seededRandom } from "../../src/base/random.ts";
import { RecordDuplex } from "../../src/base/record-duplex.ts";
import { generatePrivateKey, publicKeyOf } from "../../src/crypto/keys.ts";
import { NoiseInitiator, NoiseOpener, NoiseSealer, respondNoise } from "../../src/crypto/noise.ts";
import { noiseRecords } from "../../src/mesh/control/noise-channel.ts";
import { answerQueries, framed } from "../../src/mesh/dns/stream-queries.ts";
import {
  controlPrologue,
  decodeHandshakeAnswer,
  decodeInitiation,
  encodeEarlyPayload,
  encodeErrorFrame,
  encodeInitiation,
  encodeRecord,
  encodeResponse,
  LARGEST_RECORD_BODY,
  recordBodyLength,
  splitEarlyPayload,
} from "../../src/wire/control.ts";
import { decodeC2nRequest, encodeC2nResponse } from "../../src/wire/control-c2n.ts";
import { encodeMapFrame, MapFrameReader } from "../../src/wire/control-map.ts";
import {
  DERP,
  DERP_FRAME_BYTES,
  DerpFrameReader,
  decodeDerpInfo,
  decodeDerpServerKey,
  encodeDerpFrame,
  encodeDerpServerKey,
} from "../../src/wire/derp.ts";
import type { MapResponse } from "../../src/wire/tailcfg.ts";
import { house, join, settle } from "../suites/derp-house.ts";
import { allocatedBy, FUZZ_TIMEOUT_MS, holds, hostileBytes, pieces, quiet } from "./fuzzing.ts";

const MiB = 1024 * 1024;
const cuts = fc.array(fc.integer({ min: 1, max: 70 }), { minLength: 1, maxLength: 8 });
const timeout = FUZZ_TIMEOUT_MS;

describe("frames of the map stream", { timeout }, () => {
  const message = fc.dictionary(fc.constantFrom("Health", "Domain", "ControlTime", "KeepAlive"), fc.jsonValue(), {
    noNullPrototype: true,
  }) as fc.Arbitrary<MapResponse>;

  test("what was written is read again, however it is cut", () => {
    const kind = fc.constantFrom("zstd" as const, "none" as const);
    const property = fc.property(fc.array(fc.tuple(message, kind), { maxLength: 5 }), cuts, (messages, lengths) => {
      const stream = Buffer.concat(messages.map((one) => encodeMapFrame(...one)));
      const reader = new MapFrameReader();
      const read = [...pieces(stream, lengths)].flatMap((piece) => [...reader.push(piece)]);
      expect(JSON.stringify(read)).toBe(JSON.stringify(messages.map(([one]) => one)));
      expect(reader.pending).toBe(0);
    });
    holds(property, 150);
  });

  test("CC-4 whatever comes is a message or a Fault", () => {
    const frames = (["zstd", "none"] as const).map((kind) => encodeMapFrame({ Domain: "d".repeat(90) }, kind));
    const property = fc.property(hostileBytes(...frames, Buffer.concat(frames)), cuts, (bytes, lengths) => {
      const reader = new MapFrameReader();
      for (const piece of pieces(bytes, lengths)) {
        const read = quiet(() => [...reader.push(piece)]);
        if (read instanceof Fault) return void expect(read.code).toBe("CONTROL_BAD_MAP");
        for (const one of read) expect([typeof one, Array.isArray(one)]).toEqual(["object", false]);
      }
      expect(reader.pending).toBeLessThanOrEqual(bytes.length);
    });
    holds(property, 1500);
  });

  test("a length of 4 GiB or 16 MiB takes no memory before that much has come", () => {
    const header = (length: number) => {
      const bytes = new Uint8Array(8);
      new DataView(bytes.buffer).setUint32(0, length, true);
      return bytes;
    };
    expect(() => [...new MapFrameReader().push(header(2 ** 32 - 1))]).toThrow(Fault);
    const readers = Array.from({ length: 100 }, () => new MapFrameReader());
    const taken = allocatedBy(() => readers.forEach((reader) => void [...reader.push(header(16 * MiB))]));
    expect(taken).toBeLessThan(MiB);
    expect(readers.every((reader) => reader.pending === 8)).toBe(true);
  });

  test("a megabyte in pieces of one byte takes little more than a megabyte", () => {
    const frame = encodeMapFrame({ Domain: "x".repeat(MiB) }, "none");
    const reader = new MapFrameReader();
    const read: MapResponse[] = [];
    for (let at = 0; at < frame.length; at++) {
      for (const one of reader.push(frame.subarray(at, at + 1))) read.push(one);
    }
    expect(read.map(({ Domain }) => Domain?.length)).toEqual([MiB]);
    expect(allocatedBy(() => [...reader.push(frame.subarray(0, frame.length - 1))])).toBeLessThan(3 * MiB);
  });

  test("a bomb of 65 MiB in 6 KiB is a Fault", () => {
    const body = zstdCompressSync(Buffer.concat([Buffer.from('{"Domain":"'), Buffer.alloc(65 * MiB, "x")]));
    expect(body.length).toBeLessThan(8192);
    const frame = new Uint8Array(4 + body.length);
    new DataView(frame.buffer).setUint32(0, body.length, true);
    frame.set(body, 4);
    expect(() => [...new MapFrameReader().push(frame)]).toThrow(expect.objectContaining({ code: "CONTROL_BAD_MAP" }));
  });
});

describe("frames of the control channel", { timeout }, () => {
  const initiation = encodeInitiation(113, new Uint8Array(96));
  const answers = [encodeResponse(new Uint8Array(48)), encodeErrorFrame("no\u001b[2J"), encodeEarlyPayload({ a: "b" })];

  test("what was written is read again", () => {
    const payload = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
    const property = fc.property(fc.nat(65_535), payload(96), payload(48), fc.jsonValue(), (version, a, b, json) => {
      expect(decodeInitiation(encodeInitiation(version, a))).toEqual({ version, payload: a });
      expect(decodeHandshakeAnswer(encodeResponse(b))).toMatchObject({ kind: "response", payload: b });
      const split = splitEarlyPayload(Buffer.concat([encodeEarlyPayload(json), b]))!;
      expect(Buffer.from(split.payload!).toString()).toBe(JSON.stringify(json));
      expect(toHex(split.rest)).toBe(toHex(b));
      expect(recordBodyLength(encodeRecord(b))).toBe(48);
    });
    holds(property, 200);
  });

  test("whatever comes is a frame or a Fault, and its words cannot drive a terminal", () => {
    const property = fc.property(hostileBytes(initiation, ...answers), (bytes) => {
      decodeInitiation(bytes);
      const length = quiet(() => recordBodyLength(bytes));
      if (!(length instanceof Fault)) expect(length).toBeLessThanOrEqual(LARGEST_RECORD_BODY);
      for (const read of [quiet(() => decodeHandshakeAnswer(bytes)), quiet(() => splitEarlyPayload(bytes))]) {
        if (read instanceof Fault) expect(`${read.message}${read.hint ?? ""}`).toMatch(/^[ -~]*$/);
      }
    });
    holds(property, 3000);
  });

  test("a damaged handshake gives no session, a damaged record no text and none after it", () => {
    const random = seededRandom(3);
    const [client, server, e1, e2] = Array.from({ length: 4 }, () => generatePrivateKey(random)) as [
      Uint8Array,
      Uint8Array,
      Uint8Array,
      Uint8Array,
    ];
    const prologue = controlPrologue(113);
    const start = () =>
      NoiseInitiator.start({ prologue, staticKey: client, ephemeralKey: e1, responderKey: publicKeyOf(server) })!;
    const good = start();
    const answer = (message: Uint8Array) =>
      respondNoise({ prologue, staticKey: server, ephemeralKey: e2, initiation: message });
    const { response } = answer(good.initiation)!;
    const key = random(32);
    const record = new NoiseSealer(key).next(Buffer.from("hello"))!;
    const bent = hostileBytes(good.initiation, response, record);
    const property = fc.property(bent, (bytes) => {
      if (toHex(bytes) !== toHex(good.initiation)) expect(answer(bytes)).toBeUndefined();
      if (toHex(bytes) !== toHex(response)) expect(start().initiator.finish(bytes)).toBeUndefined();
      if (toHex(bytes) === toHex(record)) return;
      const opener = new NoiseOpener(key);
      expect([opener.next(bytes), opener.next(record)]).toEqual([undefined, undefined]);
    });
    holds(property, 250);
  });

  test("records of a channel: whatever comes ends it or is read, and nothing is thrown", async () => {
    const key = new Uint8Array(32);
    const sealer = new NoiseSealer(key);
    const stream = Buffer.concat(["one", "two", ""].map((text) => encodeRecord(sealer.next(Buffer.from(text))!)));
    const property = fc.asyncProperty(hostileBytes(stream), cuts, async (bytes, lengths) => {
      const [near, far] = duplexPair();
      const session = { seal: new NoiseSealer(key), open: new NoiseOpener(key) };
      const records = new RecordDuplex(far, noiseRecords({ ...session, handshakeHash: key, peerKey: key }));
      const faults: unknown[] = [];
      const read: Buffer[] = [];
      records.on("error", (thrown) => faults.push(thrown)).on("data", (part: Buffer) => read.push(part));
      for (const piece of pieces(bytes, lengths)) near.write(piece);
      near.end();
      await once(records, "close").catch(() => undefined);
      expect(faults.every((thrown) => thrown instanceof Fault)).toBe(true);
      expect("onetwo".startsWith(Buffer.concat(read).toString())).toBe(true); // never what was not sealed
      near.destroy();
    });
    await holds(property, 150);
  });

  test("c2n requests", () => {
    const sample = Buffer.from("POST /echo?x=1 HTTP/1.1\r\nHost: c2n\r\nContent-Length: 2\r\n\r\nhi");
    const property = fc.property(hostileBytes(sample), (bytes) => {
      const request = decodeC2nRequest(bytes);
      if (request === undefined) return;
      expect(request.path).toMatch(/^\/[!-~]*$/);
      expect(Object.values(request.headers).join("")).not.toMatch(/[\r\n\0]/);
      expect(request.body.length).toBeLessThan(bytes.length);
    });
    holds(property, 2000);
    const packed = Buffer.from(encodeC2nResponse({ status: 200, headers: { "X-A": "b\r\nX-C: d" }, body: "hi" }));
    expect(packed.toString()).toBe("HTTP/1.1 200 OK\r\nX-A: b  X-C: d\r\nContent-Length: 2\r\n\r\nhi");
  });

  test("a c2n request with a megabyte of blanks is answered at once: it once held the process for hours", () => {
    const blanks = " ".repeat(MiB - 100);
    for (const line of [`A: x${blanks}\0`, `A: ${blanks}\0`, `A${blanks}: x`, `A: x${blanks}x`]) {
      const request = decodeC2nRequest(Buffer.from(`GET / HTTP/1.1\r\n${line}\r\n\r\n`));
      expect(request?.headers["a"]?.length ?? 0).toBe(line.endsWith("x") && line.startsWith("A: x") ? MiB - 98 : 0);
    }
  });
});

describe("frames of the relay", { timeout }, () => {
  const key = new Uint8Array(32).fill(9);
  const frames = [
    encodeDerpServerKey(key),
    encodeDerpFrame(DERP.clientInfo, key, new Uint8Array(60)),
    encodeDerpFrame(DERP.sendPacket, key, new Uint8Array(40)),
    encodeDerpFrame(DERP.peerGone, key, Uint8Array.of(1)),
    encodeDerpFrame(DERP.ping, new Uint8Array(8)),
    encodeDerpFrame(DERP.keepAlive),
  ];

  test("whatever comes is cut into frames or is a Fault; nothing is held beyond one frame", () => {
    const property = fc.property(hostileBytes(...frames, Buffer.concat(frames)), cuts, (bytes, lengths) => {
      const reader = new DerpFrameReader(1000);
      for (const piece of pieces(bytes, lengths)) {
        const read = quiet(() => reader.push(piece, (_, payload) => void decodeDerpServerKey(payload)));
        if (read instanceof Fault) return void expect(read.code).toBe("DERP_FRAME_TOO_LONG");
      }
    });
    holds(property, 2000);
    const readers = Array.from({ length: 100 }, () => new DerpFrameReader(DERP_FRAME_BYTES));
    const promise = Uint8Array.of(4, 0, 0x10, 0, 0);
    const taken = allocatedBy(() => readers.forEach((reader) => void reader.push(promise, () => {})));
    expect(taken).toBeLessThan(MiB);
  });

  test("info of client and server", () => {
    const text = new TextEncoder().encode('{"version":2,"CanAckPings":true,"TokenBucketBytesPerSecond":7}');
    const property = fc.property(hostileBytes(text), (bytes) => {
      const info = decodeDerpInfo(bytes);
      if (info !== undefined) expect(typeof info.version).toBe("number");
    });
    holds(property, 1500);
  });

  test("DD-7 a session: whatever a client sends, the relay stands and the others are served", async () => {
    const here = house();
    const [alice, bob] = [await join(here), await join(here)];
    const greeted = hostileBytes(...frames.slice(2));
    const property = fc.asyncProperty(greeted, fc.boolean(), async (bytes, isGreeted) => {
      const mallory = isGreeted ? (await join(here)).end : undefined;
      const [near, far] = duplexPair();
      near.on("error", () => {});
      if (mallory === undefined) here.server.accept(far);
      const end = mallory ?? near;
      end.write(bytes);
      await settle();
      end.destroy();
      near.destroy();
    });
    await holds(property, 40);
    await settle();
    alice.client.send(bob.key, Buffer.from("still here"));
    await settle();
    expect(bob.got.map(({ payload }) => Buffer.from(payload).toString())).toEqual(["still here"]);
    expect(here.server.clients).toBe(2);
  });
});

test("DNS over a stream: whatever comes is answered or ends the stream", { timeout }, async () => {
  const query = framed(Buffer.from("000101000001000000000000", "hex"));
  const property = fc.asyncProperty(
    hostileBytes(query, Buffer.concat([query, query])),
    cuts,
    async (bytes, lengths) => {
      const [near, far] = duplexPair();
      const asked: number[] = [];
      answerQueries(far, async (one) => {
        asked.push(one.length);
        return one.length < 12 ? undefined : one;
      });
      near.on("error", () => {}).resume();
      for (const piece of pieces(bytes, lengths)) near.write(piece);
      near.end();
      await once(far, "close").catch(() => undefined);
      expect(asked.reduce((sum, length) => sum + 2 + length, 0)).toBeLessThanOrEqual(bytes.length);
      near.destroy();
    },
  );
  await holds(property, 150);
});
