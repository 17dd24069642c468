import { parseAddress, parsePrefix } from "../../base/address.ts";
import { type AddressRange, addressNumber, rangeOfPrefix } from "../../wire/address-set.ts";
import type { PolicyNode } from "../policy-engine.ts";
import { isLogin, type Names, type Selector } from "./selector.ts";

/** All addresses of the mesh; the hole in the middle belongs to ChromeOS (data-plane sheet 8). */
export const MESH_SOURCES: readonly string[] = [
  "100.64.0.0-100.115.91.255",
  "100.115.94.0-100.127.255.255",
  "fd7a:115c:a1e0::/48",
];

export function rangeOfAddress(text: string): AddressRange | undefined {
  const address = parseAddress(text.split("/")[0] ?? "");
  if (address === undefined) return undefined;
  const value = addressNumber(address);
  return { bits: address.length === 4 ? 32 : 128, low: value, high: value };
}

export function rangesOf(node: PolicyNode): readonly AddressRange[] {
  return node.addresses.map(rangeOfAddress).filter((range) => range !== undefined);
}

/** Approved routes but for the default ones, which make an exit node and no subnet router. */
export function subnetRoutes(node: PolicyNode): readonly string[] {
  return node.routes.filter((route) => (parsePrefix(route)?.bits ?? 0) > 0);
}

export function routeRanges(node: PolicyNode): readonly AddressRange[] {
  return subnetRoutes(node).map((route) => rangeOfPrefix(parsePrefix(route)!));
}

export function isExitNode(node: PolicyNode): boolean {
  return node.routes.some((route) => parsePrefix(route)?.bits === 0);
}

export function overlap(a: AddressRange, b: AddressRange): boolean {
  return a.bits === b.bits && a.low <= b.high && b.low <= a.high;
}

export const isTagged = (node: PolicyNode): boolean => node.tags.length > 0;

/** True when `selector` names `node` itself, not its address. Users own only nodes that have no tag. */
export function names(selector: Selector, node: PolicyNode, { groups }: Names): boolean {
  switch (selector.kind) {
    case "any":
      return true;
    case "user":
      return !isTagged(node) && isLogin(selector.login, node.user);
    case "domain":
      return !isTagged(node) && node.user?.endsWith(`@${selector.domain}`) === true;
    case "group":
      return !isTagged(node) && (groups.get(selector.name) ?? []).some((login) => isLogin(login, node.user));
    case "tag":
      return node.tags.includes(selector.name);
    case "autogroup":
      if (selector.name === "member") return !isTagged(node);
      return selector.name === "tagged" ? isTagged(node) : selector.name === "danger-all";
    case "range":
      return rangesOf(node).some((range) => overlap(range, selector.range));
  }
}
