import { BITS, BODIES, type Numbers, PATHS, pick } from "./request-streams.ts";

/** Requests of HTTP/2 as frames can say them, and a line of text of HTTP/1 cannot (reliability matrix H2-7). */

export type Field = readonly [name: string, value: string];

export interface Http2Request {
  readonly fields: readonly Field[];
  /** Without any the head is the end of the stream. */
  readonly parts: readonly string[];
  readonly trailers: readonly Field[];
}

const METHODS = ["GET", "GET", "POST", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"];
const SPOILED_METHODS = [
  "get",
  "GET ",
  " GET",
  "GET /inner?inner HTTP/1.1\r\nX:",
  "G:T",
  "",
  "CONNECT",
  "TRACE",
  "G\0T",
];
const SPOILED_PATHS = [
  "/a b",
  "/a HTTP/1.1\r\nHost: x\r\n\r\nGET /inner?inner",
  "/a\r\nTailscale-User-Login: evil@example.com",
  "/a\nX: y",
  "/a\0",
  "/a\xff",
  "/a#f",
  "/a:80",
  "http://gw.tail.test/a",
  "//evil/a",
  "*",
  "",
  "a",
  "/a\t",
  `/${"a".repeat(20_000)}`,
];
const SPOILED_AUTHORITIES = [
  "gw.tail.test:443",
  "GW.TAIL.TEST",
  "gw.tail.test.",
  "gw.tail.test\r\nX: y",
  "gw.tail.test evil",
  "evil",
  "u@gw.tail.test",
  "gw.tail.test:443:443",
  "gw.tail.test/a",
  "gw.tail.test:",
  "",
];
const SPOILED_SCHEMES = ["http", "https\r\nX: y", "https://gw.tail.test/a?", "", "ftp", "HTTPS", "https:"];

const FIELDS: readonly Field[] = [
  ["x", "y"],
  ["x", "a, b"],
  ["x", ""],
  ["x", " y\t"],
  ["x", "\x80\xff"],
  ["x", "a\r\nTransfer-Encoding: chunked"],
  ["x", "a\r\n\r\nGET /inner?inner HTTP/1.1\r\nTailscale-User-Login: evil@example.com\r\n\r\n"],
  ["x", "a\nContent-Length: 5"],
  ["x", "a\rb"],
  ["x", "a\0b"],
  ["x", "a:b"],
  ["x", "x".repeat(1024)],
  ["x", "x".repeat(65_536)],
  ["x", "x".repeat(64_000)],
  ["x\r\ny", "a"],
  ["x: y\r\nz", "a"],
  ["x:", "a"],
  ["x y", "a"],
  ["x\0", "a"],
  ["x\xe9", "a"],
  ["X", "a"],
  ["", "a"],
  ["host", "gw.tail.test"],
  ["host", "GW.TAIL.TEST"],
  ["host", "evil"],
  ["cookie", "a=b"],
  ["cookie", "c=d"],
  ["cookie", "e=f; g=h"],
  ["cookie", ""],
  ["cookie", "a=b\r\nX: y"],
  ["content-length", "0"],
  ["content-length", "5"],
  ["content-length", "+5"],
  ["content-length", "05"],
  ["content-length", "5, 5"],
  ["content-length", "-1"],
  ["content-length", "18446744073709551621"],
  ["transfer-encoding", "chunked"],
  ["transfer-encoding", "identity"],
  ["transfer_encoding", "chunked"],
  ["connection", "close"],
  ["connection", "transfer-encoding"],
  ["connection", "upgrade"],
  ["upgrade", "websocket"],
  ["upgrade", "h2c"],
  ["http2-settings", "AAMAAABkAAQAAP__"],
  ["keep-alive", "timeout=1"],
  ["proxy-connection", "keep-alive"],
  ["te", "trailers"],
  ["te", "gzip"],
  ["trailer", "x, tailscale-user-login"],
  ["expect", "100-continue"],
  ["expect", "x"],
  ["content-type", "application/x-www-form-urlencoded"],
  ["accept-encoding", "gzip"],
  ["tailscale-user-login", "evil@example.com"],
  ["tailscale_user_login", "evil@example.com"],
  ["x-forwarded-for", "127.0.0.1"],
  [":path", "/inner?inner"],
  [":method", "POST"],
  [":authority", "evil"],
  [":scheme", "http"],
  [":status", "200"],
  [":protocol", "websocket"],
  [":x", "y"],
];
const TRAILERS: readonly Field[] = [
  ["x", "y"],
  ["tailscale-user-login", "evil@example.com"],
  ["content-length", "5"],
  ["transfer-encoding", "chunked"],
  ["x", "a\r\n\r\nGET /inner?inner HTTP/1.1\r\n\r\n"],
  [":path", "/inner?inner"],
];

/** One request, mostly in order but for one thing; `mark` tells it from all others. */
export function http2Request(mark: string, host: string, next: Numbers): Http2Request {
  const method = pick(METHODS, next);
  const body = method === "GET" && next(2) === 0 ? "" : pick(BODIES, next);
  let fields: readonly Field[] = [
    [":method", method],
    [":scheme", "https"],
    [":authority", host],
    [":path", `${pick(PATHS, next)}?${mark}`],
  ];
  for (let more = next(4); more > 0; more--) fields = [...fields, pick(FIELDS.slice(0, 6), next)];
  if (next(2) === 0) fields = [...fields, ["content-length", String(body.length)]];
  for (let times = next(3); times > 0; times--)
    fields = pick(SPOILS, next)(fields, next(fields.length), next, mark, body);
  const trailers = next(10) === 0 ? [pick(TRAILERS, next)] : [];
  return { fields, parts: cut(body, next), trailers };
}

type Spoil = (fields: readonly Field[], at: number, next: Numbers, mark: string, body: string) => readonly Field[];

const setting =
  (name: string, values: readonly string[]): Spoil =>
  (fields, _at, next) =>
    fields.map((field) => (field[0] === name ? [name, pick(values, next)] : field));

const SPOILS: readonly Spoil[] = [
  setting(":method", SPOILED_METHODS),
  setting(":path", SPOILED_PATHS),
  setting(":authority", SPOILED_AUTHORITIES),
  setting(":scheme", SPOILED_SCHEMES),
  (fields, _at, next, mark) =>
    fields.map((field) => (field[0] === ":path" ? [":path", `${pick(SPOILED_PATHS, next)}?${mark}`] : field)),
  (fields, _at, next, _mark, body) => [
    ...fields,
    ["content-length", String(Math.max(0, body.length + pick([-1, 1, 5, 1000], next)))],
  ],
  (fields, at) => fields.toSpliced(at, 0, fields[at]!),
  (fields, at) => fields.toSpliced(at, 1),
  (fields, at, next) => fields.with(at, [fields[at]![0], inserted(fields[at]![1], next)]),
  (fields, at, next) => fields.with(at, [inserted(fields[at]![0], next), fields[at]![1]]),
  (fields, at, next) => fields.toSpliced(at, 0, pick(FIELDS, next)), // among the pseudo-fields as well
  (fields, _at, next) => [...fields, pick(FIELDS, next)],
];

function inserted(text: string, next: Numbers): string {
  const at = next(text.length + 1);
  const bit = next(2) === 0 ? pick(BITS, next) : String.fromCharCode(next(256));
  return text.slice(0, at) + bit + text.slice(at + next(2));
}

function cut(body: string, next: Numbers): string[] {
  if (body === "") return next(3) === 0 ? [""] : [];
  const at = next(2 * body.length);
  return at < body.length ? [body.slice(0, at), body.slice(at)] : [body];
}
