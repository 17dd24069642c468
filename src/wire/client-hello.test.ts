import { describe, expect, test } from "vitest";
import {
  browserHello,
  extension,
  helloMessage,
  inRecords,
  makeHello,
  nameExtension,
  RECORDED,
  vector,
} from "../../test/suites/client-hellos.ts";
import { seededRandom } from "../base/random.ts";
import { type ClientHello, HelloReader, type HelloRefusal } from "./client-hello.ts";

const NAME = "box.tail.test";

function readAll(bytes: Uint8Array, segment: number = bytes.length): ClientHello | HelloRefusal | undefined {
  const reader = new HelloReader();
  for (let at = 0; at < bytes.length; at += segment) {
    const answer = reader.push(bytes.subarray(at, at + segment));
    if (answer !== undefined) return answer;
  }
  return undefined;
}

const isHello = (answer: ClientHello | HelloRefusal | undefined): boolean =>
  answer !== undefined && "protocols" in answer;

describe("hellos of real clients", () => {
  test.each(Object.entries(RECORDED))("%s", (_, bytes) => {
    expect(readAll(bytes)).toMatchObject({ serverName: NAME });
  });

  test("a browser's: post-quantum, GREASE, ECH: the outer name counts", () => {
    expect(readAll(browserHello(NAME))).toEqual({ serverName: NAME, protocols: ["h2", "http/1.1"] });
  });

  test("no name, and no extensions at all", () => {
    expect(readAll(makeHello({}))).toEqual({ serverName: undefined, protocols: [] });
    const bare = helloMessage({});
    const body = bare.subarray(4, -2); // without the list of extensions
    expect(readAll(inRecords(Buffer.concat([Buffer.of(1), vector(3, body)])))).toEqual({
      serverName: undefined,
      protocols: [],
    });
  });
});

describe("TL-1 however it is cut, the decision is the same", () => {
  test.each([...Object.entries(RECORDED), ["browser", browserHello(NAME)] as const])("%s", (_, whole) => {
    const wanted = readAll(whole);
    const message = whole.subarray(5); // one record
    for (let cut = 1; cut < message.length; cut++) {
      const twoRecords = Buffer.concat([inRecords(message.subarray(0, cut)), inRecords(message.subarray(cut))]);
      expect(readAll(twoRecords)).toEqual(wanted);
      const reader = new HelloReader();
      expect(reader.push(whole.subarray(0, cut))).toBeUndefined();
      expect(reader.push(whole.subarray(cut))).toEqual(wanted);
    }
    expect(readAll(inRecords(message, 1))).toEqual(wanted);
    expect(readAll(inRecords(message, 1), 1)).toEqual(wanted);
    expect(readAll(whole, 1)).toEqual(wanted);
  });

  test.each([2, 16, 17, 60])("a hello of %i KiB", (kib) => {
    const message = helloMessage({ name: NAME, before: [extension(0x5a5a, Buffer.alloc(kib * 1024 - 300))] });
    for (const size of [16_384, 16_000, 1000, 7]) {
      expect(readAll(inRecords(message, size))).toMatchObject({ serverName: NAME });
      expect(readAll(inRecords(message, size), 1460)).toMatchObject({ serverName: NAME });
    }
  });

  test("the name behind anything else, GREASE everywhere", () => {
    const grease = Array.from({ length: 16 }, (_, i) => extension(0x0a0a + 0x1010 * i, Buffer.alloc(i)));
    for (let at = 0; at <= grease.length; at++) {
      const parts = { name: NAME, before: grease.slice(0, at), after: grease.slice(at) };
      expect(readAll(makeHello(parts))).toMatchObject({ serverName: NAME });
    }
  });

  test("a caller's view may be overwritten as soon as the call is over", () => {
    const segment = Buffer.alloc(16);
    const whole = makeHello({ name: NAME });
    const reader = new HelloReader();
    let answer: ClientHello | HelloRefusal | undefined;
    for (let at = 0; at < whole.length && answer === undefined; at += 16) {
      const length = whole.copy(segment, 0, at, at + 16);
      answer = reader.push(segment.subarray(0, length));
    }
    expect(answer).toMatchObject({ serverName: NAME });
  });
});

