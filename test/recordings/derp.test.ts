import { createServer } from "node:http";
import { type Duplex, duplexPair } from "node:stream";
import { expect, onTestFinished, test } from "vitest";
import { concatBytes, fromHex, toHex } from "../../src/base/bytes.ts";
import { FakeClock } from "../../src/base/clock.ts";
import { silentLog } from "../../src/base/log.ts";
import { seededRandom } from "../../src/base/random.ts";
import { BOX_NONCE_BYTES, boxKey, openBox } from "../../src/crypto/box.ts";
import { publicKeyOf } from "../../src/crypto/keys.ts";
import { DerpServer } from "../../src/derp/derp-server.ts";
import { DerpClient } from "../../src/mesh/derp/derp-client.ts";
import { DERP, DERP_KEY_BYTES, DerpFrameReader, decodeDerpInfo, decodeDerpServerKey } from "../../src/wire/derp.ts";
import { headOf } from "./control-bytes.ts";
import { type DerpOpened, type Entry, ofKind, RECORDINGS, readRecording, type Way } from "./recording.ts";

interface Frame {
  readonly type: number;
  readonly payload: Uint8Array;
}

const CONNECTIONS = RECORDINGS.flatMap((name) =>
  ofKind(readRecording(name), "derp").map((opened) => [name, opened] as const),
);

const chunks = (entries: readonly Entry[], { id }: DerpOpened, way: Way): Uint8Array[] =>
  ofKind(entries, "bytes")
    .filter((entry) => entry.id === id && entry.way === way)
    .map(({ bytes }) => new Uint8Array(Buffer.from(bytes, "base64")));

/** What follows the HTTP head. */
const streamOf = (entries: readonly Entry[], opened: DerpOpened, way: Way): Uint8Array =>
  headOf(concatBytes(...chunks(entries, opened, way)))!.rest;

function framesIn(bytes: Uint8Array): Frame[] {
  const frames: Frame[] = [];
  new DerpFrameReader(1 << 20).push(bytes, (type, payload) => void frames.push({ type, payload: payload.slice() }));
  return frames;
}

/** Frames that tell a client of others; the rest depends on time. */
const TOLD: ReadonlySet<number> = new Set([DERP.receivePacket, DERP.peerGone, DERP.pong]);
const told = (bytes: Uint8Array): string[] =>
  framesIn(bytes)
    .filter(({ type }) => TOLD.has(type))
    .map(({ type, payload }) => `${type} ${toHex(payload)}`);

async function settle(): Promise<void> {
  for (let i = 0; i < 30; i++) await new Promise((resolve) => setImmediate(resolve));
}

test.each(RECORDINGS)("our relay tells the recorded clients of %s what the stock relay told them", async (name) => {
  const entries = readRecording(name);
  const opened = ofKind(entries, "derp");
  const clock = new FakeClock();
  const server = new DerpServer({
    privateKey: fromHex(opened[0]!.server)!,
    random: seededRandom(3),
    clock,
    log: silentLog,
    admit: () => true,
  });
  onTestFinished(() => server.close());
  const http = createServer();
  server.attach(http);
  const sides = new Map<number, { stream: Duplex; got: Uint8Array }>();
  for (const entry of entries) {
    if ("at" in entry) clock.advance(Math.max(0, entry.at - clock.now()));
    if (entry.kind === "derp") {
      const [ours, theirs] = duplexPair();
      const side = { stream: ours, got: new Uint8Array(0) as Uint8Array };
      ours.on("error", () => {});
      ours.on("data", (chunk: Buffer) => {
        side.got = concatBytes(side.got, new Uint8Array(chunk));
      });
      sides.set(entry.id, side);
      http.emit("connection", theirs);
    }
    const side = entry.kind === "bytes" || entry.kind === "end" ? sides.get(entry.id) : undefined;
    if (side === undefined) continue;
    if (entry.kind === "bytes" && entry.way === "up") side.stream.write(Buffer.from(entry.bytes, "base64"));
    if (entry.kind === "end" && entry.way === "up") side.stream.destroy();
    await settle();
  }
  for (const one of opened) {
    const { head, rest } = headOf(sides.get(one.id)!.got)!;
    expect(head).toMatch(/^HTTP\/1\.1 101 .*\r\nUpgrade: DERP/i);
    expect(told(rest)).toEqual(told(streamOf(entries, one, "down")));
    const [serverKey, serverInfo] = framesIn(rest);
    expect(decodeDerpServerKey(serverKey!.payload)).toEqual(publicKeyOf(fromHex(one.server)!));
    // The recorded client could read it.
    const box = boxKey(fromHex(one.node)!, publicKeyOf(fromHex(one.server)!))!;
    const { payload } = serverInfo!;
    const info = openBox(box, payload.subarray(0, BOX_NONCE_BYTES), payload.subarray(BOX_NONCE_BYTES));
    expect(decodeDerpInfo(info!)).toMatchObject({ version: 2 });
  }
});

