import { type AddressBytes, parseAddress, parsePrefix, prefixContains } from "../base/address.ts";
import { AddressSet, parseRanges } from "./address-set.ts";
import type { CapMap, FilterRule } from "./tailcfg.ts";

/**
 * What `source` may do with `destination`, by the capability grants of a packet filter: values in the order of the
 * rules, duplicates kept, `cap:` sources not considered (upstream `wgengine/filter/filter.go:CapsWithValues`).
 * An address that is none holds nothing.
 */
export function capabilitiesOf(
  rules: readonly FilterRule[],
  source: AddressBytes | string,
  destination: AddressBytes | string,
): CapMap {
  const from = bytesOf(source);
  const to = bytesOf(destination);
  // Capability names come from the network: no prototype, so that `__proto__` is a name like another.
  const held: Record<string, unknown[] | null> = Object.create(null);
  if (from === undefined || to === undefined) return held;
  for (const { SrcIPs, CapGrant } of rules) {
    if (CapGrant === undefined || CapGrant === null || !isAmong(SrcIPs, from)) continue;
    for (const grant of CapGrant) {
      if (!grant.Dsts?.some((text) => covers(text, to))) continue;
      for (const [name, values] of Object.entries(grant.CapMap ?? {})) add(held, name, values);
      for (const name of grant.Caps ?? []) add(held, name, null);
    }
  }
  return held;
}

/** The values that a node has of `name`; `undefined` where it has none of this name, whatever an object's prototype has. */
export function capabilityValues(capMap: CapMap | undefined, name: string): readonly unknown[] | undefined {
  return capMap !== undefined && Object.hasOwn(capMap, name) ? (capMap[name] ?? []) : undefined;
}

function add(held: Record<string, unknown[] | null>, name: string, values: readonly unknown[] | null): void {
  const before = held[name];
  held[name] = values === null || values.length === 0 ? (before ?? null) : [...(before ?? []), ...values];
}

function bytesOf(address: AddressBytes | string): AddressBytes | undefined {
  return typeof address === "string" ? parseAddress(address) : address;
}

function isAmong(sources: readonly string[] | null | undefined, address: AddressBytes): boolean {
  return (sources ?? []).some((text) => {
    const ranges = parseRanges(text);
    return ranges !== undefined && new AddressSet(ranges).has(address);
  });
}

function covers(text: string, address: AddressBytes): boolean {
  const prefix = parsePrefix(text);
  return prefix !== undefined && prefixContains(prefix, address);
}
