import { expect, test } from "vitest";
import { Fault } from "./fault.ts";
import { parseHujson } from "./hujson.ts";

test("comments and trailing commas", () => {
  const text = '// a\n{ "a": [1, 2, /* x */], "b": { "c": "// no comment", }, }\n';
  expect(parseHujson(text).value).toEqual({ a: [1, 2], b: { c: "// no comment" } });
});

test("positions are of the value, or of what is nearest around it", () => {
  const document = parseHujson('{\n  "a": [\n    1,\n    { "b": true }\n  ]\n}');
  expect(document.positionOf(["a", 1, "b"])).toEqual({ line: 4, column: 12 });
  expect(document.positionOf(["a", 7])).toEqual({ line: 2, column: 8 });
  expect(document.positionOf([])).toEqual({ line: 1, column: 1 });
});

test("`__proto__` is a member like another", () => {
  const { value } = parseHujson('{"__proto__": {"x": 1}}');
  expect(Object.getOwnPropertyNames(value)).toEqual(["__proto__"]);
  expect((value as { x?: number }).x).toBeUndefined();
});

test.each([
  ["", 1, 1],
  ['{"a": 1, "a": 2}', 1, 10],
  ['{\n  "a": }', 2, 8],
  ["[1 2]", 1, 4],
  ["{} {}", 1, 4],
  ["[1", 1, 3],
  ['{"a": "unfinished', 1, 7],
  ["[".repeat(5000), 1, 65],
  ['\ufeff{"a": 1}', 1, 1],
  ['{"a":\n "\\ud800"}', 2, 2],
  ['{"\\udc00": 1}', 1, 2],
  ['{"a": "\0"}', 1, 7],
])("%j is refused at %i:%i", (text, line, column) => {
  const thrown = (() => {
    try {
      return parseHujson(text, "policy.hujson");
    } catch (error) {
      return error;
    }
  })();
  expect(thrown).toBeInstanceOf(Fault);
  expect(thrown).toMatchObject({ code: "HUJSON_SYNTAX", line, column });
  expect((thrown as Fault).message).toContain("policy.hujson");
});

test("CF-1 what only looks like nesting is not counted", () => {
  const brackets = "[".repeat(80);
  const text = `{"a": "${brackets}\\"${brackets}", /* ${brackets} */ "b": 1 // ${brackets}\n}`;
  expect(parseHujson(text).value).toEqual({ a: `${brackets}"${brackets}`, b: 1 });
  expect(parseHujson(`${"[".repeat(64)}${"]".repeat(64)}`).positionOf([])).toEqual({ line: 1, column: 1 });
});

test.each<[string, (bytes: number) => string]>([
  ["one string", (bytes) => `{"a": "${"x".repeat(bytes)}"}`],
  ["a string without an end", (bytes) => `"${"x".repeat(bytes)}`],
  ["a comment", (bytes) => `/*${"x".repeat(bytes)}`],
  ["empty lines", (bytes) => "\n".repeat(bytes)],
  ["numbers", (bytes) => `[${"1,".repeat(bytes / 2)}]`],
])("CF-1 a file of 16 MiB is refused at a place, whatever is in it: %s", (_, textOf) => {
  expect(() => parseHujson(textOf(16 * 1024 * 1024), "big.hujson")).toThrow(
    expect.objectContaining({ code: "HUJSON_SYNTAX", line: expect.any(Number), column: expect.any(Number) }),
  );
});

test("a string of a whole megabyte is read: the scan for nesting once ended in a stack overflow", () => {
  const long = "x".repeat(1024 * 1024);
  expect(parseHujson(`{"a": "${long}"}`).value).toEqual({ a: long });
});