test.each(CONNECTIONS)("our client gets from the stock relay of %s what the stock client got", async (name, one) => {
  const entries = readRecording(name);
  const down = streamOf(entries, one, "down");
  const [near, far] = duplexPair();
  const got: string[] = [];
  const closed: string[] = [];
  let ready = 0;
  const client = new DerpClient({
    stream: near,
    nodePrivateKey: fromHex(one.node)!,
    random: seededRandom(4),
    clock: new FakeClock(),
    onReady: () => void ready++,
    onPacket: (source, payload) => void got.push(`${DERP.receivePacket} ${toHex(source)}${toHex(payload)}`),
    onPeerGone: (key) => void got.push(`${DERP.peerGone} ${toHex(key)}`),
    onClose: (fault) => void closed.push(fault.message),
  });
  onTestFinished(() => client.close());
  let said: Uint8Array = new Uint8Array(0);
  far.on("data", (chunk: Buffer) => {
    said = concatBytes(said, new Uint8Array(chunk));
  });
  for (let at = 0; at < down.length; at += 100) far.write(down.subarray(at, at + 100));
  await settle();
  expect([ready, closed]).toEqual([1, []]);
  const reasonCut = (line: string) => (line.startsWith(`${DERP.peerGone} `) ? line.slice(0, 66) : line);
  const wanted = told(down).filter((line) => !line.startsWith(`${DERP.pong} `));
  expect(got).toEqual(wanted.map(reasonCut));
  // What the recorded client said of itself, and what ours says, under the relay's key.
  const box = boxKey(fromHex(one.server)!, publicKeyOf(fromHex(one.node)!))!;
  const infoOf = ({ payload }: Frame) => {
    const sealed = payload.subarray(DERP_KEY_BYTES);
    const plain = openBox(box, sealed.subarray(0, BOX_NONCE_BYTES), sealed.subarray(BOX_NONCE_BYTES));
    return decodeDerpInfo(plain!);
  };
  const [ours] = framesIn(said);
  const [stock] = framesIn(streamOf(entries, one, "up"));
  expect(infoOf(ours!)).toEqual(infoOf(stock!));
});

test("what one recorded client sent through the stock relay, the other got", () => {
  const entries = readRecording("life-1.103.0");
  const opened = ofKind(entries, "derp");
  const sent = opened.flatMap((one) => {
    const from = toHex(publicKeyOf(fromHex(one.node)!));
    return framesIn(streamOf(entries, one, "up"))
      .filter(({ type }) => type === DERP.sendPacket)
      .map(({ payload }) => `${from} ${toHex(payload.subarray(DERP_KEY_BYTES))}`);
  });
  const got = opened.flatMap((one) =>
    framesIn(streamOf(entries, one, "down"))
      .filter(({ type }) => type === DERP.receivePacket)
      .map(({ payload }) => `${toHex(payload.subarray(0, DERP_KEY_BYTES))} ${toHex(payload.subarray(DERP_KEY_BYTES))}`),
  );
  expect(got.length).toBeGreaterThan(5);
  for (const packet of got) expect(sent).toContain(packet);
});
