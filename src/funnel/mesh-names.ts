import { type AddressPort, parseAddress } from "../base/address.ts";
import { claimsOf, isPortClaim, leasedPorts } from "../wire/claims.ts";
import { type PublicNameClaim, publicNameClaims } from "../wire/funnel.ts";
import { plainName } from "../wire/host-name.ts";
import type { NetworkMap } from "../wire/network-map.ts";
import type { Node } from "../wire/tailcfg.ts";
import { rulesBySite } from "../wire/visitor-rules.ts";
import type { Lease } from "./lease-table.ts";
import type { PublicName } from "./public-names.ts";

/**
 * Every name that the server says is public, by the nodes that have them. `hostinfoPorts`: where the server has no word for
 * it (Headscale), a node that says of itself that it wants visitors is public under its name, on these ports; it decides
 * itself what it takes.
 */
export function publicNamesOf(
  map: NetworkMap,
  hostinfoPorts: readonly number[] = [],
  isHere: IsHere = isOnline,
): readonly PublicName[] {
  const own = map.self.Addresses.map(addressOf);
  return [...map.peers.values()].flatMap((node) => {
    const claims = publicNameClaims(node.CapMap);
    const isWilling = hostinfoPorts.length > 0 && node.Hostinfo?.IngressEnabled === true;
    const said: PublicNameClaim[] = isWilling ? [{ name: plainName(node.Name), ports: hostinfoPorts }] : [];
    return [...claims, ...said].map(({ name, ports, rules, except }) => ({
      ...{
        name,
        ports: new Set(ports),
        owner: node.StableID,
        peerApi: isHere(node) ? peerApiOf(node, own) : undefined,
      },
      ...(rules === undefined ? {} : { rules: rulesBySite(rules) }),
      ...(except === undefined ? {} : { except: new Set(except) }),
    }));
  });
}

/** Every raw port that is let, likewise; where the server has no word for it, the nodes' own claims count. */
export function leasesOf(map: NetworkMap, isHostinfoTrusted: boolean, isHere: IsHere = isOnline): readonly Lease[] {
  const own = map.self.Addresses.map(addressOf);
  return [...map.peers.values()].flatMap((node) => {
    const name = plainName(node.Name);
    const isWilling = isHostinfoTrusted && node.Hostinfo?.IngressEnabled === true;
    const said = isWilling ? claimsOf(node.Hostinfo).filter(isPortClaim).map(Number) : [];
    return [...new Set([...leasedPorts(node.CapMap), ...said])].map((port) => ({
      ...{
        name,
        port,
        ports: new Set([port]),
        owner: node.StableID,
        peerApi: isHere(node) ? peerApiOf(node, own) : undefined,
      },
    }));
  });
}

type IsHere = (node: Node) => boolean;
const isOnline: IsHere = ({ Online }) => Online !== false;

/** Where the node takes deliveries, over a family that both of us have. */
function peerApiOf(node: Node, own: readonly string[]): AddressPort | undefined {
  if (node.Expired === true) return undefined;
  for (const [proto, bytes] of [
    ["peerapi4", 4],
    ["peerapi6", 16],
  ] as const) {
    const isOfFamily = (address: string): boolean => parseAddress(address)?.length === bytes;
    const address = node.Addresses.map(addressOf).find(isOfFamily);
    const port = node.Hostinfo?.Services?.find(({ Proto }) => Proto === proto)?.Port;
    if (address !== undefined && port !== undefined && own.some(isOfFamily)) return { address, port };
  }
  return undefined;
}

const addressOf = (prefix: string): string => prefix.split("/")[0] ?? "";
