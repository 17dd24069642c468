import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { belowMount, joinPaths, readTarget, unescaped } from "./path.ts";

const pathOf = (target: string): string | undefined => readTarget(target)?.path;

describe("RT-1 one normal form", () => {
  // RFC 3986 section 5.2.4; escaped dots are dots, and empty segments stay.
  test.each([
    ["/", "/"],
    ["/a/b/c", "/a/b/c"],
    ["/a/./b", "/a/b"],
    ["/a/../b", "/b"],
    ["/a/b/..", "/a/"],
    ["/a/b/.", "/a/b/"],
    ["/a/b/../", "/a/"],
    ["/..", "/"],
    ["/../../a", "/a"],
    ["/.", "/"],
    ["/a/%2e/b", "/a/b"],
    ["/a/%2E%2e/b", "/b"],
    ["/a/.%2E/b", "/b"],
    ["/a//b", "/a//b"],
    ["//a/../b", "//b"],
    ["/a//../b", "/a/b"],
    ["/.a/..b/...", "/.a/..b/..."],
    ["/%2ea/%2e%2e%2e/%2e%2e%2e%2e", "/%2ea/%2e%2e%2e/%2e%2e%2e%2e"],
    // Go keeps a legal spelling, and encodes any other one anew.
    ["/%41%2f%c3%bc", "/%41%2f%c3%bc"],
    ["/%41|%2f", "/A%7C/"],
    ['/"%20*', "/%22%20%2A"],
  ])("%s travels as %s", (target, path) => expect(pathOf(target)).toBe(path));

  test.each([
    "",
    "a",
    "*",
    "/%",
    "/%4",
    "/%g0",
    "/%0g",
    "/a b",
    "/a\tb",
    "/\u00e9",
    "/a#b",
    "/a\\b",
    "/a?b c",
    "/a?b#c",
  ])("%j is none", (target) => expect(readTarget(target)).toBeUndefined());

  test("property: it is what browsers' URL parser makes of it, and reading it again changes nothing", () => {
    const piece = fc.constantFrom(
      ...[
        "/",
        "/",
        "/",
        ".",
        "..",
        "%2e",
        "%2E",
        "a",
        "B",
        "%41",
        "%2F",
        "%c3%bc",
        "%7e",
        "~",
        "|",
        "*",
        "(",
        "[",
        "-",
        "%00",
        "'",
      ],
    );
    let read = 0;
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 14 }), (pieces) => {
        const target = readTarget(`/${pieces.join("")}`);
        if (target === undefined) return; // it hides dots
        read++;
        const asUrl = new URL(`http://host/${pieces.join("")}`).pathname;
        const decoded = asUrl.replace(/%([0-9a-f]{2})/gi, (_, hex) => String.fromCharCode(Number.parseInt(hex, 16)));
        expect(target.decoded).toBe(decoded);
        expect(unescaped(target.path)).toBe(decoded);
        expect(target.path).toMatch(/^\/[\w\-.~!$&'()*+,;=:@[\]/%]*$/);
        expect(readTarget(target.path)?.path).toBe(target.path);
      }),
      { numRuns: 5000 },
    );
    expect(read).toBeGreaterThan(1000);
  });

  // What Go's ReverseProxy does (net/http/httputil cleanQueryParams): both ends see the same parameters.
  test.each([
    ["/a", ""],
    ["/a?", "?"],
    ["/?b=2&a=1&a=%41", "?b=2&a=1&a=%41"],
    ["/a?b=1?c", "?b=1?c"],
    ["/a?a=1;b=2&c=3", "?c=3"],
    ["/a?a=%zz&b=1", "?b=1"],
    ["/a?a=%4&b=1", "?b=1"],
    ["/a?b=2&k=2&k=1&a=x;y&&B=3", "?B=3&b=2&k=2&k=1"],
    ["/a?;", ""],
    ["/a?;&a&=v&b=", "?=v&a=&b="],
    ["/a?;&a=x+y&b=%41%2F%26~*&c=%C3%BC", "?a=x+y&b=A%2F%26~%2A&c=%C3%BC"],
    ["/a?;&a=b=c", "?a=b%3Dc"],
  ])("%s asks %j", (target, query) => expect(readTarget(target)?.query).toBe(query));
});

test.each([
  ["/foo/bar", "/foo", "/bar"],
  ["/foo", "/foo", ""],
  ["/foo/", "/foo/", "/"],
  ["/foo/bar", "/", "/foo/bar"],
  ["/", "/", "/"],
  ["/", "/foo", "/"],
  ["/%66oo/bar", "/foo", undefined],
  ["/foo/%62ar", "/foo", "/%62ar"],
])("RT-2 of %s below %s there is %s", (target, point, rest) =>
  expect(belowMount(readTarget(target)!, point)).toBe(rest),
);

test.each([
  ["", "", "/"],
  ["/base", "", "/base"],
  ["/base", "/x", "/base/x"],
  ["/base/", "/x", "/base/x"],
  ["/base/", "x", "/base/x"],
  ["/base", "x", "/base/x"],
  ["", "/x", "/x"],
])("%s and %s are %s", (base, rest, whole) => expect(joinPaths(base, rest)).toBe(whole));

test("RT-1 what is no escape is left, and each escape is one byte", () => {
  for (let byte = 0; byte < 256; byte++) {
    const hex = byte.toString(16).padStart(2, "0");
    expect(unescaped(`%${hex}${hex.toUpperCase()}`)).toBe(String.fromCharCode(byte) + hex.toUpperCase());
    expect(unescaped(`x%${hex.toUpperCase()}`)).toBe(`x${String.fromCharCode(byte)}`);
  }
  for (const text of ["", "a", "%", "%4", "%g1", "%1g", "a%", "%%%", "%2"]) expect(unescaped(text)).toBe(text);
  expect(unescaped("%%34%31%2541")).toBe("%41%41");
});
