import { expect, test } from "vitest";
import { explainPolicy } from "./explain.ts";

const POLICY = `{
  "groups": {"group:eng": ["ada@example.com"]},
  "hosts": {"db": "100.64.0.9"},
  "tagOwners": {"tag:web": ["group:eng"]},
  "acls": [
    {"action": "accept", "src": ["group:eng"], "dst": ["tag:web:22,443", "db:5432"]},
    {"action": "accept", "src": ["*"], "dst": ["tag:web:443"]},
  ],
  "grants": [
    {"src": ["ada@example.com"], "dst": ["tag:web"], "ip": ["udp:53"],
     "app": {"example.com/cap/app": [{"role": "admin"}]}},
  ],
}`;
const lines = (places: readonly { line: number }[]): number[] => places.map(({ line }) => line);

test.each([
  ["ada@example.com", "tag:web:443", "tcp", [6, 7]],
  ["ada@example.com", "tag:web:22", "tcp", [6]],
  ["group:eng", "tag:web:22", "tcp", [6]],
  ["bob@example.com", "tag:web:443", "tcp", [7]],
  ["bob@example.com", "tag:web:22", "tcp", []],
  ["ada@example.com", "db:5432", "tcp", [6]],
  ["ada@example.com", "100.64.0.9:5432", "tcp", [6]],
  ["ada@example.com", "db:5433", "tcp", []],
  ["ada@example.com", "tag:web:53", "udp", [10]],
  ["tag:web", "ada@example.com:22", "tcp", []],
])("%s to %s over %s: lines %j", (source, target, protocol, by) => {
  const { isAllowed, allowedBy, reason } = explainPolicy(POLICY, "p", { source, target, protocol });
  expect([isAllowed, lines(allowedBy)]).toEqual([by.length > 0, by]);
  expect(reason === undefined).toBe(isAllowed);
});

test("the capabilities, and the line that gives them", () => {
  const ada = explainPolicy(POLICY, "p", { source: "ada@example.com", target: "tag:web:443" });
  expect(ada.capabilities).toEqual({ "example.com/cap/app": [{ role: "admin" }] });
  expect(lines(ada.grantedBy)).toEqual([10]);
  const bob = explainPolicy(POLICY, "p", { source: "bob@example.com", target: "tag:web:443" });
  expect([bob.capabilities, bob.grantedBy]).toEqual([{}, []]);
});

test("a rule that asks for a posture is named, for what the source is like is not known", () => {
  const text = `{"tagOwners": {"tag:web": []}, "postures": {"posture:a": ["node:os == 'linux'"]},
    "grants": [
      {"src": ["*"], "dst": ["tag:web"], "ip": ["22"], "srcPosture": ["posture:a"]}]}`;
  const { isAllowed, reason } = explainPolicy(text, "p", { source: "ada@example.com", target: "tag:web:22" });
  expect([isAllowed, reason]).toEqual([false, "only sources that meet a posture may, by line 3"]);
});

test("without rules all is allowed, by no line; what the policy does not know is said", () => {
  const open = explainPolicy("{}", "p", { source: "ada@example.com", target: "bob@example.com:22" });
  expect(open).toMatchObject({ isAllowed: true, allowedBy: [] });
  expect(() => explainPolicy("{}", "p", { source: "tag:none", target: "a@b.c:1" })).toThrow(
    'tag not found: "tag:none"',
  );
  expect(() => explainPolicy("{}", "p", { source: "a@b.c", target: "b@b.c" })).toThrow("wanted DST:PORT");
});
