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
  ["[".repeat(5000), 1, 101],
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
