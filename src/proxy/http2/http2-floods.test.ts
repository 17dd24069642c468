import { Duplex } from "node:stream";
import tls from "node:tls";
import { afterEach, beforeAll, expect, test } from "vitest";
import {
  Connecting,
  certificateOf,
  closeScenes,
  GATE,
  type ProxyScene,
  proxyScene,
  webConfig,
} from "../../../test/suites/proxy-scene.ts";
import {
  END_HEADERS,
  END_STREAM,
  FRAME,
  fieldBlock,
  frame,
  opening,
  requestBlock,
  uint32,
} from "../../../test/suites/raw-http2.ts";
import { RawPeer } from "../../../test/suites/raw-http2-peer.ts";
import { FakeClock } from "../../base/clock.ts";
import type { ProxyEvent } from "../options.ts";
import { Flooders } from "./flooders.ts";

const INTERNAL_ERROR = 2;
const ENHANCE_YOUR_CALM = 11;
const PRIORITY = 0x20;
const ACK = 1;
const CANCEL = uint32(8);

let context: tls.SecureContext;
beforeAll(async () => {
  context = tls.createSecureContext(await certificateOf(GATE));
});
afterEach(closeScenes);

interface Stage extends ProxyScene {
  /** Time stands still: nothing is forgiven. */
  readonly clock: FakeClock;
  readonly events: ProxyEvent[];
  /** Every connection that was opened to the backend, which takes what it is sent and never answers. */
  readonly dialled: Duplex[];
  /** The most of them that were open at a time. */
  mostOpen: number;
  peer(settings?: readonly (readonly [id: number, value: number])[], connect?: ProxyScene["visit"]): RawPeer;
}

/** A backend that is there and takes nothing. */
class Stuck extends Duplex {
  override _read(): void {}
  override _write(): void {}
}

function stage(Backend: new () => Duplex = Connecting): Stage {
  const clock = new FakeClock();
  const events: ProxyEvent[] = [];
  const dialled: Duplex[] = [];
  const handlers = { "/": { Proxy: "http://127.0.0.1:1" }, "/text": { Text: "hello" } };
  const scene = proxyScene(webConfig(handlers), {
    clock,
    secureContext: () => context,
    count: (event) => void events.push(event),
    dialBackend: () => {
      const made = new Backend();
      dialled.push(made);
      staged.mostOpen = Math.max(staged.mostOpen, dialled.filter(({ destroyed }) => !destroyed).length);
      return made;
    },
  });
  const peer: Stage["peer"] = (settings, connect = scene.connect) => {
    const made = RawPeer.overTls(connect(443));
    made.send(opening(settings));
    return made;
  };
  const staged: Stage = Object.assign(scene, { clock, events, dialled, mostOpen: 0, peer });
  return staged;
}

const GET = requestBlock("GET", GATE, "/x");
const POST = requestBlock("POST", GATE, "/x");
const id = (index: number): number => 2 * index + 1;
const ask = (index: number, block = GET): Buffer => frame(FRAME.headers, END_HEADERS | END_STREAM, id(index), block);
const open = (index: number): Buffer => frame(FRAME.headers, END_HEADERS, id(index), POST);
const both = (...frames: Buffer[]): Buffer => Buffer.concat(frames);

test.each([
  ["of that connection alone", () => CANCEL],
  ["that say no error", () => uint32(0)],
  ["of any code", (index: number) => uint32(index % 14)],
])("H2-2: 100,000 requests taken back at once, %s: the backend is left alone, the connection ends", async (_, code) => {
  const made = stage();
  const peer = made.peer();
  const sent = await peer.flood(100_000, (i) => both(ask(i), frame(FRAME.reset, 0, id(i), code(i))));
  await peer.over();
  // A thousand in one read are more than node:http2 bears itself, and it calls that an internal error.
  expect(peer.goAway).toBeOneOf([ENHANCE_YOUR_CALM, INTERNAL_ERROR]);
  expect(sent).toBeLessThan(2000);
  expect(made.mostOpen).toBeLessThanOrEqual(100);
});

test("H2-2: requests taken back a moment later are taken back from the backend too, and few of them make a flood", async () => {
  const made = stage();
  const peer = made.peer();
  for (let i = 0; !peer.isOver; i += 50) {
    const before = made.dialled.length;
    for (let k = i; k < i + 50; k++) peer.send(ask(k));
    await peer.until(() => made.dialled.length >= before + 50);
    for (let k = i; k < i + 50; k++) peer.send(frame(FRAME.reset, 0, id(k), CANCEL));
    await peer.until(() => made.dialled.every(({ destroyed }) => destroyed));
    if (i > 2000) break;
  }
  expect(peer.goAway).toBe(ENHANCE_YOUR_CALM);
  expect(made.dialled.length).toBeLessThan(700);
  expect(made.mostOpen).toBeLessThanOrEqual(100);
  made.clock.advance(1000);
  await peer.closed();
  expect(made.dialled.every(({ destroyed }) => destroyed)).toBe(true);
});

