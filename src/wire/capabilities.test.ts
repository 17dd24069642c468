import { expect, test } from "vitest";
import { capabilitiesOf } from "./capabilities.ts";
import type { FilterRule } from "./tailcfg.ts";

const DASH = "example.com/cap/dash";
const rules: FilterRule[] = [
  { SrcIPs: ["100.64.0.7"], CapGrant: [{ Dsts: ["100.64.0.9/32"], CapMap: { [DASH]: [{ role: "admin" }] } }] },
  { SrcIPs: ["*"], DstPorts: [{ IP: "*", Ports: { First: 0, Last: 65535 } }] },
  {
    SrcIPs: ["100.64.0.0-100.64.0.8"],
    CapGrant: [{ Dsts: ["100.64.0.0/24"], CapMap: { [DASH]: [{ role: "admin" }, 2] } }],
  },
  { SrcIPs: ["cap:example.com/x"], CapGrant: [{ Dsts: ["100.64.0.9/32"], CapMap: { secret: null } }] },
  { SrcIPs: ["fd7a::/16"], CapGrant: [{ Dsts: ["fd7a::9/128"], Caps: ["old"] }] },
];

test.each([
  ["100.64.0.7", "100.64.0.9", { [DASH]: [{ role: "admin" }, { role: "admin" }, 2] }],
  ["100.64.0.8", "100.64.0.9", { [DASH]: [{ role: "admin" }, 2] }],
  ["100.64.0.9", "100.64.0.9", {}],
  ["100.64.0.7", "100.64.1.9", {}],
  ["fd7a::1", "fd7a::9", { old: null }],
  ["nonsense", "100.64.0.9", {}],
])("%s holds at %s: %j", (source, destination, wanted) => {
  expect({ ...capabilitiesOf(rules, source, destination) }).toEqual(wanted);
});

test("a capability called __proto__ is a name like another", () => {
  const grant = JSON.parse('{"Dsts": ["100.64.0.9/32"], "CapMap": {"__proto__": [{"role": "admin"}]}}');
  const held = capabilitiesOf([{ SrcIPs: ["*"], CapGrant: [grant] }], "100.64.0.1", "100.64.0.9");
  expect(Object.keys(held)).toEqual(["__proto__"]);
  expect((held as { role?: string }).role).toBeUndefined();
});
