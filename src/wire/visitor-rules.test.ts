import { expect, test } from "vitest";
import { parsePrefix } from "../base/address.ts";
import {
  bothRules,
  checkedSiteRules,
  isWelcome,
  rulesAt,
  rulesBySite,
  siteRules,
  siteRulesOf,
  type VisitorRules,
} from "./visitor-rules.ts";

const SITE = "web.tail.test:443";
const rulesFor = (rule: object): VisitorRules | undefined =>
  rulesAt(rulesBySite(checkedSiteRules([{ sites: [SITE], ...rule }])), "web.tail.test", 443);
const prefixes = (...texts: string[]) => texts.map((text) => parsePrefix(text)!);

test.each<readonly [object, string, boolean]>([
  [{}, "203.0.113.9", true],
  [{ deny: ["203.0.113.0/24"] }, "203.0.113.9", false],
  [{ deny: ["203.0.113.0/24"] }, "203.0.112.9", true],
  [{ deny: ["203.0.113.0/24"] }, "::ffff:203.0.113.9", false],
  [{ deny: ["203.0.113.9"] }, "2001:db8::9", true],
  [{ deny: ["2001:db8::/32"] }, "2001:db8::9", false],
  [{ allow: ["203.0.113.0/24"] }, "203.0.113.9", true],
  [{ allow: ["203.0.113.0/24"] }, "2001:db8::9", false],
  [{ allow: ["203.0.113.0/24"], deny: ["203.0.113.9"] }, "203.0.113.9", false],
  [{ allow: [] }, "203.0.113.9", false],
  [{ deny: [] }, "no address", false],
])("%j and a visitor from %s: welcome %j", (rule, address, isIn) => {
  expect(isWelcome(rulesFor(rule), address)).toBe(isIn);
});

test("what is told is read back the same, in one form", () => {
  const rule = { sites: [SITE], allow: ["203.0.113.0/24", "2001:DB8::/32", "192.0.2.1"], limits: { connections: 5 } };
  const checked = checkedSiteRules([rule]);
  expect(checked).toEqual([{ ...rule, allow: ["203.0.113.0/24", "2001:db8::/32", "192.0.2.1/32"] }]);
  expect(checkedSiteRules(checked)).toEqual(checked);
  expect(siteRules([SITE], rulesFor(rule)!)).toEqual(checked[0]);
  expect(checkedSiteRules(undefined)).toEqual([]);
  expect(rulesFor({ limits: { connections: 5, ofTomorrow: "x" } })).toEqual({ connections: 5 });
});

test.each<readonly [string, unknown]>([
  ["no list", { allow: "203.0.113.9" }],
  ["no address", { allow: ["203.0.113.9", "everybody"] }],
  ["host bits", { allow: ["203.0.113.9/0"] }],
  ["a number", { deny: [7] }],
  ["too many", { deny: Array.from({ length: 257 }, (_, i) => `10.0.${i >> 8}.${i & 255}`) }],
  ["no object", { limits: [1] }],
  ["null", { limits: null }],
  ["text", { limits: { connections: "5" } }],
  ["zero", { limits: { connectionsPerSecond: 0 } }],
  ["a fraction", { limits: { visitorConnections: 0.5 } }],
  ["beyond the range", { limits: { bytesPerSecond: 1e15 } }],
])("a rule with a mistake in it lets nobody in: %s", (_, rule) => {
  expect(isWelcome(rulesFor(rule as object), "203.0.113.9")).toBe(false);
});

