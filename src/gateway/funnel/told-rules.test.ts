import { expect, test } from "vitest";
import { parsePrefix } from "../../base/address.ts";
import type { VisitorRules } from "../../wire/visitor-rules.ts";
import { toldRules } from "./told-rules.ts";

const AllowFunnel = { "gw.tail.test:443": true, "*.example.org:443": true, "gw.tail.test:8443": false };

test("the sites that are public, those of the same rules together", () => {
  const rules: VisitorRules = { deny: [parsePrefix("203.0.113.0/24")!], connections: 5 };
  expect(toldRules({ AllowFunnel }, () => rules)).toEqual([
    { sites: ["gw.tail.test:443", "*.example.org:443"], deny: ["203.0.113.0/24"], limits: { connections: 5 } },
  ]);
  expect(toldRules({ AllowFunnel }, ({ name }) => (name.startsWith("*") ? { connections: 1 } : undefined))).toEqual([
    { sites: ["*.example.org:443"], limits: { connections: 1 } },
  ]);
  expect(toldRules({}, () => rules)).toEqual([]);
  expect(toldRules({ AllowFunnel: { ":443": true } }, () => rules)).toEqual([]); // no map yet: we have no name
});

test("what the server would not take is not told, and the rest is", () => {
  const sites = Array.from({ length: 100 }, (_, i) => [`gw.tail.test:${i + 1}`, true] as const);
  const many = Array.from({ length: 256 }, (_, i) => parsePrefix(`2001:db8:${i}:ffff:ffff:ffff:ffff:ffff`)!);
  const told = toldRules({ AllowFunnel: Object.fromEntries(sites) }, ({ port }) => ({ deny: many, connections: port }));
  expect(told.length).toBeGreaterThan(1);
  expect(told.length).toBeLessThan(10);
  expect(JSON.stringify(told).length).toBeLessThan(32_768);
});
