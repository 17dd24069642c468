import fc from "fast-check";
import { expect, test } from "vitest";
import { localPath } from "./local-path.ts";

const HERE = "https://gw.tail.test";

test.each([
  ["/", "/"],
  ["/a/b?c=d&e=%2F", "/a/b?c=d&e=%2F"],
  ["/a//b", "/a//b"],
  [undefined, "/"],
  [null, "/"],
  ["", "/"],
  ["a", "/"],
  ["//evil.example", "/"],
  ["/\\evil.example", "/"],
  ["\\\\evil.example", "/"],
  ["/\t/evil.example", "/"],
  ["/\n/evil.example", "/"],
  ["https://evil.example/", "/"],
  ["javascript:alert(1)", "/"],
  [" //evil.example", "/"],
  ["/a\r\nSet-Cookie: x=1", "/"],
  ["/ä", "/"],
  ["/.sallyport/door/friends/leave", "/"],
  [`/${"a".repeat(5000)}`, "/"],
])("RT-5 no open redirect: %j leads to %j", (given, led) => {
  expect(localPath(given)).toBe(led);
});

test("RT-5 property: wherever it leads is on this site, by the rules of browsers", () => {
  const parts = fc.constantFrom(
    "/",
    "\\",
    "//",
    ":",
    "@",
    "evil.example",
    "..",
    ".",
    "\t",
    "\r\n",
    "?",
    "#",
    "%2f",
    "a",
    "https:",
  );
  const text = fc.oneof(
    fc.string(),
    fc.webUrl(),
    fc.array(parts, { maxLength: 8 }).map((all) => all.join("")),
  );
  fc.assert(
    fc.property(text, (given) => {
      const led = localPath(given);
      const url = new URL(led, `${HERE}/some/page`);
      expect(url.origin).toBe(HERE);
      expect(led).toMatch(/^\/[\x21-\x7e]*$/);
    }),
    { numRuns: 500 },
  );
});
