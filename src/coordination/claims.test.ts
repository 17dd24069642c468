import fc from "fast-check";
import { expect, test } from "vitest";
import { parsePortRanges } from "../wire/claims.ts";
import {
  type Claimant,
  Claims,
  decodeHolders,
  decodeReleased,
  encodeHolders,
  encodeReleased,
  type Holders,
} from "./claims.ts";

const ranges = (text: string) => parsePortRanges(text)!;
const claimant = (id: number, claims: readonly string[], names: readonly string[] = [], ports = "2222"): Claimant => ({
  ...{ id, claims, names, ports: ranges(ports) },
});
const settle = (claimants: readonly Claimant[], before: Holders = new Map(), leasable = "2000-2999") =>
  new Claims({ claimants, leasable: ranges(leasable), baseDomain: "tail.test", before });
const states = (claims: Claims, id: number) => claims.answersFor(id).map(({ claim, state }) => `${claim} ${state}`);

test("FN-14 who asked first holds; the second gets it when the first gives it up", () => {
  const first = settle([claimant(2, ["2222"])]);
  const both = settle([claimant(1, ["2222"]), claimant(2, ["2222"])], first.holders);
  expect([states(both, 1), states(both, 2)]).toEqual([["2222 taken"], ["2222 held"]]);
  const later = settle([claimant(1, ["2222"]), claimant(2, [])], both.holders);
  expect(states(later, 1)).toEqual(["2222 held"]);
});

test.each<readonly [string, Claimant, readonly string[]]>([
  [
    "not granted",
    claimant(1, ["2223", "a.example.org"], ["b.example.org"]),
    ["2223 ungranted", "a.example.org ungranted"],
  ],
  ["no ingress has it", claimant(1, ["3333"], [], "3333"), ["3333 closed"]],
  ["a name of the mesh", claimant(1, ["web.tail.test"], ["web.tail.test", "*.tail.test"]), ["web.tail.test ungranted"]],
  ["by a wildcard", claimant(1, ["a.example.org"], ["*.example.org"]), ["a.example.org held"]],
  ["a wildcard not by a name", claimant(1, ["*.example.org"], ["a.example.org"]), ["*.example.org ungranted"]],
])("%s", (_, one, wanted) => expect(states(settle([one]), 1)).toEqual(wanted));

test("FN-14 a name under another's wildcard is taken, whoever is granted it by name", () => {
  const held = settle([claimant(1, ["*.example.org"], ["*.example.org"])]);
  const after = settle(
    [claimant(1, ["*.example.org"], ["*.example.org"]), claimant(2, ["a.example.org"], ["a.example.org"])],
    held.holders,
  );
  expect(states(after, 2)).toEqual(["a.example.org taken"]);
  const own = settle([claimant(1, ["*.example.org", "a.example.org"], ["*.example.org"])], held.holders);
  expect(states(own, 1)).toEqual(["*.example.org held", "a.example.org held"]);
});

test("FN-14 what others hold below a wildcard leads to them, and what its holder has itself to him", () => {
  const before = settle([claimant(2, ["a.example.org", "2222"], ["a.example.org"])]).holders;
  const wild = claimant(1, ["*.example.org", "b.example.org"], ["*.example.org"]);
  const claims = settle([wild, claimant(2, ["a.example.org", "2222"], ["a.example.org"])], before);
  expect([claims.namesOf(1), claims.namesOf(2)]).toEqual([["*.example.org", "b.example.org"], ["a.example.org"]]);
  expect(claims.heldBelow("*.example.org", 1)).toEqual(["a.example.org"]);
  expect(claims.heldBelow("*.example.org", 2)).toEqual(["b.example.org"]);
  for (const other of ["*.example.net", "a.example.org", "2222"]) expect(claims.heldBelow(other, 1)).toEqual([]);
});

test("a node with a wildcard of the operator's zone could take the server's own name", () => {
  const wide = claimant(
    1,
    ["*.example.org", "mesh.example.org", "a.example.org"],
    ["*.example.org", "mesh.example.org"],
  );
  const facts = { claimants: [wide], leasable: [], baseDomain: "tail.test", before: new Map() };
  const claims = new Claims({ ...facts, reserved: ["mesh.example.org", "ns1.b.example.org"] });
  expect(states(claims, 1)).toEqual(["*.example.org held", "mesh.example.org ungranted", "a.example.org held"]);
  expect(claims.heldBelow("*.example.org", 1)).toEqual(["mesh.example.org"]);
  expect(claims.answersFor(1)[1]).toEqual({ claim: "mesh.example.org", state: "ungranted", isServers: true });
});

