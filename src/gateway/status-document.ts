import { formatAddress, parsePrefix } from "../base/address.ts";
import type { MeshNode, PeerStatus as MeshPeerStatus } from "../mesh/node.ts";
import { peerApiPort } from "../mesh/peerapi.ts";
import type { BackendState, IpnStatus, PeerStatus, StatusUser, WhoIsResponse } from "../wire/ipn.ts";
import { ZERO_TIME } from "../wire/ipn.ts";
import type { NetworkMap } from "../wire/network-map.ts";
import type { CapMap, Node, UserProfile } from "../wire/tailcfg.ts";

export const VERSION: string = "1.80.0-sallyport";

/** How upstream writes that there is none (`types/key/node.go`: the zero key). */
const NO_NODE_KEY = `nodekey:${"0".repeat(64)}`;

/** What upstream's clients call the state of a node. */
export function backendState(node: MeshNode): BackendState {
  switch (node.state.kind) {
    case "needs-login":
    case "expired":
    case "removed":
    case "logged-out":
      return "NeedsLogin";
    case "stopped":
    case "closed":
      return "Stopped";
    case "connecting":
    case "backing-off":
    case "running":
      // After `down` the map of before has no peers any more: not up until the next one.
      return node.map === undefined || node.isCutOff ? "Starting" : "Running";
  }
}

/** `ipnstate.Status` (serve-and-funnel.md 7.5). */
export function statusDocument(node: MeshNode, withPeers: boolean): IpnStatus {
  const { map, state } = node;
  const suffix = map === undefined ? "" : suffixOf(map.self.Name);
  const peers = withPeers ? node.peerStatus() : undefined;
  const users = new Set<number>(map === undefined ? [] : [map.self.User]);
  for (const peer of peers ?? []) users.add(peer.node.User);
  const BackendState = backendState(node);
  return {
    Version: VERSION,
    TUN: false,
    BackendState,
    // "No" makes upstream's `up` ask for a login (cmd/tailscale/cli/up.go).
    HaveNodeKey: BackendState !== "NeedsLogin",
    AuthURL: state.kind === "needs-login" ? (state.url ?? "") : "",
    TailscaleIPs: map === undefined ? null : node.addresses,
    Self: map === undefined ? emptySelf(node) : nodeStatus(map.self, undefined, true, map),
    Health: [...node.health],
    MagicDNSSuffix: suffix,
    CurrentTailnet:
      map === undefined
        ? null
        : { Name: map.domain, MagicDNSSuffix: suffix, MagicDNSEnabled: map.dns.Proxied === true },
    CertDomains: map === undefined ? null : [map.self.Name.replace(/\.$/, "")],
    ExtraRecords: null,
    Peer:
      peers === undefined
        ? null
        : Object.fromEntries(peers.map((peer) => [peer.node.Key, nodeStatus(peer.node, peer, false, map)])),
    User: Object.fromEntries(
      [...users]
        .map((id) => map?.users.get(id))
        .filter((user) => user !== undefined)
        .map((user) => [String(user.ID), userOf(user)]),
    ),
    ClientVersion: null,
    Means: node.means,
  };
}

export function whoIsDocument(node: Node, profile: UserProfile, capabilities: CapMap): WhoIsResponse {
  const name = node.Name.split(".")[0] ?? "";
  return {
    Node: { ...node, AllowedIPs: node.AllowedIPs ?? node.Addresses, ComputedName: name, ComputedNameWithHost: name },
    UserProfile: { ...userOf(profile), ...(profile.Groups === undefined ? {} : { Groups: profile.Groups }) },
    CapMap: Object.keys(capabilities).length === 0 ? null : capabilities,
  };
}

export function suffixOf(fullName: string): string {
  return fullName.replace(/\.$/, "").split(".").slice(1).join(".");
}

