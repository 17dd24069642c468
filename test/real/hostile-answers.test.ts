import { afterEach, expect, test } from "vitest";
import { closeScenes, GATE, onHeads, proxyScene, rawBackend, read, webConfig } from "../suites/proxy-scene.ts";
import { type Numbers, numbers, pick, spoiled } from "./request-streams.ts";

afterEach(closeScenes);

/** `SALLYPORT_FUZZ`: how many times more, and others, each time or of that `SALLYPORT_SEED`. */
const TIMES = Number(process.env["SALLYPORT_FUZZ"] ?? 0);
const SEED = Number(process.env["SALLYPORT_SEED"] ?? (TIMES === 0 ? 20_261_121 : Date.now() & 0x7fffffff));
const ANSWERS = 1200 * Math.max(1, TIMES);
const LANES = 12;
/** Requests of one caller's connection, one behind the other without waiting. */
const AT_ONCE = 4;
/** A backend that has said all that it will say closes. */
const PATIENCE_MS = 15;

/** In the body of an answer: to be nobody's. */
const inner = (mark: string): string => `HTTP/1.1 200 OK\r\nX-Mark: ${mark}\r\nContent-Length: 4\r\n\r\nevil`;
const FIELDS = [
  "Connection: close",
  "Connection: keep-alive",
  "Trailer: X-T",
  "Set-Cookie: a=b",
  "Location: /x",
  "X: \x85",
];
const BEFORE = [
  "HTTP/1.1 100 Continue\r\n\r\n",
  "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n",
  "HTTP/1.1 102 x\r\n\r\n",
];
const STATUSES = [
  "200 OK",
  "200 OK",
  "200 OK",
  "404 Not Found",
  "204 No Content",
  "304 Not Modified",
  "205 x",
  "101 x",
];

/** An answer in order, mostly; `mark` says whose it is. */
function answer(mark: string, next: Numbers): string {
  const evil = inner(mark);
  const body = pick(["", mark, evil, `${mark}\r\n\r\n${evil}`, `0\r\n\r\n${evil}`, "x".repeat(300)], next);
  const version = next(8) === 0 ? "HTTP/1.0" : "HTTP/1.1";
  const head = `${next(8) === 0 ? pick(BEFORE, next) : ""}${version} ${pick(STATUSES, next)}\r\nX-Mark: ${mark}\r\n`;
  const more = next(3) === 0 ? `${pick(FIELDS, next)}\r\n` : "";
  if (next(3) === 0) {
    const chunk = body === "" ? "" : `${body.length.toString(16)}${next(4) === 0 ? ";a=b" : ""}\r\n${body}\r\n`;
    const trailer = next(4) === 0 ? "X-T: y\r\n" : "";
    return `${head}${more}Transfer-Encoding: chunked\r\n\r\n${chunk}0\r\n${trailer}\r\n`;
  }
  const length = next(8) === 0 ? "" : `Content-Length: ${body.length}\r\n`;
  return `${head}${more}${length}\r\n${body}`;
}

interface Answer {
  readonly head: string;
  readonly body: string;
  readonly isWhole: boolean;
}

const FINAL = /^HTTP\/1\.1 [2-5]\d\d [^\r\n\0]*\r\n(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+: ?[^\r\n\0]*\r\n)*\r\n/;
const INTERIM = /^HTTP\/1\.1 1\d\d [^\r\n\0]*\r\n(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+: ?[^\r\n\0]*\r\n)*\r\n/;

/** What a caller reads who takes nothing but what RFC 9112 has it; the methods in the order of asking. */
function answersIn(text: string, methods: readonly string[]): Answer[] {
  const found: Answer[] = [];
  for (let at = 0; at < text.length; ) {
    const rest = text.slice(at);
    const interim = INTERIM.exec(rest);
    if (interim !== null) {
      at += interim[0].length;
      continue;
    }
    const head = FINAL.exec(rest)?.[0];
    expect(head, `no answer: ${JSON.stringify(rest)} of ${JSON.stringify(text)}`).toBeDefined();
    const { body, length } = bodyOf(rest.slice(head!.length), head!, methods[found.length] ?? "none");
    found.push({ head: head!, body, isWhole: length !== undefined });
    at += head!.length + (length ?? text.length);
  }
  return found;
}