const lie = (whole: Buffer, at: number, value: number): Buffer => {
  const copy = Buffer.from(whole);
  copy[at] = value;
  return copy;
};
const hello = makeHello({ name: NAME, protocols: ["h2"] });

test.each([
  ["a zero byte in it", "a\0b"],
  ["256 bytes", "a".repeat(256)],
])("TL-2 a name with %s is nobody's, and no broken hello", (_, name) => {
  expect(readAll(makeHello({ name }))).toEqual({ serverName: "", protocols: [] });
});

describe("TL-3 what is no hello is refused, and nothing throws", () => {
  test.each<readonly [string, Buffer]>([
    ["plain HTTP", Buffer.from("GET / HTTP/1.1\r\nHost: box.tail.test\r\n\r\n")],
    ["SSLv2", Buffer.from("802e0100020015000000100100800200800300", "hex")],
    ["an alert first", Buffer.of(21, 3, 1, 0, 2, 1, 0)],
    ["application data first", lie(hello, 0, 23)],
    ["another handshake message", lie(hello, 5, 2)],
    ["a record version of 2", lie(hello, 1, 2)],
    ["an empty record", Buffer.of(22, 3, 1, 0, 0)],
    ["a record over 16 KiB", Buffer.of(22, 3, 1, 0x40, 1)],
    ["a message over 64 KiB", Buffer.of(22, 3, 1, 0, 4, 1, 1, 0, 1)],
    ["a session id of 33 bytes", makeHello({ name: NAME, sessionId: Buffer.alloc(33) })],
    ["two names", makeHello({ before: [nameExtension(NAME, "other.tail.test")] })],
    ["two name extensions", makeHello({ name: NAME, after: [nameExtension(NAME)] })],
    ["two extensions of one type", makeHello({ name: NAME, before: [extension(35)], after: [extension(35)] })],
    ["an empty name", makeHello({ name: "" })],
    ["a name list that is too short", makeHello({ before: [extension(0, Buffer.of(0, 20, 0, 0, 1, 0x61))] })],
    [
      "bytes behind the name list",
      makeHello({ before: [extension(0, vector(2, Buffer.of(0, 0, 1, 0x61)), Buffer.of(0))] }),
    ],
    ["an empty list of protocols", makeHello({ protocols: [] })],
    ["an empty protocol", makeHello({ protocols: [""] })],
    ["a protocol that is longer than its list", lie(hello, hello.length - 3, 9)],
  ])("%s", (_, bytes) => {
    const answer = readAll(bytes);
    expect(answer).toMatchObject({ alert: expect.any(Number) });
    expect(readAll(bytes, 1)).toEqual(answer);
  });

  test("100,000 mutated hellos: an answer or a wait, within a millisecond each on average", () => {
    const random = seededRandom(3);
    const seeds = [...Object.values(RECORDED), browserHello(NAME), inRecords(helloMessage({ name: NAME }), 3)];
    let refused = 0;
    const start = performance.now();
    for (let round = 0; round < 100_000; round++) {
      const [pick = 0, count = 0, ...noise] = random(2 + 3 * 8);
      const bytes = Buffer.from(seeds[pick % seeds.length]!);
      for (let i = 0; i <= count % 8; i++) {
        const at = (noise[3 * i]! * 256 + noise[3 * i + 1]!) % bytes.length;
        bytes[at] = noise[3 * i + 2]!;
      }
      const answer = readAll(bytes.subarray(0, round % 3 === 0 ? (noise[0]! * 7) % bytes.length : bytes.length));
      if (answer !== undefined && !isHello(answer)) refused++;
    }
    expect((performance.now() - start) / 100_000).toBeLessThan(1);
    expect(refused).toBeGreaterThan(1000); // the mutations did reach the checks
  });
});
