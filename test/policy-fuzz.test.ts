import { expect, test } from "vitest";
import { Fault } from "../src/base/fault.ts";
import { compilePolicy } from "../src/coordination/policy/policy.ts";
import type { PolicyNode } from "../src/coordination/policy-engine.ts";
import { chooser, randomSample } from "./policy-samples.ts";

/** The suite runs few, `SALLYPORT_POLICY_SAMPLES=10000` as many as one wants. */
const SAMPLES = Number(process.env["SALLYPORT_POLICY_SAMPLES"] ?? 1000);

/** Members that the samples lack, so that the mutations reach their readers too. */
const MORE = {
  nodeAttrs: [{ target: ["*"], attr: ["a"], app: { "a.test/b": [{}] }, ipPool: ["100.81.0.0/16"] }],
  autoApprovers: { routes: { "10.0.0.0/8": ["tag:web"] }, exitNode: ["tag:web"], services: { "svc:a": ["tag:web"] } },
  ssh: [
    { action: "check", src: ["autogroup:member"], dst: ["tag:web"], users: ["root", "localpart:*@example.com"] },
    { action: "accept", src: ["autogroup:member"], dst: ["autogroup:self"], users: ["root"], checkPeriod: "12h" },
  ],
  attrConfig: { "custom:a": { type: "string" } },
  defaultSrcPosture: ["posture:linux"],
  disableIPv4: true,
  oneCGNATRoute: "mac-always",
};
/** Most of these fail, and hide what else is there. */
const TESTS = {
  tests: [{ src: "ada@example.com", accept: ["tag:web:22"], deny: [], proto: "tcp", srcPostureAttrs: { "a:b": 1 } }],
  sshTests: [{ src: "ada@example.com", dst: ["tag:web"], accept: [], deny: ["x"], check: ["root"] }],
};

const WORDS = ["*", "", "tag:", "tag:nope", "group:", "autogroup:self", "autogroup:internet", "autogroup:", "ipset:a"]
  .concat(["ipset:b", "svc:", "svc:app", "user:*@", "user:*@x", "::", "[::1]", "0.0.0.0/0", "1.2.3.4/33", "a@", "@"])
  .concat(["*:*", "*:", ":", "[]:1", "__proto__", "constructor", "toString", "hasOwnProperty:1", "posture:linux"])
  .concat([
    "node:os ==",
    "node:os IN []",
    "add ",
    "remove *",
    "9999999999h",
    "1e9h",
    "-1m",
    "\u0000",
    "\ud800",
    "localpart:*@",
  ])
  .concat(["tcp:99999999999999999999", "443-", "-443", "1-2-3", "256", "00", "add ipset:b"]);
const THINGS: readonly unknown[] = [null, true, false, 0, -1, 1e308, [], {}, [[]], [null], { "": null }];

type Json = unknown;

/** One place in the document becomes another thing, moves, doubles or goes. */
function mutated(document: Json, below: (n: number) => number): Json {
  const pick = <T>(list: readonly T[]): T => list[below(list.length)]!;
  const other = (value: Json): Json => {
    if (typeof value === "string" && below(3) === 0) {
      const at = below(value.length + 1);
      return value.slice(0, at) + pick(WORDS) + value.slice(at + below(3));
    }
    return below(3) === 0 ? pick(THINGS) : pick(WORDS);
  };
  const visit = (value: Json): Json => {
    if (below(8) === 0) return other(value);
    if (Array.isArray(value)) {
      if (value.length === 0 || below(6) === 0) return [...value, other("")];
      const at = below(value.length);
      if (below(8) === 0) return value.toSpliced(at, 1);
      if (below(8) === 0) return [...value, value[at]];
      return value.with(at, visit(value[at]));
    }
    if (typeof value !== "object" || value === null) return other(value);
    const entries = Object.entries(value);
    if (entries.length === 0 || below(8) === 0) return Object.fromEntries([...entries, [pick(WORDS), other("")]]);
    const at = below(entries.length);
    const [name, held] = entries[at]!;
    if (below(8) === 0) return Object.fromEntries(entries.toSpliced(at, 1));
    return Object.fromEntries(entries.with(at, below(8) === 0 ? [pick(WORDS), held] : [name, visit(held)]));
  };
  return visit(document);
}

test("CS-9: whatever stands in a policy, it is used or refused with a place", () => {
  const outcomes = { used: 0, refused: 0 };
  for (let seed = 1; seed <= SAMPLES; seed++) {
    const below = chooser(seed * 7919);
    const { policy, members } = randomSample(1 + (seed % 50));
    let document: Json = { ...policy, ...(below(2) === 0 ? MORE : {}), ...(below(6) === 0 ? TESTS : {}) };
    for (let i = 1 + below(2); i > 0; i--) document = mutated(document, below);
    let text = JSON.stringify(document);
    if (below(10) === 0)
      text = text.slice(0, below(text.length)) + pickCharacter(below) + text.slice(below(text.length));
    const nodes: readonly PolicyNode[] = members;
    const context = below(2) === 0 ? { nodes, users: ["ada@example.com", "bob@example.com", "eve@example.org"] } : {};
    try {
      const engine = compilePolicy(text, context);
      for (const node of nodes) {
        engine.filterFor(node, nodes);
        engine.visibleTo(node, nodes);
        for (const other of nodes) engine.routesFor(node, other, nodes);
        engine.attributesFor(node, nodes);
        engine.sshFor(node, nodes);
        engine.autoApproves(node, "10.0.0.0/8");
        engine.autoApprovesService(node, "svc:a");
        engine.poolsFor(node);
      }
      engine.mayTag("ada@example.com", "tag:web");
      outcomes.used++;
    } catch (thrown) {
      if (!(thrown instanceof Fault) || !(thrown.line! > 0) || !(thrown.column! > 0)) {
        throw new Error(`seed ${seed}: ${text}`, { cause: thrown });
      }
      outcomes.refused++;
    }
  }
  expect(Math.min(outcomes.used, outcomes.refused)).toBeGreaterThan(SAMPLES / 20);
}, 600_000);

function pickCharacter(below: (n: number) => number): string {
  return '{}[]",:/*\\\n x0'[below(14)]!;
}
