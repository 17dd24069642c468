import tls from "node:tls";
import { afterEach, beforeAll, expect, test } from "vitest";
import {
  certificateOf,
  closeScenes,
  GATE,
  proxyScene,
  rawBackend,
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
import { fieldLines, type RecordingBackend, recordingBackend } from "../../../test/suites/recording-backend.ts";

const WAIT = { timeout: 20_000, interval: 2 };
const PADDED = 8;
const PRIORITY = 0x20;

let context: tls.SecureContext;
beforeAll(async () => {
  context = tls.createSecureContext(await certificateOf(GATE));
});
afterEach(closeScenes);

async function stage(): Promise<{ backend: RecordingBackend; connect(nodeKey?: string): RawPeer }> {
  const backend = await recordingBackend();
  const handlers = { "/": { Proxy: `http://127.0.0.1:${backend.port}` } };
  const scene = proxyScene(webConfig(handlers), { secureContext: () => context });
  return { backend, connect: (nodeKey) => RawPeer.overTls(scene.connect(443, nodeKey)) };
}

/** What came of stream 1 or of its connection: `closed`, `reset`, or a status of the static table (RFC 7541 appendix A). */
async function outcome(peer: RawPeer): Promise<string> {
  const ofStream = () => peer.frames.filter(({ stream }) => stream === 1);
  await peer.until(() => ofStream().some(({ type, flags }) => type === FRAME.reset || (flags & END_STREAM) !== 0));
  const reset = ofStream().find(({ type }) => type === FRAME.reset);
  const head = ofStream().find(({ type }) => type === FRAME.headers);
  if (head !== undefined) return STATUSES.get(head.payload[0]!) ?? `0x${head.payload.toString("hex").slice(0, 12)}`;
  return reset === undefined ? "closed" : "reset";
}

const STATUSES: ReadonlyMap<number, string> = new Map([
  [0x88, "200"],
  [0x8c, "400"],
  [0x8d, "404"],
]);

const GET = requestBlock("GET", GATE, "/x");
const POST = requestBlock("POST", GATE, "/x");
const OK = "200";
const CLOSED = "closed";
const RESET = "reset";
const both = (...frames: Buffer[]): Buffer => Buffer.concat(frames);
const bytes = (...list: number[]): Buffer => Buffer.from(list);
const ask = (block = GET, id = 1): Buffer => frame(FRAME.headers, END_HEADERS | END_STREAM, id, block);
const open = (id = 1): Buffer => frame(FRAME.headers, END_HEADERS, id, POST);
const data = (text: string, id = 1): Buffer => frame(FRAME.data, END_STREAM, id, Buffer.from(text));
const set = (id: number, value: number): Buffer => frame(FRAME.settings, 0, 0, both(bytes(0, id), uint32(value)));
const headers = (flags: number, payload: Buffer, id = 1): Buffer => frame(FRAME.headers, flags, id, payload);
const END = END_HEADERS | END_STREAM;
const more = (flags: number, payload: Buffer, id = 1): Buffer => frame(FRAME.continuation, flags, id, payload);

/** What h2spec asks about, and what servers got wrong before, by section of RFC 9113. */
const FRAMES: readonly (readonly [section: string, what: string, sent: Buffer, wanted: string])[] = [
  ["3.4", "a request right behind the preface", ask(), OK],
  ["4.1", "a frame of a type that nobody knows", both(frame(0xbe, 0xff, 0, Buffer.alloc(9)), ask()), OK],
  ["4.1", "the reserved bit", both(frame(FRAME.ping, 0, 0x80000000, Buffer.alloc(8)), ask()), OK],
  ["4.2", "a frame above our largest", headers(END, Buffer.alloc(16_385)), CLOSED],
  ["4.3", "an index that is not in the table", ask(both(GET, bytes(0xff, 0x80, 0x01))), CLOSED],
  ["4.3", "a field that breaks off", ask(both(GET, bytes(0x00, 0x05, 0x61))), CLOSED],
  ["4.3", "Huffman padding of zeros", ask(both(GET, bytes(0x00, 0x81, 0x18, 0x00))), CLOSED],
  ["4.3", "an integer without end", ask(both(GET, bytes(0x7f, ...Array<number>(16).fill(0xff)))), CLOSED],
  ["4.3", "a table larger than we allow", ask(both(bytes(0x3f, 0xe2, 0xff, 0x7f), GET)), CLOSED],
  ["4.3", "fields in two parts", both(headers(END_STREAM, GET.subarray(0, 9)), more(END_HEADERS, GET.subarray(9))), OK],
  [
    "4.3",
    "another frame between them",
    both(headers(END_STREAM, GET), frame(FRAME.ping, 0, 0, Buffer.alloc(8))),
    CLOSED,
  ],
  ["4.3", "another stream between them", both(headers(END_STREAM, GET), more(END_HEADERS, bytes(), 3)), CLOSED],
  ["5.1", "DATA of a stream that was never open", data("x"), CLOSED],
  ["5.1", "RST_STREAM of one", frame(FRAME.reset, 0, 1, uint32(8)), CLOSED],
  ["5.1", "WINDOW_UPDATE of one", frame(FRAME.windowUpdate, 0, 1, uint32(8)), CLOSED],
  ["5.1", "CONTINUATION of nothing", more(END_HEADERS, GET), CLOSED],
  ["5.1.1", "an even stream", ask(GET, 2), CLOSED],
  ["5.1.1", "stream 0", ask(GET, 0), CLOSED],
  ["5.3", "a PRIORITY ahead of its stream", both(frame(FRAME.priority, 0, 1, bytes(0, 0, 0, 0, 9)), ask()), OK],
  ["5.3", "a request with a priority", headers(END | PRIORITY, both(bytes(0, 0, 0, 0, 9), GET)), OK],
  ["6.1", "DATA of stream 0", data("x", 0), CLOSED],
  ["6.1", "DATA with padding", both(open(), frame(FRAME.data, END_STREAM | PADDED, 1, bytes(2, 0x68, 0x69, 0, 0))), OK],
  ["6.1", "padding longer than its frame", both(open(), frame(FRAME.data, PADDED, 1, bytes(9, 0, 0))), CLOSED],
  ["6.2", "fields with padding", headers(END | PADDED, both(bytes(2), GET, bytes(0, 0))), OK],
  ["6.2", "padding longer than the fields", headers(END | PADDED, both(bytes(255), GET)), CLOSED],
  ["6.4", "RST_STREAM of stream 0", frame(FRAME.reset, 0, 0, uint32(8)), CLOSED],
  ["6.4", "RST_STREAM of three bytes", both(open(), frame(FRAME.reset, 0, 1, Buffer.alloc(3))), CLOSED],
  ["6.5", "SETTINGS of a stream", frame(FRAME.settings, 0, 1), CLOSED],
  ["6.5", "SETTINGS of five bytes", frame(FRAME.settings, 0, 0, Buffer.alloc(5)), CLOSED],
  ["6.5", "an acknowledgement that says something", frame(FRAME.settings, 1, 0, Buffer.alloc(6)), CLOSED],
  ["6.5.2", "push neither on nor off", set(2, 2), CLOSED],
  ["6.5.2", "a window above 2^31 - 1", set(4, 0x80000000), CLOSED],
  ["6.5.2", "frames below 16,384 bytes", set(5, 16_383), CLOSED],
  ["6.5.2", "a setting that nobody knows", both(set(0xfe, 1), ask()), OK],
  ["6.6", "a push by the client", frame(FRAME.pushPromise, END_HEADERS, 1, both(uint32(2), GET)), CLOSED],
  ["6.7", "PING of a stream", frame(FRAME.ping, 0, 1, Buffer.alloc(8)), CLOSED],
  ["6.7", "PING of six bytes", frame(FRAME.ping, 0, 0, Buffer.alloc(6)), CLOSED],
  ["6.8", "GOAWAY of a stream", frame(FRAME.goAway, 0, 1, Buffer.alloc(8)), CLOSED],
  ["6.9", "a window that grows by nothing", frame(FRAME.windowUpdate, 0, 0, uint32(0)), CLOSED],
  ["6.9", "WINDOW_UPDATE of three bytes", frame(FRAME.windowUpdate, 0, 0, Buffer.alloc(3)), CLOSED],
  ["6.9.1", "a connection's window above 2^31 - 1", frame(FRAME.windowUpdate, 0, 0, uint32(0x7fffffff)), CLOSED],
  ["6.9.1", "a window of nothing, then enough", both(set(4, 0), ask(), set(4, 9)), OK],
  ["8.1", "a second head without an end", both(open(), headers(END_HEADERS, fieldBlock([["a", "b"]]))), RESET],
  [
    "8.1.1",
    "a body longer than its length",
    both(headers(END_HEADERS, both(POST, fieldBlock([["content-length", "1"]]))), data("xx")),
    CLOSED,
  ],
];

test.each(FRAMES)("H2-1 (RFC 9113 section %s): %s", async (_section, _what, sent, wanted) => {
  const { connect } = await stage();
  const peer = connect();
  peer.send(opening(), sent);
  expect(await outcome(peer)).toBe(wanted);
});

test.each([
  ["another preface", Buffer.from("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n")],
  ["a request of HTTP/1.1", Buffer.from(`GET / HTTP/1.1\r\nHost: ${GATE}\r\n\r\n`)],
  ["a preface without SETTINGS", both(opening().subarray(0, 24), ask())],
  ["SETTINGS that break off", opening().subarray(0, 30)],
])("H2-1 (RFC 9113 section 3.4): %s opens nothing", async (_, sent) => {
  const { backend, connect } = await stage();
  const peer = connect();
  peer.send(sent);
  peer.stream.end();
  await peer.over();
  expect(peer.frames.filter(({ stream }) => stream !== 0)).toEqual([]);
  expect(backend.requests).toEqual([]);
});

test("H2-1: a caller that ends its side has left: its connection ends, and what it asked the backend is cancelled", async () => {
  const backend = await rawBackend((socket) => void socket.resume());
  const scene = proxyScene(webConfig({ "/": { Proxy: `http://127.0.0.1:${backend.port}` } }));
  const peer = RawPeer.overTls(scene.connect(443));
  peer.send(opening(), ask(), open(3));
  await expect.poll(() => backend.connections.length, WAIT).toBe(2);
  peer.stream.end();
  await peer.closed();
  await expect.poll(() => backend.connections.every(({ destroyed }) => destroyed), WAIT).toBe(true);
});

/** What a caller says in a few frames, a byte here and there otherwise than it should be. */
function mutated(round: number): Buffer {
  const said = both(
    open(),
    frame(FRAME.data, 0, 1, Buffer.from("body")),
    ask(GET, 3),
    data("end"),
    set(4, 99),
    ask(GET, 5),
  );
  let state = round + 1;
  const next = (below: number): number => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0; // the generator of ANSI C
    return (state >>> 8) % below;
  };
  for (let i = 0; i <= round % 4; i++) said[next(said.length)] = next(256);
  return round % 5 === 0 ? said.subarray(0, next(said.length)) : said;
}