test("H2-2: a caller who leaves a page now and then is no flood, and another one notices nothing of a flood", async () => {
  const made = stage();
  const [calm, wild] = [made.peer(), made.peer()];
  await wild.flood(100_000, (i) => both(ask(i), frame(FRAME.reset, 0, id(i), CANCEL)));
  for (let page = 0; page < 10; page++) {
    const first = page * 60;
    for (let k = first; k < first + 60; k++) calm.send(ask(k), frame(FRAME.reset, 0, id(k), CANCEL));
    made.clock.advance(2000); // thirty a second
  }
  calm.send(ask(5000, requestBlock("GET", GATE, "/text")));
  await calm.until((frames) => frames.some(({ stream, type }) => stream === id(5000) && type === FRAME.data));
  expect(calm.goAway).toBeUndefined();
  expect(wild.isOver).toBe(true);
});

test("H2-2: a page of a hundred requests that is reloaded five times in a second and a half is no flood", async () => {
  const made = stage(Stuck);
  const peer = made.peer();
  const text = requestBlock("GET", GATE, "/text");
  for (let load = 0; load < 5; load++) {
    const first = load * 100;
    for (let k = first; k < first + 100; k++) peer.send(ask(k));
    await peer.until(() => made.dialled.filter(({ destroyed }) => !destroyed).length === 100);
    for (let k = first; k < first + 100; k++) peer.send(frame(FRAME.reset, 0, id(k), CANCEL));
    await peer.until(() => made.dialled.every(({ destroyed }) => destroyed));
    made.clock.advance(300);
  }
  peer.send(ask(5000, text));
  await peer.until((frames) => frames.some(({ stream, type }) => stream === id(5000) && type === FRAME.data));
  expect(peer.goAway).toBeUndefined();
  expect(made.events).toEqual([]);
});

test("H2-2: who floods three times has HTTP/1.1 alone for a minute, and nobody else has", async () => {
  const made = stage();
  const protocolOf = async (nodeKey?: string, offered = ["h2", "http/1.1"]): Promise<string | false | null> => {
    const socket = made.connect(443, nodeKey);
    const secure = tls.connect({ socket, servername: GATE, rejectUnauthorized: false, ALPNProtocols: offered });
    const { promise, resolve } = Promise.withResolvers<string | false | null>();
    secure.once("secureConnect", () => resolve(secure.alpnProtocol));
    secure.once("error", (error) => resolve((error as NodeJS.ErrnoException).code ?? error.message));
    const protocol = await promise;
    secure.destroy();
    return protocol;
  };
  for (let floods = 0; floods < 3; floods++) {
    expect(await protocolOf()).toBe("h2");
    const peer = made.peer();
    await peer.flood(100_000, (i) => both(ask(i), frame(FRAME.reset, 0, id(i), CANCEL)));
    await peer.over();
    made.clock.advance(20_000);
  }
  expect(await protocolOf()).toBe("http/1.1");
  expect(await protocolOf("aa", ["h2"])).toBe("ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL");
  expect(await protocolOf("bb")).toBe("h2");
  made.clock.advance(60_000);
  expect(await protocolOf()).toBe("h2");
});

test("H2-2: of a thousand who flood each is known, and the next one is remembered in place of the first", () => {
  const flooders = new Flooders(new FakeClock());
  for (let i = 0; i <= 1000; i++) for (let floods = 0; floods < 3; floods++) flooders.add(`peer ${i}`);
  expect([0, 1, 1000, 1001].map((i) => flooders.has(`peer ${i}`))).toEqual([false, true, true, false]);
});

test.each<[string, (index: number) => Buffer]>([
  ["a window update by nothing", (i) => both(open(i), frame(FRAME.windowUpdate, 0, id(i), uint32(0)))],
  ["a window that overflows", (i) => both(open(i), frame(FRAME.windowUpdate, 0, id(i), uint32(0x7fffffff)))],
  ["data after the end", (i) => both(ask(i), frame(FRAME.data, 0, id(i), Buffer.from("x")))],
  ["fields after the end", (i) => both(ask(i), ask(i))],
  [
    "trailers that do not end",
    (i) => both(open(i), frame(FRAME.headers, END_HEADERS, id(i), fieldBlock([["a", "b"]]))),
  ],
  ["a PRIORITY of four bytes", (i) => both(open(i), frame(FRAME.priority, 0, id(i), Buffer.alloc(4)))],
  [
    "a request that depends on itself",
    (i) => frame(FRAME.headers, END_HEADERS | END_STREAM | PRIORITY, id(i), both(uint32(id(i)), Buffer.from([1]), GET)),
  ],
  ["a name in capitals", (i) => ask(i, both(GET, fieldBlock([["Upper", "x"]])))],
  [
    "a body that is longer than it said",
    (i) =>
      both(
        frame(FRAME.headers, END_HEADERS, id(i), both(POST, fieldBlock([["content-length", "1"]]))),
        frame(FRAME.data, 0, id(i), Buffer.alloc(9)),
      ),
  ],
  ["more than a hundred at a time", (i) => open(i)],
])("H2-3: %s, again and again: at most 1,000 are borne, and the backend is left alone", async (_, attack) => {
  const made = stage();
  const peer = made.peer();
  const sent = await peer.flood(20_000, attack);
  await peer.over();
  expect(sent).toBeLessThanOrEqual(1000);
  expect(made.mostOpen).toBeLessThanOrEqual(100);
});

