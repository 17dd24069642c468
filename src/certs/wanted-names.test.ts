import { expect, test } from "vitest";
import { isWildcardOfOthers, wildcardAbove } from "./wanted-names.ts";

const MESH = { ownName: "gate.tail1.ts.net", suffix: "tail1.ts.net" };

test.each([
  ["gate.tail1.ts.net", false],
  ["*.gate.tail1.ts.net", false],
  ["*.app.gate.tail1.ts.net", false],
  ["*.Gate.Tail1.ts.net", false],
  ["*.example.com", false],
  ["*.tail1.ts.net", true],
  ["*.other.tail1.ts.net", true],
  ["*.notgate.tail1.ts.net", true],
  ["*.ts.net", false], // one label only: no node has such a name
])("%s speaks for nodes of others: %s", (name, expected) => {
  expect(isWildcardOfOthers(name, MESH)).toBe(expected);
});

test("a node that has the name of the whole mesh gains nothing by it; without a mesh there are no others", () => {
  expect(isWildcardOfOthers("*.tail1.ts.net", { ...MESH, ownName: "tail1.ts.net" })).toBe(true);
  expect(isWildcardOfOthers("*.tail1.ts.net", { ownName: "", suffix: "" })).toBe(false);
});

test.each([
  ["a.example.com", "*.example.com"],
  ["example", undefined],
  [".example", undefined],
  ["", undefined],
])("above %s is %s", (name, expected) => expect(wildcardAbove(name)).toBe(expected));
