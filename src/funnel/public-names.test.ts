import { expect, test } from "vitest";
import { publicName } from "../../test/suites/ingress-scene.ts";
import { NameTable } from "./public-names.ts";

const wild = publicName("*.tail.test", { owner: "wild", except: new Set(["theirs.tail.test"]) });
const exact = publicName("box.tail.test", { owner: "exact", ports: new Set([443, 8443]) });
const table = new NameTable([wild, exact]);

test.each<readonly [string | undefined, number, string | undefined]>([
  ["box.tail.test", 443, "exact"],
  ["BOX.Tail.test", 443, "exact"],
  ["box.tail.test.", 8443, "exact"],
  ["box.tail.test", 80, undefined],
  ["other.tail.test", 443, "wild"],
  ["OTHER.tail.test.", 443, "wild"],
  ["other.tail.test", 8443, undefined],
  ["theirs.tail.test", 443, undefined],
  ["THEIRS.tail.test.", 443, undefined],
  ["a.theirs.tail.test", 443, undefined],
  ["a.box.tail.test", 443, undefined],
  ["tail.test", 443, undefined],
  ["*.tail.test", 443, undefined],
  ["", 443, undefined],
  [undefined, 443, undefined],
])("FN-3 FN-14 %j on %i leads to %s", (name, port, owner) => expect(table.find(name, port)?.owner).toBe(owner));

test("FN-14 a wildcard stays with who had it, whoever claims it first later; who claims twice is in nobody's way", () => {
  const other = publicName("*.TAIL.test.", { owner: "other" });
  const later = new NameTable([other, wild, wild, exact, exact], table);
  expect(later.find("a.tail.test", 443)?.owner).toBe("wild");
  expect(later.conflicts.map(({ owner }) => owner)).toEqual(["other"]);
  expect(later.size).toBe(2);
  // An exact name's owner is not that of the wildcard above it.
  const swapped = new NameTable(
    [publicName("tail.test", { owner: "other" }), publicName("tail.test", { owner: "wild" })],
    later,
  );
  expect(swapped.find("tail.test", 443)?.owner).toBe("other");
});

test("a name that is none is nobody's, and does no harm to others", () => {
  const odd = ["", "*.", "a..b", "a b.test", `${"x".repeat(300)}.test`, "*.*.test"].map((name) => publicName(name));
  const made = new NameTable([...odd, exact]);
  expect(made.find("box.tail.test", 443)?.owner).toBe("exact");
  expect(made.size).toBe(1);
});
