import { Duplex } from "node:stream";
import { setImmediate as turn } from "node:timers/promises";
import tls from "node:tls";
import { afterEach, expect, test } from "vitest";
import { certificateOf, closeScenes, GATE, proxyScene, webConfig } from "../../../test/suites/proxy-scene.ts";
import {
  END_HEADERS,
  END_STREAM,
  FRAME,
  frame,
  opening,
  requestBlock,
  uint32,
} from "../../../test/suites/raw-http2.ts";
import { RawPeer } from "../../../test/suites/raw-http2-peer.ts";
import { FakeClock } from "../../base/clock.ts";

afterEach(closeScenes);

const STREAMS = 100;
const BODY_BYTES = 50 * 1024 * 1024;
const CANCEL = 8;
const INITIAL_WINDOW = 4;
/** Once everything that can happen has. */
const QUIET_TURNS = 200;

/** A backend with a large answer; `sent` is what was taken of it. */
class LargeAnswer extends Duplex {
  sent = 0;
  #mayGo = false;

  override _write(_chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.#mayGo = true;
    this.push(`HTTP/1.1 200 OK\r\nContent-Length: ${BODY_BYTES}\r\n\r\n`);
    done();
  }

  override _read(bytes: number): void {
    if (!this.#mayGo) return;
    this.sent += bytes;
    this.push(Buffer.alloc(bytes));
  }
}

interface SlowReader {
  readonly clock: FakeClock;
  readonly backends: LargeAnswer[];
  readonly peer: RawPeer;
}

/** A caller of a hundred large answers, with that window for each. */
async function slowReader(window: number): Promise<SlowReader> {
  const clock = new FakeClock();
  const backends: LargeAnswer[] = [];
  const context = tls.createSecureContext(await certificateOf(GATE));
  const scene = proxyScene(webConfig({ "/": { Proxy: "http://127.0.0.1:1" } }), {
    clock,
    secureContext: () => context,
    dialBackend: () => {
      const made = new LargeAnswer({ readableHighWaterMark: 64 * 1024 });
      backends.push(made);
      return made;
    },
  });
  const peer = RawPeer.overTls(scene.connect(443));
  peer.send(opening([[INITIAL_WINDOW, window]]));
  const block = requestBlock("GET", GATE, "/");
  for (let i = 0; i < STREAMS; i++) peer.send(frame(FRAME.headers, END_HEADERS | END_STREAM, 2 * i + 1, block));
  await peer.until((frames) => frames.filter(({ type }) => type === FRAME.headers).length === STREAMS);
  await quiet(backends);
  return { clock, backends, peer };
}

async function quiet(backends: readonly LargeAnswer[]): Promise<void> {
  const taken = (): number => backends.reduce((sum, { sent }) => sum + sent, 0);
  for (let last = -1, turns = 0; turns < QUIET_TURNS; turns++) {
    if (taken() !== last) turns = 0;
    last = taken();
    await turn();
  }
}

const resetsOf = (peer: RawPeer) =>
  peer.frames.filter(({ type }) => type === FRAME.reset).map(({ payload }) => payload.readUInt32BE(0));

test.each([0, 1])(
  "H2-10: a hundred answers of 50 MiB for windows of %d: the backends are paused, then given up",
  async (window) => {
    const { clock, backends, peer } = await slowReader(window);
    expect(backends).toHaveLength(STREAMS);
    for (const { sent } of backends) expect(sent).toBeLessThanOrEqual(2 * 64 * 1024); // the part that waits, and the backend's own
    clock.advance(50_000);
    await quiet(backends);
    expect(resetsOf(peer)).toEqual([]);
    clock.advance(30_000);
    await peer.until(() => resetsOf(peer).length === STREAMS);
    expect(new Set(resetsOf(peer))).toEqual(new Set([CANCEL]));
    expect(backends.every(({ destroyed }) => destroyed)).toBe(true);
  },
);

test("H2-10: a caller that takes a byte every five seconds has not begun to read; pings are no reading", async () => {
  const { clock, backends, peer } = await slowReader(0);
  for (let i = 0; i < 20; i++) {
    for (let id = 1; id < 2 * STREAMS; id += 2) peer.send(frame(FRAME.windowUpdate, 0, id, uint32(1)));
    peer.send(frame(FRAME.ping, 0, 0, Buffer.alloc(8)));
    await peer.until(
      (frames) => frames.filter(({ type, flags }) => type === FRAME.ping && flags === 1).length === i + 1,
    );
    clock.advance(5000);
  }
  await peer.until(() => resetsOf(peer).length === STREAMS);
  expect(peer.isOver).toBe(false);
  expect(backends.every(({ destroyed }) => destroyed)).toBe(true);
});

test("H2-10: a slow caller that does read goes on: 64 KiB in fifty seconds are enough", async () => {
  const { clock, backends, peer } = await slowReader(0);
  peer.send(frame(FRAME.windowUpdate, 0, 0, uint32(64 * 1024 * 1024)));
  for (let i = 0; i < 6; i++) {
    for (let id = 1; id < 2 * STREAMS; id += 2) peer.send(frame(FRAME.windowUpdate, 0, id, uint32(64 * 1024)));
    await peer.until(
      (frames) =>
        frames.reduce((sum, { type, payload }) => sum + (type === FRAME.data ? payload.length : 0), 0) >=
        (i + 1) * STREAMS * 64 * 1024,
    );
    await quiet(backends);
    clock.advance(50_000);
  }
  expect(resetsOf(peer)).toEqual([]);
  expect(peer.isOver).toBe(false);
});

test("a connection without a request is ended after its idle time, however it pings", async () => {
  const { clock, backends, peer } = await slowReader(0);
  for (let id = 1; id < 2 * STREAMS; id += 2) peer.send(frame(FRAME.reset, 0, id, uint32(CANCEL)));
  await peer.until(() => backends.every(({ destroyed }) => destroyed));
  for (let i = 0; i < 20 && !peer.isOver; i++) {
    clock.advance(5000);
    peer.send(frame(FRAME.ping, 0, 0, Buffer.alloc(8)));
    await turn();
  }
  await peer.over();
  expect(peer.goAway).toBe(0);
  clock.advance(1000);
  await peer.closed();
});
