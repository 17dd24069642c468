import fc from "fast-check";
import { expect, test } from "vitest";
import { ANSWER_LIMITS, AnswerParser } from "./answer-parser.ts";

interface Heard {
  events: string[];
  body: string;
  wrong: string | undefined;
  isDone: boolean;
  isReusable: boolean;
}

/** What the parser makes of these parts, with the backend's end after them where `ends`. */
function hear(parts: readonly string[], { method = "GET", maySwitch = false, ends = false } = {}): Heard {
  const heard: Heard = { events: [], body: "", wrong: undefined, isDone: false, isReusable: false };
  const parser = new AnswerParser({
    information: (status) => heard.events.push(String(status)),
    head: ({ status, length, fields }) => heard.events.push(`${status} ${length ?? "?"} ${fields.length / 2}`),
    body: (part, isLast) => {
      heard.body += part.toString("latin1");
      if (isLast) heard.events.push("last");
    },
    end: (trailers) => heard.events.push(`end${trailers.map((text) => ` ${text}`).join("")}`),
    switched: (head, rest) => heard.events.push(`switched ${head.status} ${rest.length}`),
  });
  parser.begin(method, maySwitch);
  for (const part of parts) heard.wrong ??= parser.feed(Buffer.from(part, "latin1"));
  if (ends) heard.wrong ??= parser.finish();
  heard.isDone = parser.isDone;
  heard.isReusable = parser.isReusable;
  return heard;
}

const OK = "HTTP/1.1 200 OK\r\n";

test.each([
  ["a length", `${OK}Content-Length: 5\r\n\r\nhello`, ["200 5 1", "last"], "hello"],
  ["no body", `${OK}Content-Length: 0\r\n\r\n`, ["200 0 1", "end"], ""],
  ["no reason", "HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx", ["200 1 1", "last"], "x"],
  [
    "chunks, extensions dropped, trailers",
    `${OK}Transfer-Encoding: Chunked\r\n\r\n5;a="b"\r\nhello\r\n001\r\n!\r\n0;x\r\nX-T: end\r\nX-U:\r\n\r\n`,
    ["200 ? 1", "end X-T end X-U "],
    "hello!",
  ],
  [
    "informational answers first",
    `HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n${OK}Content-Length: 1\r\n\r\n1`,
    ["100", "103", "200 1 1", "last"],
    "1",
  ],
  ["204", "HTTP/1.1 204 No Content\r\n\r\n", ["204 ? 0", "end"], ""],
  ["304 with the length it would have", "HTTP/1.1 304 x\r\nContent-Length: 9\r\n\r\n", ["304 9 1", "end"], ""],
])("H1-20: %s, however it is cut", (_, text, events, body) => {
  const whole = hear([text]);
  expect(whole).toEqual({ events, body, wrong: undefined, isDone: true, isReusable: true });
  for (let at = 1; at < text.length; at++) expect(hear([text.slice(0, at), text.slice(at)])).toEqual(whole);
  expect(hear([...text])).toEqual(whole);
});

test("H1-20: an answer to HEAD has no body, whatever its length says", () => {
  const text = `${OK}Content-Length: 5\r\n\r\n`;
  expect(hear([text], { method: "HEAD" })).toMatchObject({ events: ["200 5 1", "end"], isReusable: false });
  expect(hear([`${OK}\r\n`], { method: "HEAD" })).toMatchObject({ isDone: true, isReusable: true });
  expect(hear([`${text}hello`], { method: "HEAD" })).toMatchObject({ isDone: true, isReusable: false });
});

test.each([
  ["until the end", `${OK}\r\nhello`, "hello"],
  ["HTTP/1.0 until the end", "HTTP/1.0 200 OK\r\n\r\nold", "old"],
])("an answer that lasts %s is complete with it, and never reusable", (_, text, body) => {
  expect(hear([text])).toMatchObject({ isDone: false, wrong: undefined, body });
  expect(hear([text], { ends: true })).toMatchObject({ isDone: true, isReusable: false, body });
});