test("H2-6: 300 mutations of good frames end at most their connection", async () => {
  const { backend, connect } = await stage();
  for (let round = 0; round < 300; round++) {
    const peer = connect(`peer ${round}`); // who breaks the rules three times gets no more of HTTP/2
    peer.send(opening(), mutated(round));
    await peer.until((frames) => frames.length > 2);
    peer.stream.end();
    await peer.closed();
  }
  for (const request of backend.requests) {
    expect(request).toMatch(/^[!-~]+ \/\S* HTTP\/1\.1\r\nHost: gw\.tail\.test\r\n/);
    expect(request.match(/^tailscale-user-login: alice@example.com\r$/gim)).toHaveLength(1);
  }
  const peer = connect();
  peer.send(opening(), ask());
  expect(await outcome(peer)).toBe(OK);
});

type Field = readonly [name: string, value: string];
const METHOD: Field = [":method", "GET"];
const SCHEME: Field = [":scheme", "https"];
const AUTHORITY: Field = [":authority", GATE];
const PATH: Field = [":path", "/x"];
const PSEUDO: readonly Field[] = [METHOD, SCHEME, AUTHORITY, PATH];

/** RFC 9113 sections 8.2, 8.3 and 8.5, RFC 8441. No backend hears of any. */
const REFUSED: readonly (readonly [what: string, fields: readonly Field[]])[] = [
  ["no method", [SCHEME, AUTHORITY, PATH]],
  ["no scheme", [METHOD, AUTHORITY, PATH]],
  ["no path", [METHOD, SCHEME, AUTHORITY]],
  ["no authority and no host", [METHOD, SCHEME, PATH]],
  ["an empty path", [METHOD, SCHEME, AUTHORITY, [":path", ""]]],
  ["a path without a slash", [METHOD, SCHEME, AUTHORITY, [":path", "x"]]],
  ["a path with a fragment", [METHOD, SCHEME, AUTHORITY, [":path", "/x#y"]]],
  ["a path that is another URL", [METHOD, SCHEME, AUTHORITY, [":path", "http://evil/x"]]],
  ["a path with a blank", [METHOD, SCHEME, AUTHORITY, [":path", "/x HTTP/1.1"]]],
  ["an asterisk for a GET", [METHOD, SCHEME, AUTHORITY, [":path", "*"]]],
  ["two methods", [METHOD, ...PSEUDO]],
  ["two schemes", [SCHEME, ...PSEUDO]],
  ["two authorities", [AUTHORITY, ...PSEUDO]],
  ["two paths", [PATH, ...PSEUDO]],
  ["a pseudo-field that nobody knows", [...PSEUDO, [":tailscale-user-login", "evil@example.com"]]],
  ["a pseudo-field of answers", [...PSEUDO, [":status", "200"]]],
  ["a pseudo-field behind the others", [METHOD, SCHEME, AUTHORITY, ["x-a", "b"], PATH]],
  ["a method in small letters", [[":method", "trace"], SCHEME, AUTHORITY, PATH]],
  ["a method that is none", [[":method", "GET /"], SCHEME, AUTHORITY, PATH]],
  ["an authority with a user", [METHOD, SCHEME, [":authority", `evil@${GATE}`], PATH]],
  ["an authority with a path", [METHOD, SCHEME, [":authority", `${GATE}/x`], PATH]],
  ["two hosts", [...PSEUDO, ["host", GATE], ["host", GATE]]],
  ["another host than the authority", [...PSEUDO, ["host", "other.tail.test"]]],
  ["a name in capitals", [...PSEUDO, ["X-A", "b"]]],
  ["Connection", [...PSEUDO, ["connection", "x-a"]]],
  ["Proxy-Connection", [...PSEUDO, ["proxy-connection", "close"]]],
  ["Keep-Alive", [...PSEUDO, ["keep-alive", "timeout=5"]]],
  ["Transfer-Encoding", [...PSEUDO, ["transfer-encoding", "chunked"]]],
  ["Upgrade", [...PSEUDO, ["upgrade", "websocket"]]],
  ["TE with more than trailers", [...PSEUDO, ["te", "trailers, deflate"]]],
  ["two lengths", [...PSEUDO, ["content-length", "0"], ["content-length", "0"]]],
  ["a length that is none", [...PSEUDO, ["content-length", "+1"]]],
  ["a length with nothing behind it", [...PSEUDO, ["content-length", "5"]]],
  ["CONNECT", [[":method", "CONNECT"], AUTHORITY]],
  ["CONNECT with a path", [[":method", "CONNECT"], SCHEME, AUTHORITY, PATH]],
  [
    "extended CONNECT, which we do not offer",
    [[":method", "CONNECT"], [":protocol", "websocket"], SCHEME, AUTHORITY, PATH],
  ],
  ["a protocol for a GET", [...PSEUDO, [":protocol", "websocket"]]],
];

