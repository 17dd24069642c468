import { execFileSync } from "node:child_process";
import fc from "fast-check";
import { expect, test } from "vitest";
import { curlOf, harOf, quoted, repeatable } from "./exports.ts";
import type { Recorded } from "./recorder.ts";

const RECORD: Recorded = {
  id: 1,
  startedAt: Date.UTC(2026, 0, 2, 3, 4, 5),
  place: { port: 443, address: "100.64.0.1", serverName: "gw.tail.test", host: "gw.tail.test" },
  from: { kind: "ingress", address: "198.51.100.7" },
  isUpgrade: false,
  replayOf: undefined,
  method: "POST",
  target: "/hook?id=7&token=REDACTED",
  version: "1.1",
  fields: [
    ["Host", "gw.tail.test"],
    ["Content-Type", "application/json"],
    ["Content-Length", "17"],
    ["Authorization", "REDACTED"],
    ["X-Name", "it's"],
    ["X-Empty", ""],
  ],
  body: { text: '{"a":"it\'s","b":1}', isWhole: true, totalBytes: 18 },
  answer: {
    status: 302,
    fields: [
      ["Location", "/next"],
      ["Content-Type", "text/plain"],
    ],
    body: { text: "ok", isWhole: true, totalBytes: 2 },
    tookMs: 12.5,
    isCut: false,
  },
};

test("as curl: what was redacted and what curl writes itself are left out, the rest is quoted", () => {
  expect(curlOf(RECORD)).toBe(
    "curl --globoff --path-as-is --request POST --header 'Content-Type: application/json' --header 'X-Name: it'\\''s' " +
      "--header 'X-Empty;' --data-raw '{\"a\":\"it'\\''s\",\"b\":1}' -- 'https://gw.tail.test/hook?id=7&token=REDACTED'",
  );
  expect(repeatable(RECORD.fields).map(([name]) => name)).toEqual(["Content-Type", "X-Name", "X-Empty"]);
});

test.each([[{ text: "", isWhole: false, totalBytes: 2 }], [{ text: "a\0b", isWhole: true, totalBytes: 3 }]])(
  "a body that no command line can hold was sent as another: %j",
  (body) => {
    const command = curlOf({ ...RECORD, body });
    expect(command).not.toContain("--data-raw");
    expect(command).toMatch(/ -- '[^']+' # without its body of \d bytes, /);
  },
);

test("a body without a type was sent as a form, and one that is no text is said to be none", () => {
  const fields = RECORD.fields.filter(([name]) => name !== "Content-Type");
  expect(curlOf({ ...RECORD, fields })).toMatch(/ --header Content-Type: --data-raw /);
  const body = { text: "", isWhole: false, totalBytes: 5 };
  const { log } = harOf([{ ...RECORD, body, answer: { ...RECORD.answer!, body } }]) as { log: { entries: object[] } };
  const comment = "not kept: it is no text";
  expect(log.entries[0]).toMatchObject({ request: { postData: { comment } }, response: { content: { comment } } });
  expect(JSON.stringify(log.entries[0])).toContain('"content":{"size":5,"mimeType":"text/plain","comment"');
});

test("property: to a shell any text is one word, and nothing else", () => {
  const unit = fc.constantFrom(...[..."'\"\\$`!*?~#&|;<>(){}[]-= \t\n\0aZ0ü😀"]);
  const texts = fc.sample(fc.string({ unit, maxLength: 30 }), 200);
  texts.push("$(id)", "`id`", "'; id; '", "-- -x", "a\nb", "\\", "'", "''", "*", "~", "!x");
  const script = texts.map((text) => `printf '%s\\0' ${quoted(text)}`).join("\n");
  const said = execFileSync("/bin/sh", ["-c", script], { encoding: "utf8" }).split("\0").slice(0, -1);
  expect(said).toEqual(texts.map((text) => text.replaceAll("\0", "")));
});

test("as HAR 1.2, with every member that it demands", () => {
  const { log } = JSON.parse(JSON.stringify(harOf([RECORD]))) as { log: Record<string, unknown> };
  expect(log).toMatchObject({ version: "1.2", creator: { name: "sallyport" } });
  expect((log["entries"] as unknown[])[0]).toEqual({
    startedDateTime: "2026-01-02T03:04:05.000Z",
    time: 12.5,
    request: {
      method: "POST",
      url: "https://gw.tail.test/hook?id=7&token=REDACTED",
      httpVersion: "HTTP/1.1",
      cookies: [],
      headers: RECORD.fields.map(([name, value]) => ({ name, value })),
      queryString: [
        { name: "id", value: "7" },
        { name: "token", value: "REDACTED" },
      ],
      postData: { mimeType: "application/json", text: RECORD.body.text },
      headersSize: -1,
      bodySize: 18,
    },
    response: {
      status: 302,
      statusText: "Found",
      httpVersion: "HTTP/1.1",
      cookies: [],
      headers: RECORD.answer!.fields.map(([name, value]) => ({ name, value })),
      content: { size: 2, mimeType: "text/plain", text: "ok" },
      redirectURL: "/next",
      headersSize: -1,
      bodySize: 2,
    },
    cache: {},
    timings: { send: 0, wait: 12.5, receive: 0 },
  });
});