test.each([
  ["both framings", `${OK}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n`],
  ["both framings, the other way", `${OK}Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\nok`],
  ["two lengths", `${OK}Content-Length: 2\r\nContent-Length: 2\r\n\r\nok`],
  ["a listed length", `${OK}Content-Length: 2, 2\r\n\r\nok`],
  ["a signed length", `${OK}Content-Length: +2\r\n\r\nok`],
  ["a hexadecimal length", `${OK}Content-Length: 0x2\r\n\r\nok`],
  ["an empty length", `${OK}Content-Length:\r\n\r\nok`],
  ["a length of 21 digits", `${OK}Content-Length: 100000000000000000000\r\n\r\nok`],
  ["two codings", `${OK}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n`],
  ["a coding twice", `${OK}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`],
  ["a coding that looks like one", `${OK}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n`],
  ["chunked in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
  ["21 informational answers", "HTTP/1.1 103 x\r\n\r\n".repeat(21)],
  ["a 101 that nobody asked for", "HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\n"],
  ["a head above the limit", `${OK}X: ${"x".repeat(ANSWER_LIMITS.headBytes)}`],
  ["1001 fields", `${OK}${"x: y\r\n".repeat(1001)}\r\n`],
  ["CR in a value", `${OK}X: a\rb\r\n\r\n`],
  ["LF in a value", `${OK}X: a\nY: b\r\n\r\n`],
  ["NUL in a value", `${OK}X: a\0b\r\n\r\n`],
  ["a folded line", `${OK}X: a\r\n b\r\n\r\n`],
  ["a blank before the colon", `${OK}X : a\r\n\r\n`],
  ["a field without a name", `${OK}: a\r\n\r\n`],
  ["a line without a colon", `${OK}X\r\n\r\n`],
  ["no status", "HTTP/1.1 OK\r\n\r\n"],
  ["a status of two digits", "HTTP/1.1 20 OK\r\n\r\n"],
  ["another version", "HTTP/2.0 200 OK\r\n\r\n"],
  ["another protocol", "SSH-2.0-OpenSSH_9.9\r\n"],
  ["an empty line first", `\r\n${OK}\r\n`],
  ["a chunk size that is none", `${OK}Transfer-Encoding: chunked\r\n\r\ng\r\n`],
  ["a chunk size with 0x", `${OK}Transfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n`],
  ["a signed chunk size", `${OK}Transfer-Encoding: chunked\r\n\r\n+1\r\na\r\n0\r\n\r\n`],
  ["a chunk size of 17 digits", `${OK}Transfer-Encoding: chunked\r\n\r\n${"0".repeat(16)}1\r\na\r\n`],
  ["LF alone in a chunk line", `${OK}Transfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n`],
  ["a chunk that is longer than it says", `${OK}Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n`],
  ["an endless chunk extension", `${OK}Transfer-Encoding: chunked\r\n\r\n1;${"x".repeat(5000)}`],
  ["a malformed trailer", `${OK}Transfer-Encoding: chunked\r\n\r\n0\r\nX\r\n\r\n`],
  ["endless trailers", `${OK}Transfer-Encoding: chunked\r\n\r\n0\r\n${"x: y\r\n".repeat(4000)}`],
])("H1-20: refuses %s", (_, text) => {
  const { wrong, isReusable } = hear([text]);
  expect(wrong).toBeTypeOf("string");
  expect(isReusable).toBe(false);
  expect(hear([...text]).wrong).toBeTypeOf("string");
});

test.each([
  ["before its head", "HTTP/1.1 20"],
  ["in a body with a length", `${OK}Content-Length: 5\r\n\r\nhell`],
  ["in a chunk", `${OK}Transfer-Encoding: chunked\r\n\r\n5\r\nhell`],
  ["before the last chunk", `${OK}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n`],
  ["in the last line", `${OK}Transfer-Encoding: chunked\r\n\r\n0\r\n`],
])("H1-22: an answer that ends %s is cut", (_, text) => {
  expect(hear([text], { ends: true })).toMatchObject({ isDone: false, isReusable: false });
  expect(hear([text], { ends: true }).wrong).toBeTypeOf("string");
});

test.each([
  ["a second answer", `${OK}Content-Length: 2\r\n\r\nok`, OK],
  ["one byte", `${OK}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n`, "x"],
  ["a body that a 204 must not have", "HTTP/1.1 204 x\r\n\r\n", "ok"],
])("H1-21: %s left over keeps the connection from being used again", (_, text, more) => {
  expect(hear([text])).toMatchObject({ isDone: true, isReusable: true });
  expect(hear([text + more])).toMatchObject({ isDone: true, isReusable: false });
  expect(hear([text, more])).toMatchObject({ isDone: true, isReusable: false });
});

test("a closing answer is complete, and the last on its connection", () => {
  const text = `${OK}Connection: x, Close\r\nContent-Length: 2\r\n\r\nok`;
  expect(hear([text])).toMatchObject({ isDone: true, isReusable: false, wrong: undefined });
});

test("WS-3: a switch that was asked for hands over what follows", () => {
  const text = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\nabc";
  expect(hear([text], { maySwitch: true }).events).toEqual(["switched 101 3"]);
});

test("bytes that mean nothing never throw, and end nothing well", () => {
  fc.assert(
    fc.property(fc.array(fc.string({ unit: "binary-ascii" })), (parts) => {
      expect(hear(parts, { ends: true }).isDone).toBe(false);
    }),
  );
});
