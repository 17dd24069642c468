import { once } from "node:events";
import { Duplex } from "node:stream";
import tls from "node:tls";
import { afterEach, expect, test } from "vitest";
import { closeScenes, GATE, proxyScene, webConfig } from "../../../test/suites/proxy-scene.ts";

afterEach(closeScenes);

const CONFIG = webConfig({ "/": { Text: "hi" } });

/** The first message of a client, without its record header. */
async function helloOf(servername: string): Promise<Buffer> {
  const written: Buffer[] = [];
  const wire = new Duplex({
    read() {},
    write(chunk: Buffer, _, done) {
      written.push(chunk);
      done();
      wire.emit("flight");
    },
  });
  const secure = tls.connect({ socket: wire, servername, ALPNProtocols: ["h2", "http/1.1"] });
  secure.on("error", () => {});
  if (written.length === 0) await once(wire, "flight");
  secure.destroy();
  const record = Buffer.concat(written);
  return record.subarray(5, 5 + record.readUInt16BE(3));
}

interface Hello {
  /** Up to the length of the extensions. */
  readonly start: Buffer;
  readonly extensions: readonly Buffer[];
}

function parse(message: Buffer): Hello {
  let at = 4 + 2 + 32;
  at += 1 + message[at]!;
  at += 2 + message.readUInt16BE(at);
  at += 1 + message[at]!;
  const extensions: Buffer[] = [];
  for (let from = at + 2; from < message.length; ) {
    const end = from + 4 + message.readUInt16BE(from + 2);
    extensions.push(message.subarray(from, end));
    from = end;
  }
  return { start: message.subarray(4, at), extensions };
}

function build({ start, extensions }: Hello): Buffer {
  const list = Buffer.concat(extensions);
  const body = Buffer.concat([start, number(list.length, 2), list]);
  return Buffer.concat([Buffer.from([1]), number(body.length, 3), body]);
}

function number(value: number, bytes: number): Buffer {
  const buffer = Buffer.alloc(bytes);
  buffer.writeUIntBE(value, 0, bytes);
  return buffer;
}

const extension = (type: number, content: Buffer): Buffer =>
  Buffer.concat([number(type, 2), number(content.length, 2), content]);

const record = (part: Buffer): Buffer => Buffer.concat([Buffer.from([22, 3, 1]), number(part.length, 2), part]);

/** In records of at most `size` bytes. */
function records(message: Buffer, size = 16_384): Buffer[] {
  return Array.from({ length: Math.ceil(message.length / size) }, (_, i) =>
    record(message.subarray(i * size, (i + 1) * size)),
  );
}

/** What the server says first: `hello`, or that it refuses. */
async function decisionOn(segments: readonly Buffer[]): Promise<string> {
  const { connect } = proxyScene(CONFIG);
  const client = connect(443);
  const answer = new Promise<string>((resolve) => {
    client.on("data", (chunk: Buffer) => resolve(chunk[0] === 22 && chunk[5] === 2 ? "hello" : "alert"));
    for (const event of ["end", "close"]) client.on(event, () => resolve("closed"));
  });
  for (const segment of segments) client.write(segment);
  const decision = await answer;
  client.destroy();
  return decision;
}

/** 200 cuts, as many as fit a change; the nightly run takes every position. */
test("TL-1: a hello cut anywhere, into records or into segments, leads to the same decision", async () => {
  const message = await helloOf(GATE);
  const stranger = await helloOf("other.tail.test");
  expect([await decisionOn(records(message)), await decisionOn(records(stranger))]).toEqual(["hello", "alert"]);
  const step = Math.max(1, Math.floor(message.length / 100));
  for (let cut = 1; cut < message.length; cut += step) {
    const parts = [message.subarray(0, cut), message.subarray(cut)];
    expect([cut, await decisionOn(parts.map(record))]).toEqual([cut, "hello"]);
    const whole = record(message);
    expect([cut, await decisionOn([whole.subarray(0, cut), whole.subarray(cut)])]).toEqual([cut, "hello"]);
  }
  expect(await decisionOn(records(message, 1))).toBe("hello");
  expect(await decisionOn([...record(message)].map((byte) => Buffer.from([byte])))).toBe("hello");
  expect(await decisionOn(records(stranger, 1))).toBe("alert");
});

test.each([2, 16, 17, 60])("TL-1: a hello of %d KiB", async (kibibytes) => {
  const { start, extensions } = parse(await helloOf(GATE));
  const now = build({ start, extensions }).length;
  const padding = Math.max(0, kibibytes * 1024 - now - 4);
  const message = build({ start, extensions: [extension(21, Buffer.alloc(padding)), ...extensions] });
  expect(message.length).toBeGreaterThanOrEqual(kibibytes * 1024);
  for (const size of [16_384, 1000, 100]) expect(await decisionOn(records(message, size))).toBe("hello");
});

test("TL-1: extensions in any order, with GREASE and an encrypted hello among them", async () => {
  const { start, extensions } = parse(await helloOf(GATE));
  const isLast = (one: Buffer): boolean => one.readUInt16BE(0) === 41; // a pre-shared key must stay at the end
  const free = extensions.filter((one) => !isLast(one));
  const grease = [0x0a0a, 0x5a5a, 0xfafa].map((type, i) => extension(type, Buffer.alloc(i)));
  const encrypted = extension(
    0xfe0d,
    Buffer.concat([Buffer.from([0, 0, 1, 0, 1, 7, 0, 32]), Buffer.alloc(32, 9), number(64, 2), Buffer.alloc(64, 7)]),
  );
  for (let turn = 0; turn < free.length + 3; turn++) {
    const all = [...free, ...grease, encrypted];
    const turned = [...all.slice(turn), ...all.slice(0, turn)];
    if (turn % 2 === 1) turned.reverse();
    const message = build({ start, extensions: [...turned, ...extensions.filter(isLast)] });
    expect([turn, await decisionOn(records(message, 1 + turn * 97))]).toEqual([turn, "hello"]);
  }
});
