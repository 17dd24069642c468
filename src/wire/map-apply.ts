import { Fault } from "../base/fault.ts";
import type { NetworkMap } from "./network-map.ts";
import type { DerpMap, FilterRule, MapResponse, Node, PeerChange, UserProfile } from "./tailcfg.ts";

/** The sum of what the server has said about filters, by name: `NetworkMap` itself keeps only their concatenation. */
const filtersOf: WeakMap<NetworkMap, ReadonlyMap<string, readonly FilterRule[]>> = new WeakMap();

const NO_TIME_PREFIX = "0001-01-01T";

/**
 * The map after one more message of the same stream (upstream control/controlclient/map.go). `previous` is undefined
 * for the first message of a stream, which must carry the self node. Absent and null members change nothing.
 * A keep-alive returns the map as it is.
 */
export function applyMapResponse(previous: NetworkMap | undefined, response: MapResponse, nowIso: string): NetworkMap {
  const self = response.Node ?? previous?.self;
  if (self === undefined) {
    throw new Fault(
      "CONTROL_NO_SELF",
      "Cannot start the network map: found no Node in the first message, wanted our own",
    );
  }
  if (previous !== undefined && response.KeepAlive === true) return previous;
  const filters = mergeFilters((previous && filtersOf.get(previous)) ?? new Map(), response);
  const isFilterSame = previous !== undefined && filters === filtersOf.get(previous);
  const map: NetworkMap = {
    self,
    peers: mergePeers(previous?.peers ?? new Map(), response, nowIso),
    users: mergeUsers(previous?.users ?? new Map(), response.UserProfiles),
    derpMap: mergeDerp(previous?.derpMap ?? { Regions: {} }, response.DERPMap),
    dns: response.DNSConfig ?? previous?.dns ?? {},
    packetFilter: isFilterSame ? previous.packetFilter : concatenate(filters),
    domain: response.Domain || (previous?.domain ?? ""),
    health: response.Health ?? previous?.health ?? [],
  };
  filtersOf.set(map, filters);
  return map;
}

type Peers = ReadonlyMap<number, Node>;

function mergePeers(previous: Peers, response: MapResponse, nowIso: string): Peers {
  // A full list suppresses every other peer member of its message; an empty one says nothing.
  if (response.Peers != null && response.Peers.length > 0) return new Map(byId(response.Peers));
  const { PeersRemoved, PeersChanged, PeerSeenChange, OnlineChange, PeersChangedPatch } = response;
  if (!(PeersRemoved ?? PeersChanged ?? PeerSeenChange ?? OnlineChange ?? PeersChangedPatch)) return previous;
  const peers = new Map(previous);
  for (const id of PeersRemoved ?? []) peers.delete(id);
  for (const [id, node] of byId(PeersChanged ?? [])) peers.set(id, node);
  const edit = (id: number, change: (node: Node) => Node) => {
    const node = peers.get(id);
    if (node !== undefined) peers.set(id, change(node)); // changes of unknown peers are legal and mean nothing
  };
  for (const [id, isSeen] of Object.entries(PeerSeenChange ?? {})) {
    edit(Number(id), ({ LastSeen: _, ...node }) => (isSeen ? { ...node, LastSeen: nowIso } : node));
  }
  for (const [id, isOnline] of Object.entries(OnlineChange ?? {})) {
    edit(Number(id), (node) => ({ ...node, Online: isOnline }));
  }
  for (const change of PeersChangedPatch ?? []) {
    if (change != null) edit(change.NodeID, (node) => patch(node, change));
  }
  return peers;
}

function byId(nodes: readonly Node[]): [number, Node][] {
  return nodes.filter((node) => node != null).map((node) => [node.ID, node]);
}

function patch(node: Node, change: PeerChange): Node {
  if (isStaleDisco(node, change)) return node;
  return {
    ...node,
    ...(change.DERPRegion ? { HomeDERP: change.DERPRegion } : {}),
    ...(change.Cap ? { Cap: change.Cap } : {}),
    ...(change.CapMap != null ? { CapMap: change.CapMap } : {}),
    ...(change.Endpoints != null ? { Endpoints: change.Endpoints } : {}),
    ...(change.Key ? { Key: change.Key } : {}),
    ...(change.DiscoKey ? { DiscoKey: change.DiscoKey } : {}),
    ...(change.Online != null ? { Online: change.Online } : {}),
    ...(change.LastSeen != null ? { LastSeen: change.LastSeen } : {}),
    ...(change.KeyExpiry != null ? { KeyExpiry: change.KeyExpiry } : {}),
  };
}

/** Upstream drops a disco key that comes with the news of an older departure. */
function isStaleDisco(node: Node, change: PeerChange): boolean {
  if (!change.DiscoKey || change.Online !== false || change.LastSeen == null || node.LastSeen === undefined)
    return false;
  return Date.parse(change.LastSeen) <= Date.parse(node.LastSeen);
}

function mergeUsers(
  previous: ReadonlyMap<number, UserProfile>,
  profiles: readonly UserProfile[] | null | undefined,
): ReadonlyMap<number, UserProfile> {
  if (profiles == null || profiles.length === 0) return previous;
  const users = new Map(previous);
  for (const profile of profiles) users.set(profile.ID, profile);
  return users;
}

function mergeDerp(previous: DerpMap, next: DerpMap | null | undefined): DerpMap {
  if (next == null) return previous;
  const score = next.HomeParams?.RegionScore;
  const homeParams = score == null ? previous.HomeParams : next.HomeParams;
  // Whole regions replace those of before; a null one goes; no regions at all = those of before.
  const regions = Object.entries(next.Regions ?? previous.Regions ?? {}).filter(([, region]) => region != null);
  return {
    Regions: Object.fromEntries(regions),
    ...(homeParams == null ? {} : { HomeParams: homeParams }),
    ...(next.OmitDefaultRegions === undefined ? {} : { OmitDefaultRegions: next.OmitDefaultRegions }),
  };
}

type Filters = ReadonlyMap<string, readonly FilterRule[]>;

function mergeFilters(previous: Filters, { PacketFilter, PacketFilters }: MapResponse): Filters {
  if (PacketFilter == null && PacketFilters == null) return previous;
  const filters = new Map(previous);
  if (PacketFilter != null) filters.set("base", PacketFilter);
  if (PacketFilters != null && Object.hasOwn(PacketFilters, "*") && PacketFilters["*"] === null) filters.clear();
  for (const [name, rules] of Object.entries(PacketFilters ?? {})) {
    if (rules != null) filters.set(name, rules);
    else if (name !== "*") filters.delete(name);
  }
  return filters;
}

function concatenate(filters: Filters): readonly FilterRule[] {
  return [...filters.keys()].sort().flatMap((name) => filters.get(name) ?? []);
}

/** When a node's key ends, in Unix ms; `Infinity` = never, which absent and the zero time mean. */
export function keyExpiryMs(node: Node): number {
  const text = node.KeyExpiry;
  if (text === undefined || text === "" || text.startsWith(NO_TIME_PREFIX)) return Infinity;
  const ms = Date.parse(text);
  return Number.isNaN(ms) ? Infinity : ms;
}
