import { once } from "node:events";
import http2 from "node:http2";
import type { Socket } from "node:net";
import type { Writable } from "node:stream";
import tls from "node:tls";
import { afterEach, expect, test } from "vitest";
import { Gate } from "../../../test/suites/gate.ts";
import type { GateUsage } from "../../../test/suites/gate-process.ts";
import { inParallel } from "../../../test/suites/in-parallel.ts";
import { certificateOf, closeScenes, GATE, onHeads, rawBackend } from "../../../test/suites/proxy-scene.ts";
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

afterEach(closeScenes);

const MIB = 1024 * 1024;
/** On how many connections each; the matrix's 10,000 take minutes. */
const CONNECTIONS = Number(process.env["SALLYPORT_HTTP2_CONNECTIONS"] ?? 100);
const AT_ONCE = 30;
/** Connections that a collection may miss: what the engine has just used. */
const FEW = 5;

async function connected(gate: Gate, settings?: readonly (readonly [id: number, value: number])[]): Promise<RawPeer> {
  const socket = gate.connect(true);
  const secure = tls.connect({ socket, servername: GATE, rejectUnauthorized: false, ALPNProtocols: ["h2"] });
  const peer = new RawPeer(secure);
  await Promise.race([once(secure, "secureConnect"), once(secure, "close")]);
  peer.send(opening(settings));
  return peer;
}

async function each(gate: Gate, count: number, attack: (peer: RawPeer) => Promise<unknown>): Promise<void> {
  await inParallel(count, AT_ONCE, async () => {
    const peer = await connected(gate);
    await attack(peer);
    peer.stream.destroy();
  });
}

const GET = requestBlock("GET", GATE, "/text");
const END = END_HEADERS | END_STREAM;

/** A head in as many frames as it takes. */
function head(id: number, block: Buffer): Buffer {
  const frames: Buffer[] = [];
  for (let at = 0; at < block.length; at += 16_000) {
    const flags = (at === 0 ? END_STREAM : 0) | (at + 16_000 >= block.length ? END_HEADERS : 0);
    frames.push(frame(at === 0 ? FRAME.headers : FRAME.continuation, flags, id, block.subarray(at, at + 16_000)));
  }
  return Buffer.concat(frames);
}

const CONTINUED = frame(
  FRAME.continuation,
  0,
  1,
  Buffer.concat(Array.from({ length: 1000 }, () => fieldBlock([["x", "y"]]))),
);
/** A field of 4,000 bytes that is kept in the table (RFC 7541 section 6.2.1), and how it is named from then on. */
const KEPT = Buffer.concat([Buffer.from([0x40, 1, 0x61, 0x7f, 0xa1, 0x1e]), Buffer.alloc(4000, "a")]);
const NAMED = Buffer.alloc(1024, 0x80 | 62);
const TINY = fieldBlock(Array.from({ length: 10_000 }, () => ["a", ""] as const));

/** What ordinary requests make a process take stays out of the account. */
async function warm(gate: Gate): Promise<GateUsage> {
  await each(gate, AT_ONCE * 2, async (peer) => {
    for (let i = 0; i < 10; i++) peer.send(head(2 * i + 1, GET));
    await peer.until((frames) => frames.filter(({ type }) => type === FRAME.data).length >= 10);
  });
  return gate.empty();
}

const BOMBS: readonly ((index: number) => Buffer)[] = [
  (i) => (i === 0 ? frame(FRAME.headers, END_STREAM, 1, GET) : CONTINUED),
  (i) => head(2 * i + 1, Buffer.concat(i === 0 ? [GET, KEPT, NAMED] : [GET, NAMED])),
  (i) => head(2 * i + 1, Buffer.concat([GET, TINY])),
];

test("H2-4: heads that never end, 4 KiB that name 4 MiB of fields, 10,000 tiny fields: closed, for less than 16 MiB", async () => {
  const gate = await Gate.start("http://127.0.0.1:1");
  const before = await warm(gate);
  for (const bomb of BOMBS) {
    const peer = await connected(gate);
    await peer.flood(1000, bomb);
    await peer.over();
    peer.stream.destroy();
  }
  const { peak } = await gate.empty();
  expect(peak - before.rss).toBeLessThan(16 * MIB);
});

/** So many peers that hardly any has three connections: who breaks the rules that often gets no more of HTTP/2. */
const EACH_ITS_OWN = "60000";

