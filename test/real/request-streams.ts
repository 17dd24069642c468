/** Streams of requests as a caller of bad will might send them: well-formed ones, changed as HTTP Garden changes its inputs. */

export type Numbers = (limit: number) => number;

/** Numbers from 0 up to a limit, the same for the same seed (xorshift32). */
export function numbers(seed: number): Numbers {
  let state = seed | 1;
  return (limit) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % limit;
  };
}

export const pick = <T>(list: readonly T[], next: Numbers): T => list[next(list.length)]!;

const INNER = "POST /inner?inner HTTP/1.1\r\nHost: x\r\nTailscale-User-Login: evil@example.com\r\nContent-Length: ";
export const BODIES: readonly string[] = [
  "",
  "hello",
  "0\r\n\r\n",
  "5\r\nhello\r\n0\r\n\r\n",
  "GET /inner?inner HTTP/1.1\r\nHost: x\r\nTailscale-User-Login: evil@example.com\r\n\r\n",
  `${INNER}30\r\n\r\n`,
  `0\r\n\r\n${INNER}3\r\n\r\nabc`,
  "\r\n\r\n\r\n",
  "\0\xff\x80\n\r",
  "x".repeat(300),
];
const METHODS = ["GET", "GET", "GET", "POST", "POST", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"];
const RARE_METHODS = ["CONNECT", "TRACE", "QUERY", "PRI", "get", "M-SEARCH", "PURGE", "G\xe9T"];
export const PATHS: readonly string[] = [
  "/",
  "/a",
  "/ignored",
  "/ignored/a",
  "/a/b/../c",
  "/a%2fb",
  "/%61",
  "//a",
  "/a;b=c",
  "/a%20b",
  "/a%00b",
];
const VERSIONS = ["HTTP/1.0", "HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "HTTP/0.9", "http/1.1", "HTTP/1.1 "];
/** Of requests that are in order, beside those about their length. */
const PLAIN_FIELDS = [
  "X: y",
  "x: a, b",
  "X:",
  "X: \t y \t",
  "X: \x85\xa0\xff",
  "Connection: close",
  "Connection: keep-alive",
  "Connection: keep-alive, X",
  "Content-Type: application/x-www-form-urlencoded",
  'Content-Type: multipart/form-data; boundary="x"',
  "Cookie: a=b; c=d",
  "Expect: 100-continue",
  "TE: trailers",
  "Accept-Encoding: gzip",
  "Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
  "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];
const FIELDS = [
  ...PLAIN_FIELDS,
  "Connection: keep-alive, Content-Length",
  "Connection: Transfer-Encoding",
  "Connection: Host, Tailscale-User-Login",
  "Content-Length: 5",
  "Content-Length: 0",
  "Content-Length: 05",
  "Content-Length: +5",
  "Content-Length: 5 ",
  "Content-Length: 0x5",
  "Content-Length:",
  "Content-Length: 18446744073709551621",
  "Content-length: 5, 5",
  "Content-Length: 5\r\nContent-Length: 6",
  "Transfer-Encoding: chunked",
  "Transfer-Encoding: CHUNKED",
  "Transfer-Encoding: identity",
  "Transfer-Encoding: gzip, chunked",
  "Transfer-Encoding: chunked, identity",
  "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
  "Transfer-Encoding: \x0bchunked",
  "Transfer-Encoding:\r\n chunked",
  'Transfer-Encoding: "chunked"',
  "Transfer-Encoding: chunked;q=1",
  "Transfer-Encoding: xchunked",
  "transfer-encoding:chunked",
  "Transfer-Encoding : chunked",
  "Transfer-Encoding\t: chunked",
  " Transfer-Encoding: chunked",
  "Transfer_Encoding: chunked",
  "Transfer\xadEncoding: chunked",
  "Content_Length: 5",
  "X: a\r\n b",
  "X: a\r\n\tTransfer-Encoding: chunked",
  "X: a\nTransfer-Encoding: chunked",
  "X: a\rContent-Length: 5",
  "X\0: a",
  ": a",
  "X",
  "TE: trailers, chunked",
  "Trailer: X, Tailscale-User-Login",
  "Expect: 200-ok",
  "Expect: 100-continue, x",
  "Upgrade: h2c",
  "Upgrade: websocket",
  "Host: evil",
  "Host: gw.tail.test",
  "Host:",
  "Host: gw.tail.test:80, evil",
  "Host: evil@gw.tail.test",
  "Cookie: a=b",
  "Range: bytes=0-1",
  "Keep-Alive: timeout=1",
  "Proxy-Connection: keep-alive",
  "X-HTTP-Method-Override: DELETE",
  "X-Forwarded-For: 127.0.0.1",
  "Tailscale-User-Login: evil@example.com",
  "Tailscale_User_Login: evil@example.com",
  "tailscale-user-login:evil@example.com",
];
/** What parsers have been seen to disagree about. */
export const BITS: readonly string[] = [
  ...'\r,\n,\r\n,\0,:,\t, ,\x0b,\x0c,\x85,\xa0,;,0,-,+,_,",\r\n\r\n,\r\n ,\n\n,\r\r\n,0\r\n\r\n,HTTP/1.1,HTTP/1.0,\xff'.split(
    ",",
  ),
  ",",
];
const EXTENSIONS = [";a", ";a=b", ' ; a = "b\\"c"', ';a="\r\n"', ";\n", ";", "\t;a", ";a=b;c", " ", ";a=b\r"];
const TRAILERS = [
  "X-T: y\r\n",
  "X: y\r\n",
  "Tailscale-User-Login: evil@example.com\r\n",
  "Content-Length: 5\r\n",
  "Transfer-Encoding: chunked\r\n",
  "Host: evil\r\n",
  "X: y\r\n z\r\n",
  "X: y\n",
  "x\r\n",
];

function chunked(body: string, next: Numbers): string {
  let text = "";
  const extension = (): string => (next(6) === 0 ? pick(EXTENSIONS.slice(0, next(2) === 0 ? 2 : undefined), next) : "");
  for (let at = 0; at < body.length; ) {
    const size = 1 + next(body.length - at);
    const digits = size.toString(16).padStart(next(8) === 0 ? 4 : 1, "0");
    text += `${next(4) === 0 ? digits.toUpperCase() : digits}${extension()}\r\n${body.slice(at, at + size)}\r\n`;
    at += size;
  }
  return `${text}0${extension()}\r\n${next(6) === 0 ? pick(TRAILERS, next) : ""}\r\n`;
}

/** One request in order, or nearly; `mark` tells it from all others. */
export function request(mark: string, host: string, next: Numbers): string {
  const method = next(40) === 0 ? pick(RARE_METHODS, next) : pick(METHODS, next);
  const body = next(2) === 0 && method === "GET" ? "" : pick(BODIES, next);
  const fields = [`Host: ${host}`];
  for (let more = next(6) - 2; more > 0; more--) fields.push(pick(PLAIN_FIELDS, next));
  const framed = next(3);
  if (body !== "" && framed === 0) fields.push("Transfer-Encoding: chunked");
  else if (body !== "" || framed === 1) fields.push(`Content-Length: ${body.length}`);
  if (next(60) === 0) fields.push(`Content-Length: ${body.length}`); // twice, or beside chunks
  const version = next(30) === 0 ? pick(VERSIONS, next) : "HTTP/1.1";
  const head = `${method} ${targetOf(method, mark, host, next)} ${version}\r\n${fields.join("\r\n")}\r\n\r\n`;
  return head + (body !== "" && framed === 0 ? chunked(body, next) : body);
}

function targetOf(method: string, mark: string, host: string, next: Numbers): string {
  const path = `${pick(PATHS, next)}?${mark}`;
  if (method === "CONNECT") return pick([`${host}:80`, path], next);
  if (method === "OPTIONS" && next(4) === 0) return "*";
  if (next(20) !== 0) return path;
  return pick(
    [`http://${host}${path}`, `HTTP://${host}${path}`, `http://evil${path}`, `${host}:80`, "*", `${path}#x`],
    next,
  );
}

type Operator = (text: string, next: Numbers) => string;

/** At the places where parsers are: not in long bodies more often than in heads. */
const place = (text: string, next: Numbers): number => next(text.length + 1);
const splice = (text: string, next: Numbers, length: number, by: string): string => {
  const at = place(text, next);
  return text.slice(0, at) + by + text.slice(at + length);
};
const inserting =
  (bit: string): Operator =>
  (text, next) =>
    splice(text, next, 0, bit);

/** The thirteen of row H1-4, then more of the kind. */
export const OPERATORS: Readonly<Record<string, Operator>> = {
  delete: (text, next) => splice(text, next, 1, ""),
  insert: (text, next) => splice(text, next, 0, String.fromCharCode(next(256))),
  replace: (text, next) => splice(text, next, 1, String.fromCharCode(next(256))),
  carriageReturn: inserting("\r"),
  lineFeed: inserting("\n"),
  nul: inserting("\0"),
  colon: inserting(":"),
  tab: inserting("\t"),
  insertField: (text, next) =>
    inLines(text, next, (lines, at) => lines.toSpliced(Math.max(1, at), 0, pick(FIELDS, next))),
  replaceField: (text, next) => inLines(text, next, (lines, at) => lines.toSpliced(at, 1, pick(FIELDS, next))),
  moveField: (text, next) =>
    inLines(text, next, (lines, at) => lines.toSpliced(at, 1).toSpliced(next(lines.length), 0, lines[at]!)),
  repeatPart: (text, next) => {
    const [from, to] = [place(text, next), place(text, next)].sort((a, b) => a - b) as [number, number];
    return text.slice(0, to) + text.slice(from);
  },
  joinParts: (text, next) => text.slice(0, place(text, next)) + text.slice(place(text, next)),
  insertBit: (text, next) => splice(text, next, 0, pick(BITS, next)),
  replaceByBit: (text, next) => splice(text, next, 1, pick(BITS, next)),
  repeatLine: (text, next) => inLines(text, next, (lines, at) => lines.toSpliced(at, 0, lines[at]!)),
  deleteLine: (text, next) => inLines(text, next, (lines, at) => lines.toSpliced(at, 1)),
  blankColon: (text, next) =>
    inLines(text, next, (lines, at) => lines.with(at, lines[at]!.replace(":", pick([" :", ":\t", ":", "::"], next)))),
  swapCase: (text, next) => inLines(text, next, (lines, at) => lines.with(at, swapCase(lines[at]!))),
  cut: (text, next) => text.slice(0, place(text, next)),
};
const NAMES = Object.keys(OPERATORS);

function inLines(text: string, next: Numbers, change: (lines: string[], at: number) => string[]): string {
  const lines = text.split("\r\n");
  return change(lines, next(lines.length)).join("\r\n");
}

const swapCase = (text: string): string =>
  text.replace(/[a-z]/gi, (letter) => (letter < "a" ? letter.toLowerCase() : letter.toUpperCase()));

export function spoiled(text: string, times: number, next: Numbers): string {
  let now = text;
  for (let i = 0; i < times; i++) now = OPERATORS[pick(NAMES, next)]!(now, next);
  return now;
}

/** One to four requests, of which some are spoiled once or twice, or all of them as one text. */
export function stream(mark: string, host: string, next: Numbers): string {
  let text = "";
  const isWhole = next(4) === 0;
  for (let i = 0, count = 1 + next(4); i < count; i++) {
    const one = request(`${mark}-${i}`, host, next);
    text += isWhole ? one : spoiled(one, next(5) - 2, next);
  }
  return isWhole ? spoiled(text, 1 + next(3), next) : text;
}

/** The pieces in which it arrives: mostly one. */
export function pieces(text: string, next: Numbers): string[] {
  if (next(3) !== 0) return [text];
  const found: string[] = [];
  for (let at = 0; at < text.length; ) {
    const size = 1 + next(next(4) === 0 ? 4 : text.length);
    found.push(text.slice(at, at + size));
    at += size;
    if (found.length === 40) found.push(text.slice(at));
    if (found.length > 40) break;
  }
  return found;
}