test.each<readonly [string, unknown]>([
  ["no list", "allow all"],
  ["no object", [null]],
  ["no sites", [{ allow: ["203.0.113.9"] }]],
  ["no name", [{ sites: ["web tail test:443"] }]],
  ["no port", [{ sites: ["web.tail.test"] }]],
  ["a port beyond", [{ sites: ["web.tail.test:65536"] }]],
  [
    "a site twice",
    [
      { sites: [SITE], allow: ["203.0.113.9"] },
      { sites: [SITE], allow: ["203.0.113.9"] },
    ],
  ],
  ["all sites", [{ sites: ["*"], allow: ["203.0.113.9"] }]],
  ["too many rules", Array.from({ length: 65 }, () => ({ sites: [SITE] }))],
  ["too long", [{ sites: [SITE], deny: Array.from({ length: 10_000 }, (_, i) => `10.0.${i >> 8}.${i & 255}`) }]],
])("rules of which it cannot be told what they are about close everything: %s", (_, value) => {
  const rules = rulesBySite(checkedSiteRules(value));
  expect(isWelcome(rulesAt(rules, "web.tail.test", 443), "203.0.113.9")).toBe(false);
  expect(isWelcome(rulesAt(rules, "other.tail.test", 8443), "203.0.113.9")).toBe(false);
});

test("FN-10 one node's allow lists for one site kept every ingress busy for ever", () => {
  const long = { sites: [SITE], allow: Array.from({ length: 256 }, () => "10.0.0.0/8") };
  const rules = rulesBySite(checkedSiteRules([long, long, long, long]));
  expect(rulesAt(rules, "web.tail.test", 443)).toEqual({ allow: [] });
});

test("rules are looked up by name and port, and under a wildcard", () => {
  const told = [
    { sites: ["*.shop.example.org:443", SITE], limits: { connections: 1 } },
    { sites: ["a.shop.example.org:443"], limits: { connections: 2 } },
    { sites: ["a.shop.example.org:443"], deny: ["203.0.113.9/32"] },
  ];
  const rules = rulesBySite(told);
  expect(rulesAt(rules, "b.shop.example.org", 443)).toEqual({ connections: 1 });
  expect(rulesAt(rules, "a.shop.example.org", 443)).toEqual({ connections: 2, deny: prefixes("203.0.113.9") });
  expect(rulesAt(rules, "a.shop.example.org", 8443)).toBeUndefined();
  expect(rulesAt(rules, "shop.example.org", 443)).toBeUndefined();
  const sitesOf = (name: string): string[] => siteRulesOf(told, name).flatMap(({ sites }) => sites);
  expect(sitesOf("web.tail.test")).toEqual([SITE]);
  expect(sitesOf("*.shop.example.org")).toEqual(told.flatMap(({ sites }) => sites).filter((site) => site !== SITE));
  expect(sitesOf("b.shop.example.org")).toEqual(["*.shop.example.org:443"]);
  expect(sitesOf("example.org")).toEqual([]);
  expect(siteRulesOf(told, "web.tail.test", [443, 8443])).toEqual([{ sites: [SITE], limits: { connections: 1 } }]);
  expect(siteRulesOf(told, "web.tail.test", [8443])).toEqual([]);
});

test.each<readonly [VisitorRules | undefined, VisitorRules | undefined, VisitorRules | undefined]>([
  [undefined, undefined, undefined],
  [{ connections: 1 }, undefined, { connections: 1 }],
  [{ connections: 1, bytesPerSecond: 5000 }, { connections: 2 }, { connections: 1, bytesPerSecond: 5000 }],
  [{ deny: prefixes("10.0.0.1") }, { deny: prefixes("10.0.0.2") }, { deny: prefixes("10.0.0.1", "10.0.0.2") }],
  [{ allow: prefixes("10.0.0.0/8") }, {}, { allow: prefixes("10.0.0.0/8") }],
  [{ allow: prefixes("10.0.0.0/8") }, { allow: prefixes("10.1.0.0/16") }, { allow: prefixes("10.1.0.0/16") }],
  [{ allow: prefixes("10.1.0.0/16") }, { allow: prefixes("0.0.0.0/0", "::/0") }, { allow: prefixes("10.1.0.0/16") }],
  [{ allow: prefixes("10.0.0.0/8") }, { allow: prefixes("192.0.2.0/24") }, { allow: [] }],
])("both %j and %j", (one, other, both) => {
  expect(bothRules(one, other)).toEqual(both);
});
