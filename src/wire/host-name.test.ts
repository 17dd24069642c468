import { expect, test } from "vitest";
import { foldName, foldPattern, plainName, wildcardOf } from "./host-name.ts";

/** Text, in lower case without its dot, as a name, and as a pattern. */
test.each<[text: string, plain: string, name: string | undefined, pattern: string | undefined]>([
  ["Shop.Example.org.", "shop.example.org", "shop.example.org", "shop.example.org"],
  ["gate", "gate", "gate", "gate"],
  [
    "_acme-challenge.example.org",
    "_acme-challenge.example.org",
    "_acme-challenge.example.org",
    "_acme-challenge.example.org",
  ],
  ["*.Example.org", "*.example.org", undefined, "*.example.org"],
  ["*", "*", undefined, undefined],
  ["a.*.org", "a.*.org", undefined, undefined],
  ["10.1.2.3", "10.1.2.3", undefined, undefined],
  ["we b", "we b", undefined, undefined],
  ["-a.org", "-a.org", undefined, undefined],
  ["a..org", "a..org", undefined, undefined],
  ["a.org..", "a.org.", undefined, undefined],
  ["", "", undefined, undefined],
  [`${"a".repeat(63)}.org`, `${"a".repeat(63)}.org`, `${"a".repeat(63)}.org`, `${"a".repeat(63)}.org`],
  [`${"a".repeat(64)}.org`, `${"a".repeat(64)}.org`, undefined, undefined],
])("%j", (text, plain, name, pattern) => {
  expect(plainName(text)).toBe(plain);
  expect(foldName(text)).toBe(name);
  expect(foldPattern(text)).toBe(pattern);
});

test("a name of 253 characters is one, of 254 it is none", () => {
  const name = (length: number): string =>
    "a."
      .repeat(200)
      .slice(0, length - 1)
      .replace(/\.$/, "a")
      .concat("b");
  expect(foldName(name(253))).toHaveLength(253);
  expect(foldName(`${name(253)}.`)).toHaveLength(253);
  expect(foldName(name(254))).toBeUndefined();
});

test("the wildcard of a name stands for its first label", () => {
  expect(wildcardOf("a.b.example.org")).toBe("*.b.example.org");
});
