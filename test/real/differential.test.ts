import { setTimeout as pause, setImmediate as turn } from "node:timers/promises";
import { afterEach, expect, test } from "vitest";
import { closeScenes, GATE, onClose, read } from "../suites/proxy-scene.ts";
import { ECHOES, tidied } from "./echo-line.ts";
import { type EchoServer, type EchoServerKind, echoServers } from "./echo-servers.ts";
import { type Lane, laneBefore, type Sent } from "./gate-tap.ts";
import { numbers, pieces, stream } from "./request-streams.ts";

afterEach(closeScenes);

/** `SALLYPORT_FUZZ`: how many times more streams, and others, each time or of that `SALLYPORT_SEED`. */
const TIMES = Number(process.env["SALLYPORT_FUZZ"] ?? 0);
const SEED = Number(process.env["SALLYPORT_SEED"] ?? (TIMES === 0 ? 20_261_121 : Date.now() & 0x7fffffff));
/** Side by side, each with a gate of its own. */
const LANES = TIMES === 0 ? 4 : 16;
/** Of a lane, until what was sent and what was logged are compared. */
const BATCH = 16;
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

/** What several lanes have sent on to one server, and what it has logged. */
class Books {
  readonly #server: EchoServer;
  readonly #kind: EchoServerKind;
  /** Not logged by the server: it may be late, or have refused it. */
  #open: readonly Sent[] = [];
  whole = 0;
  logged = 0;

  constructor(kind: EchoServerKind, server: EchoServer) {
    this.#kind = kind;
    this.#server = server;
  }

  /** Lines of the log that are of no request that was sent on. */
  async compare(sent: readonly Sent[]): Promise<string[]> {
    const whole = sent.filter(({ isWhole }) => isWhole);
    const all = [...this.#open, ...sent];
    const logged: string[] = [];
    // What was sent last may still be on its way through the server.
    for (let tries = 0; tries < 20; tries++) {
      const more = await this.#server.logged();
      logged.push(...more.map((line) => tidied(line, this.#kind.quirks)));
      if (logged.length >= whole.length) break;
      await pause(2);
    }
    this.whole += whole.length;
    this.logged += logged.length;
    const left = new Map<string, number>();
    for (const { line, isWhole } of all) if (isWhole) left.set(line, (left.get(line) ?? 0) + 1);
    const unknown: string[] = [];
    for (const line of logged) {
      const count = left.get(line) ?? 0;
      if (count > 0) left.set(line, count - 1);
      else if (!isBegun(line, all)) unknown.push(line);
    }
    this.#open = sent;
    return unknown;
  }
}

/** A request whose body was cut may have been taken for done by a server that ends with its connection. */
function isBegun(line: string, sent: readonly Sent[]): boolean {
  const start = line.slice(0, line.lastIndexOf(" ") + 1);
  return sent.some((one) => !one.isWhole && one.line.startsWith(start));
}

async function play(lane: Lane, at: number, kind: EchoServerKind, marks: Iterator<string>): Promise<Sent[]> {
  const found: Sent[] = [];
  for (let i = 0; i < BATCH; i++) {
    const { value: mark } = marks.next();
    const next = numbers(SEED + Number(mark.slice(1)) * 7919);
    for (let warm = 0; warm < 4; warm++) next(2);
    const bytes = stream(mark, GATE, next);
    const told = (): string => `${kind.name}, seed ${SEED}, ${mark}: ${JSON.stringify(bytes)}`;
    const echoes = await echoesOf(lane, (at + i) % 2 === 0, pieces(bytes, next));
    const sent = lane.sent();
    const lines = new Set(sent.map(({ line }) => line));
    const others = echoes.filter((line) => !lines.has(tidied(line, kind.quirks)));
    // Answers are to what was sent on for this very stream.
    if (others.length > 0) expect(others, `${told()}\nsent ${JSON.stringify([...lines])}`).toEqual([]);
    found.push(...sent);
  }
  return found;
}

function* marked(): Generator<string> {
  for (let i = 0; ; i++) yield `s${i}`;
}

for (const kind of echoServers()) {
  const { name, missing } = kind;
  test.skipIf(missing !== undefined)(
    `H1-4 ${name}${missing === undefined ? "" : ` (not installed: ${missing})`} reads what we send on as the requests that we let in, no more and no others`,
    { timeout: 60_000 * Math.max(1, TIMES) },
    async () => {
      const server = await kind.open();
      onClose(() => server.close());
      const lanes = Array.from({ length: LANES }, () => laneBefore(server.port, kind.quirks));
      const books = new Books(kind, server);
      const marks = marked();
      for (let done = 0; done < STREAMS; done += LANES * BATCH) {
        const sent = await Promise.all(lanes.map((lane, at) => play(lane, at, kind, marks)));
        expect(await books.compare(sent.flat()), `${name}, seed ${SEED}, before s${done + LANES * BATCH}`).toEqual([]);
      }
      expect(books.whole).toBeGreaterThan(STREAMS / 2);
      expect(books.logged / books.whole, "what a server refuses is not logged").toBeGreaterThan(0.75);
    },
  );
}
