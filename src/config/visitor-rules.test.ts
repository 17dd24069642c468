import { expect, test } from "vitest";
import { parsePrefix } from "../base/address.ts";
import { nodeServeConfig, visitorRules } from "./node-serve-config.ts";
import { parseServices, type ServicesConfig } from "./services.ts";

const services = (funnel: string): ServicesConfig =>
  parseServices(
    `{"version":"0.0.1","node":{"endpoints":{"tcp:443":{"target":"text:x",\n"funnel":${funnel}}}}}`,
    "s.hujson",
  );

test("who may come, and how many, belongs to the port", () => {
  const config = services(
    `{ "allow": ["203.0.113.0/24", "2001:db8::1"], "deny": ["203.0.113.9"], "limits": { "connections": 100, "bytesPerSecond": 5000 } }`,
  );
  expect(nodeServeConfig(config, "gw.tail.test").AllowFunnel).toEqual({ "gw.tail.test:443": true });
  expect(visitorRules(config, 443)).toEqual({
    allow: [parsePrefix("203.0.113.0/24"), parsePrefix("2001:db8::1")],
    deny: [parsePrefix("203.0.113.9")],
    connections: 100,
    bytesPerSecond: 5000,
  });
  expect(visitorRules(config, 8443)).toBeUndefined();
  expect(config.warnings).toEqual([]);
});

test.each([
  ["true", undefined, true],
  ["false", undefined, false],
  ["{}", {}, true],
])("funnel: %s", (funnel, rules, isWarned) => {
  const config = services(funnel);
  expect(visitorRules(config, 443)).toEqual(rules);
  expect(config.warnings).toHaveLength(isWarned ? 1 : 0);
});

test.each([
  [`{ "allow": ["everybody"] }`, "found no IP address and no block of them without host bits"],
  [`{ "allow": ["203.0.113.7/24"] }`, "without host bits"],
  [`{ "allow": [] }`, "found an empty list, wanted at least one address"],
  [`{ "deny": "203.0.113.7" }`, "expected array"],
  [`{ "limits": { "connections": 0 } }`, "wanted a whole number from 1 to 1000000"],
  [`{ "limits": { "bytesPerSecond": 10 } }`, "wanted a whole number from 1000 to 1000000000000"],
  [`{ "limits": { "connectionsPerSecond": "5" } }`, "wanted a whole number from 1 to 1000000"],
  [`{ "limits": { "connexions": 5 } }`, 'found unknown member "connexions"'],
  [`{ "alow": ["203.0.113.7"] }`, 'found unknown member "alow"'],
  [
    `{ "deny": [${Array.from({ length: 257 }, (_, i) => `"10.0.${i >> 8}.${i & 255}"`)}] }`,
    "found more than 256 addresses and blocks",
  ],
  [`"yes"`, ""],
])("refused with its place: funnel %s", (funnel, why) => {
  expect(() => services(funnel)).toThrow(why);
  expect(() => services(funnel)).toThrow(/^Cannot use "s\.hujson": line 2, column \d+: node \/ endpoints \/ tcp:443 /);
});
