import { parsePrefix } from "../../base/address.ts";
import { type AddressRange, rangeOfPrefix } from "../../wire/address-set.ts";
import type { PolicyNode } from "../policy-engine.ts";
import { overlap, rangeOfAddress } from "./ranges.ts";
import { isLogin, type Names, type Selector } from "./selector.ts";

/** All addresses of the mesh; the hole in the middle belongs to ChromeOS (data-plane sheet 8). */
export const MESH_SOURCES: readonly string[] = [
  "100.64.0.0-100.115.91.255",
  "100.115.94.0-100.127.255.255",
  "fd7a:115c:a1e0::/48",
];

export function rangesOf(node: PolicyNode): readonly AddressRange[] {
  return node.addresses.map(rangeOfAddress).filter((range) => range !== undefined);
}

export function virtualRanges({ services = {} }: PolicyNode): readonly AddressRange[] {
  return Object.values(services).flatMap((texts) => texts.map(rangeOfAddress).filter((range) => range !== undefined));
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
      if (selector.name === "tagged") return isTagged(node);
      return selector.name === "danger-all" || (!isTagged(node) && node.roles?.includes(selector.name) === true);
    case "service":
      return node.services !== undefined && Object.hasOwn(node.services, selector.name);
    case "ipset":
      return rangesOf(node).some((own) => selector.ranges.some((range) => overlap(own, range)));
    case "range":
      return rangesOf(node).some((range) => overlap(range, selector.range));
  }
}