function userOf({ ID, LoginName, DisplayName, ProfilePicURL }: UserProfile): StatusUser {
  return {
    ID,
    LoginName,
    DisplayName: DisplayName ?? LoginName,
    ...(ProfilePicURL === undefined || ProfilePicURL === "" ? {} : { ProfilePicURL }),
  };
}

function timeOf(wall: number | undefined): string {
  return wall === undefined ? ZERO_TIME : new Date(wall).toISOString();
}

function emptySelf(node: MeshNode): PeerStatus {
  return {
    ID: "",
    // One that the server has not seen: `up --force-reauth` waits until another one stands here.
    PublicKey: backendState(node) === "NeedsLogin" ? NO_NODE_KEY : node.nodeKeyText,
    HostName: "",
    DNSName: "",
    OS: process.platform,
    UserID: 0,
    TailscaleIPs: null,
  };
}

/** The code of a node's home region, as `status` shows it; its number where the map does not tell. */
function relayCode({ HomeDERP }: Node, map: NetworkMap | undefined): string {
  if (HomeDERP === undefined || HomeDERP === 0) return "";
  return map?.derpMap.Regions?.[String(HomeDERP)]?.RegionCode ?? String(HomeDERP);
}

function nodeStatus(
  node: Node,
  reached: MeshPeerStatus | undefined,
  isSelf: boolean,
  map: NetworkMap | undefined,
): PeerStatus {
  const addresses = node.Addresses.map((text) => parsePrefix(text)?.address).filter((address) => address !== undefined);
  const services = node.Hostinfo?.Services ?? [];
  const peerApi = addresses
    .map((address) => {
      const proto = address.length === 4 ? "peerapi4" : "peerapi6";
      const port = isSelf ? peerApiPort(address) : services.find(({ Proto }) => Proto === proto)?.Port;
      const host = address.length === 4 ? formatAddress(address) : `[${formatAddress(address)}]`;
      return port === undefined ? undefined : `http://${host}:${port}`;
    })
    .filter((url) => url !== undefined);
  const isDirect = reached?.isDirect === true;
  return {
    ID: node.StableID,
    NodeID: node.ID,
    PublicKey: node.Key,
    HostName: node.Hostinfo?.Hostname ?? "",
    DNSName: node.Name,
    OS: node.Hostinfo?.OS ?? "",
    UserID: node.User,
    TailscaleIPs: addresses.map(formatAddress),
    AllowedIPs: node.AllowedIPs ?? node.Addresses,
    ...(node.Tags === undefined || node.Tags.length === 0 ? {} : { Tags: node.Tags }),
    ...(node.PrimaryRoutes === undefined ? {} : { PrimaryRoutes: node.PrimaryRoutes }),
    Addrs: isSelf ? (node.Endpoints ?? []) : null,
    CurAddr: isDirect ? (reached?.path ?? "") : "",
    Relay: relayCode(node, map),
    PeerRelay: "",
    RxBytes: reached?.rxBytes ?? 0,
    TxBytes: reached?.txBytes ?? 0,
    Created: node.Created ?? ZERO_TIME,
    LastWrite: ZERO_TIME,
    LastSeen: node.LastSeen ?? ZERO_TIME,
    LastHandshake: timeOf(reached?.lastHandshakeWall),
    Online: isSelf || node.Online === true,
    ExitNode: false,
    ExitNodeOption: (node.AllowedIPs ?? []).includes("0.0.0.0/0"),
    Active: reached?.isActive === true,
    PeerAPIURL: peerApi,
    TaildropTarget: 0,
    NoFileSharingReason: "",
    ...(isSelf && node.CapMap !== undefined
      ? { CapMap: node.CapMap, Capabilities: Object.keys(node.CapMap).sort() }
      : {}),
    InNetworkMap: true,
    InMagicSock: !isSelf,
    InEngine: reached?.lastHandshakeWall !== undefined,
    ...(node.Expired === true ? { Expired: true } : {}),
    ...(node.KeyExpiry === undefined ? {} : { KeyExpiry: node.KeyExpiry }),
  };
}
