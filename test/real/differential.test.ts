import { setImmediate as turn } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { closeScenes, GATE, read } from "../suites/proxy-scene.ts";
import { Books } from "./books.ts";
import { ECHO, ECHOES, tidied } from "./echo-line.ts";
import { type EchoServer, type EchoServerKind, echoServers } from "./echo-servers.ts";
import { type Lane, laneBefore, type Sent } from "./gate-tap.ts";
import { http2Answers } from "./http2-player.ts";
import { http2Request } from "./http2-requests.ts";
import { type Numbers, numbers, pieces, stream } from "./request-streams.ts";

afterEach(closeScenes);

/** `SALLYPORT_FUZZ`: how many times more streams, and others, each time or of that `SALLYPORT_SEED`. */
const TIMES = Number(process.env["SALLYPORT_FUZZ"] ?? 0);
const SEED = Number(process.env["SALLYPORT_SEED"] ?? (TIMES === 0 ? 20_261_121 : Date.now() & 0x7fffffff));
/** Side by side, each with a gate of its own. */
const LANES = TIMES === 0 ? 4 : 16;
/** Of a lane, until what was sent and what was logged are compared. */
const BATCH = TIMES === 0 ? 4 : 16;
/** Of one connection that speaks HTTP/2. */
const REQUESTS = 6;
const STREAMS = 64 * Math.max(1, TIMES);

/** Whatever a stream leaves open, some of these close it: a head, a body that is not whole, or nothing. */
const LAST = `GET /?last HTTP/1.1\r\nHost: ${GATE}\r\nConnection: close\r\n\r\n`.repeat(8);
const STILL_MS = 100;

/** Plays one stream to its end: what was answered with a line of the server's. */
async function echoesOf(lane: Lane, isVisitor: boolean, parts: readonly string[]): Promise<string[]> {
  const client = isVisitor ? lane.visit(80) : lane.connect(80);
  let heard = 0;
  client.on("data", () => heard++);
  const done = read(client);
  for (const part of parts.slice(0, -1)) {
    if (!client.writable) break;
    client.write(part, "latin1");
    await turn();
  }
  if (client.writable) client.write(parts.at(-1)! + LAST, "latin1");
  let before = -1;
  // A length that is far off waits for more: no answer to miss there.
  let still = 0;
  const watch = setInterval(() => {
    if (heard === before) client.end();
    if (still++ > 20) client.destroy(); // for a backend that thinks for ever
    before = heard;
  }, STILL_MS);
  const { text } = await done;
  clearInterval(watch);
  return [...text.matchAll(ECHOES)].map((match) => match[1]!);
}

/** One caller's doings on a lane: the lines that it was answered with, and what it had sent, for people. */
type Play = (
  lane: Lane,
  mark: string,
  next: Numbers,
  isVisitor: boolean,
) => Promise<{ echoes: string[]; told: unknown }>;

const playStream: Play = async (lane, mark, next, isVisitor) => {
  const told = stream(mark, GATE, next);
  return { echoes: await echoesOf(lane, isVisitor, pieces(told, next)), told };
};

const playHttp2: Play = async (lane, mark, next, isVisitor) => {
  const told = Array.from({ length: REQUESTS }, (_, i) => http2Request(`${mark}-${i}`, GATE, next));
  const bodies = await http2Answers(lane, isVisitor, told);
  // An answer of our own is no line.
  return { echoes: bodies.filter((body) => ECHO.test(body)), told };
};

/** A part of a lane's streams; answers are to what was sent on for the very stream. */
async function batchOf(lane: Lane, kind: EchoServerKind, play: Play, marks: Iterator<string>): Promise<Sent[]> {
  const found: Sent[] = [];
  for (let i = 0; i < BATCH; i++) {
    const { value: mark } = marks.next();
    const next = numbers(SEED + Number(mark.slice(1)) * 7919);
    for (let warm = 0; warm < 4; warm++) next(2);
    const { echoes, told } = await play(lane, mark, next, next(2) === 0);
    const sent = lane.sent();
    const lines = new Set(sent.map(({ line }) => line));
    const others = echoes.filter((line) => !lines.has(tidied(line, kind.quirks)));
    if (others.length > 0) {
      const what = `${kind.name}, seed ${SEED}, ${mark}: ${JSON.stringify(told)}\nsent ${JSON.stringify([...lines])}`;
      expect(others, what).toEqual([]);
    }
    found.push(...sent);
  }
  return found;
}

function* marked(): Generator<string> {
  for (let i = 0; ; i++) yield `s${i}`;
}

/** No more and no other requests at the server than were sent on to it. */
async function differential(kind: EchoServerKind, server: EchoServer, play: Play, streams: number): Promise<Books> {
  const lanes = Array.from({ length: LANES }, () => laneBefore(server.port, kind.quirks));
  const books = new Books(kind, server);
  const marks = marked();
  for (let done = 0; done < streams; done += LANES * BATCH) {
    const sent = await Promise.all(lanes.map((lane) => batchOf(lane, kind, play, marks)));
    const unknown = await books.compare(sent.flat());
    expect(unknown, `${kind.name}, seed ${SEED}, before s${done + LANES * BATCH}`).toEqual([]);
  }
  return books;
}

describe.each(echoServers())("$name", (kind) => {
  const { name, missing } = kind;
  const title = missing === undefined ? name : `${name} (not installed: ${missing})`;
  const options = { timeout: 60_000 * Math.max(1, TIMES), skip: missing !== undefined };
  let server: EchoServer;
  beforeAll(async () => {
    if (missing === undefined) server = await kind.open();
  });
  afterAll(() => server?.close());

  test(
    `H1-4 ${title} reads what we send on as the requests that we let in, no more and no others`,
    options,
    async () => {
      const { whole, logged } = await differential(kind, server, playStream, STREAMS);
      expect(whole).toBeGreaterThan(STREAMS / 2);
      expect(logged / whole, "what a server refuses is not logged").toBeGreaterThan(0.5);
    },
  );

  test(
    `H2-7 ${title} reads what came by HTTP/2 as the requests that we let in, no more and no others`,
    options,
    async () => {
      const { whole, logged } = await differential(kind, server, playHttp2, STREAMS / 4);
      expect(whole).toBeGreaterThan(STREAMS / 4);
      expect(logged / whole, "what a server refuses is not logged").toBeGreaterThan(0.5);
    },
  );
});
