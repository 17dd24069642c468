import { expect, test } from "vitest";
import { mapNode } from "../../test/suites/network-map.ts";
import type { Node } from "../wire/tailcfg.ts";
import { serviceAddresses, servicePrefixes, servicesHash } from "./hosted-services.ts";

const self = (...values: readonly unknown[]): Node => mapNode(1, { CapMap: { "service-host": values } });
const WEB = { "svc:web": ["100.64.0.5", "fd7a:115c:a1e0::5"], "svc:db": ["100.64.0.6"] };

test("the addresses of the services that the server approved here", () => {
  expect([...serviceAddresses(self(WEB))]).toEqual([
    ["100.64.0.5", "svc:web"],
    ["fd7a:115c:a1e0::5", "svc:web"],
    ["100.64.0.6", "svc:db"],
  ]);
  expect(servicePrefixes(self(WEB)).map(({ bits }) => bits)).toEqual([32, 128, 32]);
});

test.each<[string, readonly unknown[]]>([
  ["none", []],
  ["two", [WEB, WEB]],
  ["null", [null]],
  ["a text", ["svc:web"]],
  ["a list", [[]]],
  ["addresses that are none", [{ "svc:web": ["x", 5, null, "100.64.0.0/10"], "svc:db": "100.64.0.6" }]],
])("CC-5 of %s as the value, no address is taken", (_, values) => {
  expect(serviceAddresses(self(...values)).size).toBe(0);
});

test("a node without services has no hash", () => {
  expect(servicesHash([])).toBe("");
});