test.each<[string, (index: number) => Buffer]>([
  ["SETTINGS", () => frame(FRAME.settings, 0, 0)],
  ["SETTINGS that change a window", (i) => frame(FRAME.settings, 0, 0, both(Buffer.from([0, 4]), uint32(i)))],
  ["SETTINGS that are acknowledged unasked", () => frame(FRAME.settings, ACK, 0)],
  ["PING", () => frame(FRAME.ping, 0, 0, Buffer.alloc(8))],
  ["PING that answers nothing", () => frame(FRAME.ping, ACK, 0, Buffer.alloc(8))],
  ["empty DATA", (i) => (i === 0 ? open(0) : frame(FRAME.data, 0, 1))],
  ["DATA of padding", (i) => (i === 0 ? open(0) : frame(FRAME.data, 8, 1, Buffer.from([3, 0, 0, 0])))],
  ["PRIORITY", (i) => frame(FRAME.priority, 0, id(i), both(uint32(0), Buffer.from([1])))],
  ["WINDOW_UPDATE of the connection", () => frame(FRAME.windowUpdate, 0, 0, uint32(1))],
  ["WINDOW_UPDATE of a request", (i) => (i === 0 ? open(0) : frame(FRAME.windowUpdate, 0, 1, uint32(1)))],
  ["frames of a type that nobody knows", () => frame(0xbe, 0, 0)],
  [
    "RST_STREAM of a stream that is gone",
    (i) => (i === 0 ? both(ask(0), frame(FRAME.reset, 0, 1, CANCEL)) : frame(FRAME.reset, 0, 1, CANCEL)),
  ],
])("H2-5: 100,000 %s end the connection early", async (_, attack) => {
  const made = stage();
  const peer = made.peer();
  const sent = await peer.flood(100_000, attack);
  await peer.over();
  expect(sent).toBeLessThan(10_000);
  made.clock.advance(1000);
  await peer.closed();
  await expect.poll(() => made.events, { timeout: 10_000 }).toEqual(["http2_flood"]);
});

test("H2-5: a peer that pings and never reads costs a bounded heap, and is gone", async () => {
  const made = stage();
  const peer = made.peer();
  peer.stream.pause();
  const ping = Buffer.concat(Array.from({ length: 1000 }, () => frame(FRAME.ping, 0, 0, Buffer.alloc(8))));
  for (let i = 0; i < 100; i++) peer.send(ping);
  for (let turns = 0; made.events.length === 0 && turns < 10_000; turns++) await new Promise(setImmediate);
  expect(made.events).toEqual(["http2_flood"]);
});

test("H2-5: uploads that nobody reads yet, downloads and their window updates, and pings between them are no flood", async () => {
  // The other side of the floods: what browsers and gRPC do.
  const made = stage(Stuck);
  const peer = made.peer();
  for (let i = 0; i < 12; i++) {
    peer.send(open(i));
    for (let part = 0; part < 3; part++) peer.send(frame(FRAME.data, 0, id(i), Buffer.alloc(16 * 1024)));
    peer.send(frame(FRAME.ping, 0, 0, Buffer.alloc(8)), frame(FRAME.windowUpdate, 0, id(i), uint32(1000)));
  }
  const text = requestBlock("GET", GATE, "/text");
  for (let i = 12; i < 312; i++) {
    peer.send(ask(i, text), frame(FRAME.ping, 0, 0, Buffer.alloc(8)), frame(FRAME.windowUpdate, 0, 0, uint32(5)));
    await peer.until((frames) => frames.some(({ stream, type }) => stream === id(i) && type === FRAME.data));
  }
  expect(peer.isOver).toBe(false);
  expect(made.dialled).toHaveLength(12);
});

test.each([
  ["a visitor", 32 * 1024],
  ["a peer", 64 * 1024],
] as const)("H2-11: the settings we send to %s, and our connection's window", async (who, headBytes) => {
  const made = stage();
  const peer = made.peer([], who === "a visitor" ? made.visit : made.connect);
  await peer.until((frames) => frames.some(({ type }) => type === FRAME.windowUpdate));
  const [settings] = peer.frames;
  const sent: Record<number, number> = {};
  for (let at = 0; at < settings!.payload.length; at += 6)
    sent[settings!.payload.readUInt16BE(at)] = settings!.payload.readUInt32BE(at + 2);
  // RFC 9113 section 6.5.2; 8 (extended CONNECT, RFC 8441) and 2 (push, which a server has nothing to say of) are off.
  expect({ 1: 4096, 2: 0, 5: 16_384, 8: 0, ...sent }).toEqual({
    1: 4096,
    2: 0,
    3: 100,
    4: 65_536,
    5: 16_384,
    6: headBytes,
    8: 0,
  });
  const update = peer.frames.find(({ type }) => type === FRAME.windowUpdate)!;
  expect([update.stream, update.payload.readUInt32BE(0) + 65_535]).toEqual([0, 1024 * 1024]);
});