test.each(REFUSED)("H2-7, H2-1: a request with %s is refused, and the next one is answered", async (_, fields) => {
  const { backend, connect } = await stage();
  const peer = connect();
  peer.send(opening(), ask(fieldBlock(fields)));
  expect(await outcome(peer)).not.toBe(OK);
  expect(backend.requests).toEqual([]);
  const next = peer.isOver ? connect() : peer;
  next.send(...(next === peer ? [] : [opening()]), ask(GET, 3));
  await next.until((frames) => frames.some(({ stream, type }) => stream === 3 && type === FRAME.data));
  expect(backend.requests).toHaveLength(1);
});

test("H2-7: crumbs of a cookie are one again, `te: trailers` stays, no pseudo-field and no reserved one gets through", async () => {
  const { backend, connect } = await stage();
  const peer = connect();
  const reserved = [
    "tailscale-user-login",
    "tailscale_user_login",
    "x-forwarded-for",
    "x_forwarded_user",
    "tailscale-user-name",
    "sallyport-user",
  ];
  const fields: Field[] = [
    ...PSEUDO,
    ["cookie", "a=1"],
    ["te", "trailers"],
    ["cookie", "b=2"],
    ...reserved.map((name): Field => [name, "evil"]),
    ["cookie", "c=3"],
    ["", "evil"],
    ["host", GATE],
  ];
  peer.send(opening(), ask(fieldBlock(fields)));
  expect(await outcome(peer)).toBe(OK);
  const lines = fieldLines(backend.requests[0]!);
  expect(lines.filter(([name]) => /^(?:cookie|te|host)$/i.test(name))).toEqual(
    expect.arrayContaining([
      ["Host", GATE],
      ["cookie", "a=1; b=2; c=3"],
      ["Te", "trailers"],
    ]),
  );
  expect(lines.filter(([name]) => /^(?:cookie|te|host)$/i.test(name))).toHaveLength(3);
  expect(backend.requests[0]).not.toContain("evil");
  expect(lines.some(([name]) => name.startsWith(":"))).toBe(false);
});

