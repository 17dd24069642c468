import type {
  DerpMap,
  DnsConfig,
  FilterRule,
  MapResponse,
  Node,
  PeerChange,
  SshRule,
  UserProfile,
} from "../wire/tailcfg.ts";

/** Everything that one node should know. Members that are the same object as before are known to be equal. */
export interface NetworkView {
  readonly self: Node;
  readonly peers: ReadonlyMap<number, Node>;
  readonly profiles: readonly UserProfile[];
  readonly filter: readonly FilterRule[];
  /** Undefined: the policy does not mention SSH. */
  readonly ssh: readonly SshRule[] | undefined;
  readonly dns: DnsConfig;
  readonly derp: DerpMap;
  readonly domain: string;
}

/** The first message of a stream. */
export function fullMap(view: NetworkView, now: string): MapResponse {
  const peers = [...view.peers.values()].toSorted((a, b) => a.ID - b.ID);
  return {
    Node: view.self,
    DERPMap: view.derp,
    // An empty list would mean "no change".
    ...(peers.length === 0 ? {} : { Peers: peers }),
    DNSConfig: view.dns,
    Domain: view.domain,
    PacketFilters: { base: view.filter },
    ...(view.ssh === undefined ? {} : { SSHPolicy: { rules: view.ssh } }),
    UserProfiles: view.profiles,
    ControlTime: now,
  };
}

/** The smallest message that turns `before` into `after`; undefined when nothing differs. */
export function mapDelta(before: NetworkView, after: NetworkView, now: string): MapResponse | undefined {
  const changed: Node[] = [];
  const patches: PeerChange[] = [];
  for (const peer of after.peers.values()) {
    const old = before.peers.get(peer.ID);
    if (old === peer) continue;
    const patch = old === undefined ? undefined : patchOf(old, peer);
    if (patch === "same") continue;
    if (patch === undefined) changed.push(peer);
    else patches.push(patch);
  }
  const removed = [...before.peers.keys()].filter((id) => !after.peers.has(id));
  const known = new Map(before.profiles.map((profile) => [profile.ID, profile]));
  const profiles = after.profiles.filter((profile) => !isSame(known.get(profile.ID), profile));
  const message: MapResponse = {
    ...(isSame(before.self, after.self) ? {} : { Node: after.self }),
    ...(isSame(before.derp, after.derp) ? {} : { DERPMap: derpDelta(before.derp, after.derp) }),
    ...(removed.length === 0 ? {} : { PeersRemoved: removed.toSorted((a, b) => a - b) }),
    ...(changed.length === 0 ? {} : { PeersChanged: changed.toSorted((a, b) => a.ID - b.ID) }),
    ...(patches.length === 0 ? {} : { PeersChangedPatch: patches.toSorted((a, b) => a.NodeID - b.NodeID) }),
    // A client of 1.103 puts new users into what `status` shows only when it takes the message as a whole, as one with DNS.
    ...(isSame(before.dns, after.dns) && profiles.length === 0 ? {} : { DNSConfig: after.dns }),
    ...(isSame(before.filter, after.filter) ? {} : { PacketFilters: { base: after.filter } }),
    ...(isSame(before.ssh, after.ssh) ? {} : { SSHPolicy: { rules: after.ssh ?? [] } }),
    ...(profiles.length === 0 ? {} : { UserProfiles: profiles }),
  };
  return Object.keys(message).length === 0 ? undefined : { ...message, ControlTime: now };
}

/** A region that went away is sent as null, or the client would keep it. */
function derpDelta(before: DerpMap, after: DerpMap): DerpMap {
  const gone = Object.keys(before.Regions ?? {}).filter((id) => after.Regions?.[id] === undefined);
  return {
    ...after,
    Regions: { ...after.Regions, ...Object.fromEntries(gone.map((id) => [id, null])) },
  };
}

/** The same JSON, whatever the order of members. */
function isSame(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (Array.isArray(a)) {
    return Array.isArray(b) && a.length === b.length && a.every((element, i) => isSame(element, b[i]));
  }
  if (Array.isArray(b)) return false;
  const [before, after] = [a as Readonly<Record<string, unknown>>, b as Readonly<Record<string, unknown>>];
  const members = Object.keys(before);
  return (
    members.length === Object.keys(after).length &&
    members.every((member) => Object.hasOwn(after, member) && isSame(before[member], after[member]))
  );
}

/** Members of `Node` that a `PeerChange` can carry; in it, an absent member means unchanged. */
const PATCHABLE = [
  "Key",
  "DiscoKey",
  "Endpoints",
  "Cap",
  "KeyExpiry",
  "Online",
  "LastSeen",
  "HomeDERP",
  "DERP",
] as const;
const patchable: ReadonlySet<string> = new Set(PATCHABLE);

type Patch = PeerChange | "same" | undefined;

/** Streams share the nodes they show: what turns one into the next is found once for all of them. */
const latest: WeakMap<Node, { readonly after: Node; readonly patch: Patch }> = new WeakMap();

/** Undefined when only the whole node says it (control-protocol §4.5). */
export function patchOf(before: Node, after: Node): Patch {
  const found = latest.get(before);
  if (found?.after === after) return found.patch;
  const patch = computePatch(before, after);
  latest.set(before, { after, patch });
  return patch;
}

function computePatch(before: Node, after: Node): Patch {
  for (const member of Object.keys({ ...before, ...after }) as (keyof Node)[]) {
    if (isSame(before[member], after[member])) continue;
    if (!patchable.has(member)) return undefined;
    // A patch cannot take a member away, except that being online makes the last sight meaningless.
    if (after[member] === undefined && !(member === "LastSeen" && after.Online === true)) return undefined;
  }
  const differs = (member: keyof Node) => !isSame(before[member], after[member]) && after[member] !== undefined;
  const patch: PeerChange = {
    NodeID: after.ID,
    ...(differs("HomeDERP") ? { DERPRegion: after.HomeDERP! } : {}),
    ...(differs("Cap") ? { Cap: after.Cap! } : {}),
    ...(differs("Endpoints") ? { Endpoints: after.Endpoints! } : {}),
    ...(differs("Key") ? { Key: after.Key } : {}),
    ...(differs("DiscoKey") ? { DiscoKey: after.DiscoKey! } : {}),
    ...(differs("Online") ? { Online: after.Online! } : {}),
    ...(differs("LastSeen") ? { LastSeen: after.LastSeen! } : {}),
    ...(differs("KeyExpiry") ? { KeyExpiry: after.KeyExpiry! } : {}),
  };
  return Object.keys(patch).length === 1 ? "same" : patch;
}
