import fc from "fast-check";
import { expect, test } from "vitest";
import type { Asked } from "./exchange.ts";
import { requestHead } from "./request-head.ts";

const PLAIN: Asked = { method: "GET", path: "/a?b", host: "h:80", fields: [["X-A", "b, c"]], body: "none" };

test.each([
  ["none", ""],
  ["chunked", "Transfer-Encoding: chunked\r\n"],
  [0, "Content-Length: 0\r\n"],
  [7, "Content-Length: 7\r\n"],
] as const)("a request with the body %s", (body, framing) => {
  expect(requestHead({ ...PLAIN, body })).toBe(`GET /a?b HTTP/1.1\r\nHost: h:80\r\nX-A: b, c\r\n${framing}\r\n`);
});

const BAD_VALUES = ["\r", "\n", "\r\nX: y", "\0", "\x7f", "\x1b[0m", "\u{100}", "\ud800"];

test.each([
  ...BAD_VALUES.map((text) => ["value", { ...PLAIN, fields: [["X-A", `a${text}b`]] }]),
  ...BAD_VALUES.map((text) => ["host", { ...PLAIN, host: `a${text}b` }]),
  ...["", "a b", "a:", "a\r\nb", "é", ":path"].map((name) => ["name", { ...PLAIN, fields: [[name, "x"]] }]),
  ...["", "G ET", "GET\r\n", "É"].map((method) => ["method", { ...PLAIN, method }]),
  ...["", "/a b", "/a\r\n", "/\0", "/é", "/a\tb"].map((path) => ["path", { ...PLAIN, path }]),
] as [string, Asked][])("H2-7: a %s that is more than one line, or no text, is never written: %j", (_, asked) => {
  expect(requestHead(asked)).toBeUndefined();
});

test("H2-7: whatever the parts are, a head is the lines it should be, and one empty line", () => {
  const text = fc.string({ unit: "binary" });
  const parts = fc.record({ method: text, path: text, host: text, fields: fc.array(fc.tuple(text, text)) });
  fc.assert(
    fc.property(parts, (made) => {
      const head = requestHead({ ...made, body: "none" });
      if (head !== undefined) expect(head.split(/[\r\n]+/)).toHaveLength(made.fields.length + 3);
    }),
  );
});
