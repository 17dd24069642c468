/** Streams of requests as a caller of bad will might send them: well-formed ones, changed as HTTP Garden changes its inputs. */

/** Numbers from 0 up to a limit, the same for the same seed (xorshift32). */
export function numbers(seed: number): (limit: number) => number {
  let state = seed | 1;
  return (limit) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % limit;
  };
}

const BODIES = [
  "",
  "hello",
  "0\r\n\r\n",
  "GET /inner?inner HTTP/1.1\r\nHost: x\r\n\r\n",
  "POST /inner?inner HTTP/1.1\r\nHost: x\r\nContent-Length: 30\r\n\r\n",
  "\r\n\r\n\r\n",
  "x".repeat(300),
];
const METHODS = ["GET", "GET", "POST", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"];
const PATHS = ["/", "/a", "/a/b/../c", "/a%2fb", "/%61", "//a", "/a;b=c", "/a%20b"];
const FIELDS = [
  "X: y",
  "Connection: close",
  "Connection: keep-alive, Content-Length",
  "Connection: Transfer-Encoding",
  "Content-Length: 5",
  "Content-Length: 0",
  "Content-Length: 05",
  "Content-length: 5, 5",
  "Transfer-Encoding: chunked",
  "Transfer-Encoding: identity",
  "Transfer-Encoding: gzip, chunked",
  "transfer-encoding:chunked",
  "Transfer-Encoding : chunked",
  "Transfer_Encoding: chunked",
  "Content_Length: 5",
  "TE: trailers",
  "Trailer: X-T",
  "Expect: 100-continue",
  "Upgrade: h2c",
  "Host: evil",
  "Cookie: a=b",
  "Range: bytes=0-1",
  "Keep-Alive: timeout=1",
];
/** What parsers have been seen to disagree about. */
const BITS = [
  ..."\r,\n,\r\n,\0,:,\t, ,\x0b,\x0c,\x85,\xa0,;,0,-,+,_,\r\n\r\n,\r\n ,\n\n,0\r\n\r\n,HTTP/1.1,HTTP/1.0,\xff".split(
    ",",
  ),
  ",",
];

export type Numbers = (limit: number) => number;

const pick = <T>(list: readonly T[], next: Numbers): T => list[next(list.length)]!;

function chunked(body: string, next: Numbers): string {
  let text = "";
  for (let at = 0; at < body.length; ) {
    const size = 1 + next(body.length - at);
    text += `${size.toString(16)}${next(6) === 0 ? ";a=b" : ""}\r\n${body.slice(at, at + size)}\r\n`;
    at += size;
  }
  return `${text}0\r\n${next(6) === 0 ? "X-T: y\r\n" : ""}\r\n`;
}

/** One request in order; `mark` tells it from all others. */
export function request(mark: string, host: string, next: Numbers): string {
  const method = pick(METHODS, next);
  const body = next(2) === 0 && method === "GET" ? "" : pick(BODIES, next);
  const fields = [`Host: ${host}`, ...(next(3) === 0 ? [pick(FIELDS.slice(0, 2), next)] : [])];
  const framed = next(3);
  if (body !== "" && framed === 0) fields.push("Transfer-Encoding: chunked");
  else if (body !== "" || framed === 1) fields.push(`Content-Length: ${body.length}`);
  const head = `${method} ${pick(PATHS, next)}?${mark} HTTP/1.1\r\n${fields.join("\r\n")}\r\n\r\n`;
  return head + (body !== "" && framed === 0 ? chunked(body, next) : body);
}

/** Thirteen ways to spoil a text. */
const OPERATORS: readonly ((text: string, next: Numbers) => string)[] = [
  (text, next) => cut(text, next, 1, ""),
  (text, next) => cut(text, next, 0, pick(BITS, next)),
  (text, next) => cut(text, next, 1, pick(BITS, next)),
  (text, next) => cut(text, next, 1, String.fromCharCode(next(256))),
  (text, next) => cut(text, next, 0, String.fromCharCode(next(256))),
  (text, next) => inLines(text, next, (lines, at) => lines.toSpliced(at, 0, lines[at]!)),
  (text, next) => inLines(text, next, (lines, at) => lines.toSpliced(at, 1)),
  (text, next) => inLines(text, next, (lines, at) => lines.toSpliced(Math.max(1, at), 0, pick(FIELDS, next))),
  (text, next) => inLines(text, next, (lines, at) => lines.toSpliced(at, 1, pick(FIELDS, next))),
  (text, next) =>
    inLines(text, next, (lines, at) => lines.with(at, lines[at]!.replace(":", pick([" :", ":\t", ":", "::"], next)))),
  (text, next) => inLines(text, next, (lines, at) => lines.with(at, swapCase(lines[at]!))),
  (text, next) => text.slice(0, next(text.length)),
  (text, next) => text.slice(0, next(text.length)) + text.slice(next(text.length)),
];

function cut(text: string, next: Numbers, length: number, by: string): string {
  const at = next(text.length + 1);
  return text.slice(0, at) + by + text.slice(at + length);
}

function inLines(text: string, next: Numbers, change: (lines: string[], at: number) => string[]): string {
  const lines = text.split("\r\n");
  return change(lines, next(lines.length)).join("\r\n");
}

const swapCase = (text: string): string =>
  text.replace(/[a-z]/gi, (letter) => (letter < "a" ? letter.toLowerCase() : letter.toUpperCase()));

/** One to four requests, of which some are spoiled once or twice. */
export function stream(mark: string, host: string, next: Numbers): string {
  let text = "";
  for (let i = 0, count = 1 + next(4); i < count; i++) {
    let one = request(`${mark}-${i}`, host, next);
    for (let times = next(5) - 2; times > 0; times--) one = pick(OPERATORS, next)(one, next);
    text += one;
  }
  return text;
}