function bodyOf(text: string, head: string, method: string): { body: string; length: number | undefined } {
  const lengths = [...head.matchAll(/\r\ncontent-length: (\d+)(?=\r\n)/gi)];
  const isChunked = /\r\ntransfer-encoding: chunked\r\n/i.test(head);
  expect(lengths.length + (isChunked ? 1 : 0), head).toBeLessThanOrEqual(1);
  if (method === "HEAD" || /^HTTP\/1\.1 [23]04 /.test(head)) return { body: "", length: 0 };
  if (!isChunked) {
    // Without either it lasts until the end, and only a connection that closes says so.
    if (lengths.length === 0) expect(head).toMatch(/\r\nconnection: close\r\n/i);
    const length = Number(lengths[0]?.[1] ?? text.length);
    return { body: text.slice(0, length), length: text.length < length ? undefined : length };
  }
  const whole = /^(?:([0-9a-f]+)\r\n)/i;
  let body = "";
  for (let at = 0; ; ) {
    const line = whole.exec(text.slice(at, at + 20));
    if (line === null) return { body, length: undefined };
    const size = Number.parseInt(line[1]!, 16);
    at += line[0].length;
    if (size === 0) {
      const trailers = /^(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+: ?[^\r\n\0]*\r\n)*\r\n/.exec(text.slice(at));
      return { body, length: trailers === null ? undefined : at + trailers[0].length };
    }
    body += text.slice(at, at + size);
    at += size + 2;
    if (at > text.length) return { body, length: undefined };
  }
}

test(`H1-20, H1-4: ${ANSWERS} spoiled answers: every caller gets answers to what it asked, in order, each of one meaning`, {
  timeout: 60_000 * Math.max(1, TIMES),
}, async () => {
  const said = new Map<string, string>();
  const backend = await rawBackend((socket) =>
    onHeads(socket, (head) => {
      const mark = /^\w+ \/(\S+)/.exec(head)?.[1] ?? "";
      if (mark.startsWith("good")) {
        const good = `HTTP/1.1 200 OK\r\nX-Mark: ${mark}\r\nContent-Length: 4\r\n\r\ngood`;
        said.set(mark, good);
        return void socket.write(good);
      }
      const next = numbers(SEED + Number(mark.replace(/\D/g, "")) * 7919);
      for (let warm = 0; warm < 4; warm++) next(2);
      const text = spoiled(answer(mark, next), next(4), next);
      said.set(mark, text);
      // In one piece: what comes after an answer, later than it, is an answer to the next request to anybody.
      socket.write(text, "latin1");
      setTimeout(() => socket.end(), PATIENCE_MS);
    }),
  );
  const scene = proxyScene(webConfig({ "/": { Proxy: `http://127.0.0.1:${backend.port}` } }));
  const counts = { whole: 0, good: 0 };

  const ask = async (marks: readonly string[], methods: readonly string[], by: string): Promise<Answer[]> => {
    const client = scene.connect(80, by);
    const heads = marks.map((mark, i) => `${methods[i]} /${mark} HTTP/1.1\r\nHost: ${GATE}\r\n`);
    client.write(`${heads.join("\r\n")}Connection: close\r\n\r\n`);
    const { text } = await read(client);
    const told = `seed ${SEED}: ${marks.map((mark) => JSON.stringify(said.get(mark))).join("\n")}\ngave ${JSON.stringify(text)}`;
    const found = answersIn(text, methods);
    expect(found.length, told).toBeLessThanOrEqual(marks.length);
    for (const [i, { head, body, isWhole }] of found.entries()) {
      const own = said.get(marks[i]!) ?? "";
      for (const mark of `${head}${body}`.match(/\b(?:m|good)\d+z/g) ?? [])
        expect(own.includes(mark), `${mark}, ${told}`).toBe(true);
      if (isWhole) counts.whole++;
    }
    return found;
  };

  let asked = 0;
  await Promise.all(
    Array.from({ length: LANES }, async (_, lane) => {
      const next = numbers(SEED + lane);
      while (asked < ANSWERS) {
        const marks = Array.from({ length: AT_ONCE }, () => `m${asked++}z`);
        const methods = marks.map(() => pick(["GET", "GET", "GET", "HEAD", "DELETE", "OPTIONS"], next));
        await ask(marks, methods, `lane${lane}`);
        const [good] = await ask([`good${asked}z`], ["GET"], `lane${lane}`);
        expect(good?.head).toMatch(/^HTTP\/1\.1 200 /);
        expect(good?.body).toBe("good");
        counts.good++;
      }
    }),
  );
  expect(counts.good).toBeGreaterThanOrEqual(ANSWERS / AT_ONCE);
  expect(counts.whole).toBeGreaterThan(ANSWERS / 2);
});