test("H2-7, ID-6: trailers of a request carry nothing to the backend, an identity least of all", async () => {
  const { backend, connect } = await stage();
  const peer = connect();
  const trailers = fieldBlock([
    ["tailscale-user-login", "evil@example.com"],
    ["x-a", "b"],
  ]);
  peer.send(opening(), open(), frame(FRAME.data, 0, 1, Buffer.from("body")), headers(END, trailers));
  expect(await outcome(peer)).toBe(OK);
  expect(backend.requests[0]).toMatch(/\r\n0\r\n\r\n$/);
  expect(backend.requests[0]).not.toContain("evil");
  expect(backend.requests[0]!.match(/^tailscale-user-login: alice@example.com\r$/gim)).toHaveLength(1);
});

test.each([
  [":tailscale-user-login", "evil"],
  [":path", "/y"],
  ["te", "deflate"],
  ["connection", "close"],
])("H2-7: trailers with %s are refused", async (name, value) => {
  const { connect } = await stage();
  const peer = connect();
  peer.send(opening(), open(), headers(END, fieldBlock([[name, value]])));
  expect(await outcome(peer)).not.toBe(OK);
});

test.each([
  ["expects 100-continue", [[":method", "POST"], SCHEME, AUTHORITY, PATH, ["expect", "100-continue"]]],
  ["expects something else", [[":method", "POST"], SCHEME, AUTHORITY, PATH, ["expect", "x"]]],
  ["is for a tunnel", [[":method", "CONNECT"], AUTHORITY]],
  ["is for a method that nobody knows", [[":method", "trace"], SCHEME, AUTHORITY, PATH]],
] as readonly (readonly [string, readonly Field[]])[])(
  "H1-10, H2-6: a request that %s and is taken back in the same packet ends nothing but itself",
  async (_, fields) => {
    const { backend, connect } = await stage();
    const peer = connect();
    const sent = [opening()];
    for (let id = 1; id < 40; id += 2) {
      sent.push(headers(END_HEADERS, fieldBlock(fields), id), frame(FRAME.reset, 0, id, uint32(8)));
    }
    peer.send(...sent);
    peer.send(ask(GET, 41));
    await peer.until((frames) => frames.some(({ stream, type }) => stream === 41 && type === FRAME.data));
    expect(backend.requests.at(-1)).toMatch(/^GET /);
  },
);

test("H1-10: who expects 100-continue is told once that the body is wanted, and 417 for anything else", async () => {
  const { backend, connect } = await stage();
  const peer = connect();
  const expecting = (value: string): Buffer =>
    fieldBlock([[":method", "POST"], SCHEME, AUTHORITY, PATH, ["expect", value]]);
  const heads = () => peer.frames.filter(({ type, stream }) => type === FRAME.headers && stream === 1).length;
  peer.send(opening(), headers(END_HEADERS, expecting("100-continue")));
  await peer.until(() => heads() === 1);
  expect(backend.requests).toEqual([]);
  peer.send(data("body"));
  await peer.until((frames) => frames.some(({ stream, flags }) => stream === 1 && (flags & END_STREAM) !== 0));
  expect(heads()).toBe(2);
  expect(backend.requests[0]).toMatch(/\r\n4\r\nbody\r\n0\r\n\r\n$/);
  peer.send(headers(END_HEADERS, expecting("100-continue, x"), 3));
  await peer.until((frames) => frames.some(({ stream, flags }) => stream === 3 && (flags & END_STREAM) !== 0));
  expect(backend.requests).toHaveLength(1);
});