test("a node holds 64 ports and no more", () => {
  const many = Array.from({ length: 70 }, (_, i) => String(2000 + i));
  const claims = settle([claimant(1, many, [], "2000-2999")]);
  expect(claims.portsOf(1)).toHaveLength(64);
  expect(states(claims, 1).slice(64)).toEqual(many.slice(64).map((port) => `${port} crowded`));
  const later = settle([claimant(1, ["1999", ...many], [], "1000-2999")], claims.holders);
  expect(states(later, 1)).toEqual(["1999 crowded", ...states(claims, 1)]);
});

test("FN-14 what is released goes to the next node that asks, and stays with its holder until then", () => {
  const names = ["*.example.org"];
  const settled = (before: Claims, others: readonly Claimant[], released = before.released): Claims =>
    new Claims({
      claimants: [claimant(1, ["2222", "*.example.org"], names), ...others],
      leasable: ranges("2222"),
      baseDomain: "tail.test",
      before: decodeHolders(encodeHolders(before.holders)),
      released: decodeReleased(encodeReleased(released)),
    });
  const first = settle([claimant(1, ["2222", "*.example.org"], names)]);
  const alone = settled(first, [], new Set(["2222", "*.example.org", "3333"]));
  expect([states(alone, 1), [...alone.released]]).toEqual([
    ["2222 held", "*.example.org held"],
    ["*.example.org", "2222"],
  ]);
  const asked = settled(alone, [claimant(2, ["2222", "a.example.org"], ["a.example.org"])]);
  expect([states(asked, 1), states(asked, 2)]).toEqual([
    ["2222 taken", "*.example.org held"],
    ["2222 held", "a.example.org held"],
  ]);
  const both = settled(asked, [claimant(2, ["2222", "a.example.org"], ["a.example.org"])]);
  expect([states(both, 1), states(both, 2)]).toEqual([states(asked, 1), states(asked, 2)]);
  expect([...both.released]).toEqual(["*.example.org"]);
});

test("who holds what outlives the process; damage is nobody's hold", () => {
  const { holders } = settle([claimant(1, ["2222", "a.example.org"], ["a.example.org"])]);
  expect(decodeHolders(encodeHolders(holders))).toEqual(holders);
  for (const text of [undefined, "", "{", "5", '{"a":1}', '[["a","b"],[1,2],"x"]']) {
    expect(decodeHolders(text)).toEqual(new Map());
    expect(decodeReleased(text)).toEqual(new Set(text?.startsWith("[") === true ? ["x"] : []));
  }
});

test("FN-14 whatever happens, a claim has one holder, and he keeps it as long as he asks and may", () => {
  const claim = fc.constantFrom("2222", "2223", "a.example.org", "b.a.example.org", "*.a.example.org");
  const node = fc.record({
    claims: fc.uniqueArray(claim),
    names: fc.uniqueArray(fc.constantFrom("a.example.org", "b.a.example.org", "*.a.example.org")),
    ports: fc.constantFrom("2222", "2223", "2222-2223"),
  });
  const round = fc.array(node, { minLength: 3, maxLength: 3 });
  fc.assert(
    fc.property(fc.array(round, { maxLength: 8 }), (rounds) => {
      let before: Holders = new Map();
      for (const nodes of rounds) {
        const claimants = nodes.map(({ claims, names, ports }, id) => claimant(id, claims, names, ports));
        const now = settle(claimants, before);
        for (const [held, id] of before) {
          const answer = now.answersFor(id).find((one) => one.claim === held);
          if (answer !== undefined && answer.state !== "ungranted") expect(answer.state).toBe("held");
        }
        const all = claimants.flatMap(({ id }) => [...now.namesOf(id), ...now.portsOf(id).map(String)]);
        expect(new Set(all).size).toBe(all.length);
        before = decodeHolders(encodeHolders(now.holders));
      }
    }),
  );
});
