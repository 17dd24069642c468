import type { CapMap, Hostinfo, Node, SshRule, UserProfile } from "../wire/tailcfg.ts";
import type { PolicyNode } from "./policy-engine.ts";
import type { NodeRecord, User, UserRole } from "./records.ts";

/** The one owner that all tagged nodes are shown under (the number that Headscale uses). */
export const TAGGED_USER: UserProfile = {
  ID: 2147455555,
  LoginName: "tagged-devices",
  DisplayName: "Tagged Devices",
};

export const EXIT_ROUTES: ReadonlySet<string> = new Set(["0.0.0.0/0", "::/0"]);

export const rfc3339 = (ms: number): string => new Date(ms).toISOString();

export function isExitRoute(route: string): boolean {
  return EXIT_ROUTES.has(route);
}

/** Routes that are both asked for and approved. */
export function servedRoutes({ hostinfo, approvedRoutes, isUnapproved }: NodeRecord): readonly string[] {
  if (isUnapproved === true) return [];
  const advertised = new Set(hostinfo.RoutableIPs ?? []);
  return approvedRoutes.filter((route) => advertised.has(route));
}

export function isExpired(node: NodeRecord, wall: number): boolean {
  return node.expires !== undefined && node.expires <= wall;
}

/** `services`: those that it hosts, by name, with their addresses. */
export function policyNode(
  node: NodeRecord,
  users: ReadonlyMap<number, User>,
  services: Readonly<Record<string, readonly string[]>> = {},
): PolicyNode {
  return {
    id: node.id,
    user: node.tags.length > 0 || node.userId === undefined ? undefined : users.get(node.userId)?.login,
    tags: node.tags,
    roles: node.tags.length > 0 || node.userId === undefined ? [] : rolesOf(users.get(node.userId)),
    addresses: [node.ipv4, node.ipv6],
    routes: servedRoutes(node),
    advertisedRoutes: node.hostinfo.RoutableIPs ?? [],
    attributes: { ...node.attributes, ...postureOf(node.hostinfo) },
    ...(Object.keys(services).length === 0 ? {} : { services }),
  };
}

/** The owner is an administrator too. */
export function rolesOf(user: Pick<User, "role"> | undefined): readonly UserRole[] {
  if (user?.role === undefined) return [];
  return user.role === "owner" ? ["owner", "admin"] : [user.role];
}

/** What the node says of itself, under the names that postures use. */
export function postureOf({ OS, OSVersion, IPNVersion }: Hostinfo): Readonly<Record<string, string>> {
  return {
    ...(OS === undefined ? {} : { "node:os": OS.toLowerCase() }),
    ...(OSVersion === undefined ? {} : { "node:osVersion": OSVersion }),
    ...(IPNVersion === undefined ? {} : { "node:tsVersion": IPNVersion }),
  };
}

export interface ViewContext {
  readonly wall: number;
  readonly baseDomain: string;
  readonly online: boolean;
  /** Subnet routes that this node carries for the network just now. */
  readonly primaryRoutes: readonly string[];
  readonly exitRoutes: readonly string[];
  /** Addresses of services that the node hosts: routed to it, but no subnets of its own. */
  readonly virtual: ReadonlySet<string>;
}

export function nameOf(node: NodeRecord, baseDomain: string): string {
  return `${node.name}.${baseDomain}`;
}

