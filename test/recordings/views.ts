import type { NetworkMap } from "../../src/wire/network-map.ts";
import type { Node } from "../../src/wire/tailcfg.ts";
import type { SeenNode, StatusSeen } from "./recording.ts";

/** A node as `tailscale status --json` shows it, from whichever side. */
export interface Shown {
  readonly key: string;
  readonly name: string;
  readonly user: number;
  readonly addresses: readonly string[];
  /** Beside its own addresses. */
  readonly routes: readonly string[];
  readonly tags: readonly string[];
  readonly online: boolean;
  readonly expired: boolean;
  readonly relay: string;
}

const beside = (allowed: readonly string[], own: readonly string[]): readonly string[] =>
  allowed.filter((prefix) => !own.includes(prefix.split("/")[0]!)).toSorted();

function shownNode(node: Node, map: NetworkMap, now: number): Shown {
  const addresses = node.Addresses.map((prefix) => prefix.split("/")[0]!);
  return {
    key: node.Key,
    name: node.Name,
    user: node.User,
    addresses,
    routes: beside(node.AllowedIPs ?? node.Addresses, addresses),
    tags: node.Tags ?? [],
    online: node.Online === true,
    expired: node.Expired === true || isPast(node.KeyExpiry, now),
    relay: map.derpMap.Regions?.[node.HomeDERP ?? 0]?.RegionCode ?? "",
  };
}

/** The zero time is no time. */
const isPast = (time: string | undefined, now: number): boolean =>
  time !== undefined && !time.startsWith("0001-") && Date.parse(time) <= now;

/** What a client would show of its peers by this map, in the order of `like`. */
export function shownOf(map: NetworkMap | undefined, now: number, like: StatusSeen): readonly Shown[] {
  const order = like.Peers.map(({ PublicKey }) => PublicKey);
  return [...(map?.peers.values() ?? [])]
    .toSorted((a, b) => order.indexOf(a.Key) - order.indexOf(b.Key))
    .map((node) => shownNode(node, map!, now));
}

/** What the stock client showed. */
export function shownByStock({ Peers }: StatusSeen): readonly Shown[] {
  return Peers.map(shownStock);
}

function shownStock(node: SeenNode): Shown {
  const addresses = node.TailscaleIPs ?? [];
  return {
    key: node.PublicKey,
    name: node.DNSName,
    user: node.UserID,
    addresses,
    routes: beside(node.AllowedIPs ?? [], addresses),
    tags: node.Tags ?? [],
    online: node.Online,
    expired: node.Expired === true,
    relay: node.Relay,
  };
}