test("H2-6: frames that are none, each on connections of its own: objects are freed, nobody dies", async () => {
  const gate = await Gate.start("http://127.0.0.1:1", "", EACH_ITS_OWN);
  const attacks: readonly Buffer[] = [
    frame(FRAME.headers, END, 1, Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff])),
    frame(FRAME.windowUpdate, 0, 0, uint32(0x7fffffff)),
    Buffer.concat(Array.from({ length: 10 }, (_, type) => frame(type, 0xff, 1, Buffer.alloc(1)))),
  ];
  const run = async (count: number): Promise<void> => {
    for (const attack of attacks) {
      await each(gate, count, async (peer) => {
        peer.send(attack);
        await peer.over();
      });
    }
  };
  await run(100);
  const before = await gate.empty();
  expect(before.held).toBeLessThanOrEqual(FEW);
  await run(CONNECTIONS);
  const after = await gate.empty();
  expect(after.held).toBeLessThanOrEqual(FEW);
  expect(after.rss - before.rss).toBeLessThan(16 * MIB);
  expect(gate.isAlive).toBe(true);
}, 600_000);

const KIB = 1024;
const AT_A_TIME = 100;
/** Until nobody waits any longer for a caller who takes nothing; more than a minute for each window. */
const IS_HELD_TO_ITS_END = process.env["SALLYPORT_HTTP2_STALL"] !== undefined;

test.each([
  ["http", "HTTP/1.1", 64],
  // Each HTTP/1.1 answer by TLS has a TLS connection of its own, which costs that much more when it is open and idle.
  ["https", "HTTP/1.1", 192],
  ["https", "h2", 192],
])(
  "H2-10: a hundred answers of 50 MiB that are not taken cost less than 64 KiB each, %s backend by %s",
  async (scheme, protocol, overNothing) => {
    const part = Buffer.alloc(64 * KIB);
    const { cert, key } = await certificateOf("127.0.0.1");
    let unanswered: (() => void)[] = [];
    let sent = 0;
    const flood = (stream: Writable): void => {
      const more = (): void => {
        do sent += part.length;
        while (stream.write(part));
      };
      stream.on("drain", more);
      more();
    };
    const byHttp1 = (socket: Socket): void =>
      onHeads(socket, () => {
        unanswered.push(() => {
          socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${50 * MIB}\r\n\r\n`);
          flood(socket);
        });
      });
    const byHttp2 = (socket: Socket): void => {
      http2.performServerHandshake(socket).on("stream", (stream) => {
        stream.on("error", () => undefined);
        unanswered.push(() => {
          stream.respond({ ":status": 200, "content-length": 50 * MIB });
          flood(stream);
        });
      });
    };
    const backend = await rawBackend(
      protocol === "h2" ? byHttp2 : byHttp1,
      scheme === "https" ? { cert, key, ALPNProtocols: [protocol.toLowerCase()] } : {},
    );
    const gate = await Gate.start(`${scheme}://127.0.0.1:${backend.port}`, cert);
    const asking = async (count: number, window: number): Promise<RawPeer> => {
      unanswered = [];
      const peer = await connected(gate, [[4, window]]);
      for (let i = 0; i < count; i++) peer.send(frame(FRAME.headers, END, 2 * i + 1, requestBlock("GET", GATE, "/")));
      await expect.poll(() => unanswered.length, { timeout: 60_000, interval: 5 }).toBe(count);
      return peer;
    };
    const resident = async (): Promise<number> => {
      for (let i = 0; i < 3; i++) await gate.usage();
      return (await gate.usage()).rss;
    };
    await warm(gate);
    (await asking(10, 0)).stream.destroy(); // what is loaded to ask a backend at all
    const { rss: nothing } = await gate.empty();
    for (const window of IS_HELD_TO_ITS_END ? [0, 1] : [0, 1, 0, 1]) {
      const peer = await asking(AT_A_TIME, window);
      const open = await resident();
      for (const answer of unanswered) answer();
      await peer.until((frames) => frames.filter(({ type }) => type === FRAME.headers).length === AT_A_TIME);
      const held = await resident();
      let most = held;
      expect(held - nothing).toBeLessThan(AT_A_TIME * overNothing * KIB);
      if (IS_HELD_TO_ITS_END)
        await untilGivenUp(peer, async () => {
          most = Math.max(most, (await gate.usage()).rss);
          return sent;
        });
      expect(most - open).toBeLessThan(AT_A_TIME * 64 * KIB);
      peer.stream.destroy();
      await gate.empty();
    }
  },
  IS_HELD_TO_ITS_END ? 600_000 : 60_000,
);

/** Every stream is closed after a minute, and what the backends could send is the same from the tenth second to the fiftieth. */
async function untilGivenUp(peer: RawPeer, sent: () => Promise<number>): Promise<void> {
  const start = performance.now();
  const seen = new Set<number>();
  const given = async (): Promise<number> => {
    const bytes = await sent();
    const seconds = (performance.now() - start) / 1000;
    if (seconds > 10 && seconds < 50) seen.add(bytes);
    return peer.frames.filter(({ type }) => type === FRAME.reset).length;
  };
  await expect.poll(given, { timeout: 100_000, interval: 1000 }).toBe(AT_A_TIME);
  expect(seen.size).toBe(1);
  expect(performance.now() - start).toBeGreaterThan(50_000);
}