/** A node without what only itself may see. */
export function peerView(node: NodeRecord, context: ViewContext): Node {
  const { wall, baseDomain, online, primaryRoutes, exitRoutes, virtual } = context;
  const subnets = primaryRoutes.filter((route) => !virtual.has(route));
  const addresses = [`${node.ipv4}/32`, `${node.ipv6}/128`];
  const expired = isExpired(node, wall);
  const wireGuardOnly = node.gateways !== undefined;
  return {
    ID: node.id,
    StableID: String(node.id),
    Name: `${nameOf(node, baseDomain)}.`,
    User: ownerOf(node),
    Key: node.nodeKey,
    ...(node.expires === undefined ? {} : { KeyExpiry: rfc3339(node.expires) }),
    ...(wireGuardOnly ? {} : { Machine: node.machineKey }),
    ...(node.discoKey === undefined ? {} : { DiscoKey: node.discoKey }),
    Addresses: addresses,
    AllowedIPs: [...addresses, ...primaryRoutes, ...exitRoutes],
    ...(subnets.length === 0 ? {} : { PrimaryRoutes: subnets }),
    ...(node.endpoints.length === 0 ? {} : { Endpoints: node.endpoints }),
    ...(node.homeDerp === 0 ? {} : { HomeDERP: node.homeDerp, DERP: `127.3.3.40:${node.homeDerp}` }),
    Hostinfo: peerHostinfo(node.hostinfo),
    Created: rfc3339(node.created),
    ...(node.capability === 0 ? {} : { Cap: node.capability }),
    ...(node.tags.length === 0 ? {} : { Tags: node.tags }),
    ...(online || node.lastSeen === undefined ? {} : { LastSeen: rfc3339(node.lastSeen) }),
    // Nobody can tell whether a WireGuard-only member is there: absent means unknown.
    ...(wireGuardOnly ? { IsWireGuardOnly: true } : { Online: online }),
    ...(expired ? { Expired: true } : node.isUnapproved === true ? {} : { MachineAuthorized: true }),
  };
}

export function selfView(node: NodeRecord, context: ViewContext, capMap: CapMap): Node {
  return { ...peerView(node, { ...context, online: true }), Hostinfo: node.hostinfo, CapMap: capMap };
}

export function ownerOf(node: NodeRecord): number {
  return node.tags.length > 0 || node.userId === undefined ? TAGGED_USER.ID : node.userId;
}

export function profileOf(userId: number, users: ReadonlyMap<number, User>): UserProfile | undefined {
  if (userId === TAGGED_USER.ID) return TAGGED_USER;
  const user = users.get(userId);
  if (user === undefined) return undefined;
  return {
    ID: user.id,
    LoginName: user.login,
    DisplayName: user.displayName,
    ...(user.profilePicture === undefined ? {} : { ProfilePicURL: user.profilePicture }),
  };
}

/** Peers need services, routes and what the node runs on; its measurements and log ids are its own business. */
function peerHostinfo(hostinfo: Hostinfo): Hostinfo {
  const { NetInfo: _netInfo, BackendLogID: _backend, FrontendLogID: _frontend, ...rest } = hostinfo;
  return rest;
}

/** What every node may do; the policy adds to it (control-protocol §6.2). Nothing that this server has no part of. */
const BASE_CAPABILITIES: CapMap = {
  "default-auto-update": [false],
  "https://tailscale.com/cap/file-sharing": [],
};

export interface CapabilityFacts {
  /** The rules for this node; undefined where the policy does not mention SSH. */
  readonly ssh: readonly SshRule[] | undefined;
  /** This server can publish what proves a node's name to a CA. */
  readonly certificates: boolean;
  readonly roles: readonly string[];
}

export function capabilities(attributes: CapMap, { ssh, certificates, roles }: CapabilityFacts): CapMap {
  const all: Record<string, readonly unknown[] | null> = {
    ...BASE_CAPABILITIES,
    // They change words and offers in the client, and give no right here (control-protocol §6.1).
    ...(roles.includes("admin") ? { "https://tailscale.com/cap/is-admin": [] } : {}),
    ...(roles.includes("owner") ? { "https://tailscale.com/cap/is-owner": [] } : {}),
    ...(certificates ? { https: [] } : {}),
    ...(ssh === undefined ? {} : { "https://tailscale.com/cap/ssh": [] }),
    ...(ssh === undefined || ssh.length === 0 ? {} : { "https://tailscale.com/cap/ssh-rule-in": [] }),
    ...attributes,
  };
  return Object.fromEntries(Object.entries(all).toSorted(([a], [b]) => (a < b ? -1 : 1)));
}
