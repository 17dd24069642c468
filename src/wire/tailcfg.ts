/**
 * The JSON documents of the control protocol, named and spelled as upstream `tailcfg/tailcfg.go`. Only members that
 * some part of ours reads or writes are listed; a reader must keep quiet about others.
 * Times are RFC 3339 text; keys are their text forms (`nodekey:…`, `discokey:…`, `mkey:…`).
 */

import type { DRAINING, PUBLIC_SITES, VISITED_AT } from "./funnel.ts";
import type { SiteRules, VISITOR_RULES } from "./visitor-rules.ts";

export type CapMap = Readonly<Record<string, readonly unknown[] | null>>;

export interface NetInfo {
  readonly MappingVariesByDestIP?: boolean | null;
  readonly WorkingIPv6?: boolean | null;
  readonly OSHasIPv6?: boolean | null;
  readonly WorkingUDP?: boolean | null;
  readonly PreferredDERP?: number;
  /** Seconds by `"<region>-v4"` or `"-v6"`. */
  readonly DERPLatency?: Readonly<Record<string, number>>;
}

/** `Proto`: `tcp`, `udp`, `peerapi4`, `peerapi6`, `peerapi-dns-proxy`. */
export interface HostService {
  readonly Proto: string;
  readonly Port: number;
  readonly Description?: string;
}

export interface Hostinfo {
  readonly IPNVersion?: string;
  readonly FrontendLogID?: string;
  readonly BackendLogID?: string;
  readonly OS?: string;
  readonly OSVersion?: string;
  readonly Hostname?: string;
  readonly GoArch?: string;
  readonly ShieldsUp?: boolean;
  readonly RoutableIPs?: readonly string[];
  readonly RequestTags?: readonly string[];
  readonly Services?: readonly HostService[];
  readonly NetInfo?: NetInfo;
  readonly Userspace?: boolean;
  readonly ServicesHash?: string;
  readonly IngressEnabled?: boolean;
  readonly WireIngress?: boolean;
  readonly App?: string;
  /** Ours: this node keeps to `sallyport.dev/door-required`. */
  readonly SallyportDoors?: boolean;
}

export interface Node {
  readonly ID: number;
  readonly StableID: string;
  /** FQDN with trailing dot. */
  readonly Name: string;
  readonly User: number;
  readonly Sharer?: number;
  readonly Key: string;
  /** Absent or the zero time = never. */
  readonly KeyExpiry?: string;
  readonly Machine?: string;
  readonly DiscoKey?: string;
  /** Prefixes of one address each, IPv4 first. */
  readonly Addresses: readonly string[];
  /** Absent or null = same as `Addresses`; `[]` = none. */
  readonly AllowedIPs?: readonly string[] | null;
  readonly PrimaryRoutes?: readonly string[];
  /** `ip:port`. */
  readonly Endpoints?: readonly string[];
  readonly HomeDERP?: number;
  /** Legacy form of HomeDERP: `127.3.3.40:<region>`. */
  readonly DERP?: string;
  readonly Hostinfo?: Hostinfo;
  readonly Created?: string;
  readonly LastSeen?: string;
  readonly Online?: boolean;
  readonly Cap?: number;
  readonly Tags?: readonly string[];
  readonly MachineAuthorized?: boolean;
  readonly Capabilities?: readonly string[];
  readonly CapMap?: CapMap;
  readonly Expired?: boolean;
  readonly UnsignedPeerAPIOnly?: boolean;
  readonly IsWireGuardOnly?: boolean;
  readonly IsJailed?: boolean;
}

export interface UserProfile {
  readonly ID: number;
  readonly LoginName: string;
  readonly DisplayName?: string;
  readonly ProfilePicURL?: string;
  readonly Groups?: readonly string[];
}

export interface PortRange {
  readonly First: number;
  readonly Last: number;
}

export interface NetPortRange {
  /** Address, CIDR, `a-b` range or `*`. */
  readonly IP: string;
  readonly Ports: PortRange;
}

export interface CapGrant {
  /** Prefixes. */
  readonly Dsts: readonly string[];
  readonly CapMap?: CapMap;
  readonly Caps?: readonly string[];
}

/** Either `DstPorts` or `CapGrant`, never both. Empty `IPProto` = TCP, UDP, ICMP, ICMPv6. */
export interface FilterRule {
  readonly SrcIPs: readonly string[];
  readonly DstPorts?: readonly NetPortRange[];
  readonly IPProto?: readonly number[];
  readonly CapGrant?: readonly CapGrant[];
}

/** What a node that runs an SSH server lets whom do (upstream tailcfg.SSHRule). */
export interface SshRule {
  readonly principals: readonly { readonly nodeIP?: string; readonly any?: boolean }[];
  /** Wanted login → local user; `=`: the same, empty: refused. */
  readonly sshUsers: Readonly<Record<string, string>>;
  readonly action: Readonly<Record<string, unknown>>;
  readonly acceptEnv?: readonly string[];
}

export interface DerpNode {
  readonly Name: string;
  readonly RegionID: number;
  readonly HostName: string;
  /** TLS name override; `sha256-raw:<hex>` pins a self-signed certificate by its SHA-256. */
  readonly CertName?: string;
  readonly IPv4?: string;
  readonly IPv6?: string;
  /** 0 or absent = 3478, -1 = none. */
  readonly STUNPort?: number;
  readonly STUNOnly?: boolean;
  /** 0 or absent = 443. */
  readonly DERPPort?: number;
  readonly InsecureForTests?: boolean;
  readonly CanPort80?: boolean;
}

export interface DerpRegion {
  readonly RegionID: number;
  readonly RegionCode: string;
  readonly RegionName: string;
  readonly Avoid?: boolean;
  readonly NoMeasureNoHome?: boolean;
  readonly Nodes: readonly DerpNode[] | null;
}

export interface DerpMap {
  readonly HomeParams?: { readonly RegionScore?: Readonly<Record<string, number>> | null } | null;
  readonly Regions: Readonly<Record<string, DerpRegion | null>> | null;
  readonly OmitDefaultRegions?: boolean;
}

export interface DnsResolver {
  readonly Addr: string;
  readonly BootstrapResolution?: readonly string[];
}

export interface DnsRecord {
  readonly Name: string;
  /** Absent, `""`, `A` or `AAAA`. */
  readonly Type?: string;
  readonly Value: string;
}

export interface DnsConfig {
  readonly Resolvers?: readonly DnsResolver[];
  readonly Routes?: Readonly<Record<string, readonly DnsResolver[] | null>>;
  readonly FallbackResolvers?: readonly DnsResolver[];
  readonly Domains?: readonly string[];
  readonly Proxied?: boolean;
  readonly CertDomains?: readonly string[];
  readonly ExtraRecords?: readonly DnsRecord[];
}

export interface RegisterRequest {
  readonly Version: number;
  readonly NodeKey: string;
  readonly OldNodeKey?: string;
  readonly NLKey?: string;
  readonly Auth?: { readonly AuthKey?: string };
  readonly Expiry?: string;
  readonly Followup?: string;
  readonly Hostinfo?: Hostinfo;
  readonly Ephemeral?: boolean;
  readonly NodeKeySignature?: string | null;
  readonly Tailnet?: string;
}

export interface RegisterUser {
  readonly ID: number;
  readonly DisplayName?: string;
  readonly ProfilePicURL?: string;
  readonly Created?: string;
}

export interface RegisterLogin {
  readonly ID: number;
  readonly Provider?: string;
  readonly LoginName?: string;
  readonly DisplayName?: string;
  readonly ProfilePicURL?: string;
}

export interface RegisterResponse {
  readonly User?: RegisterUser;
  readonly Login?: RegisterLogin;
  readonly NodeKeyExpired?: boolean;
  readonly MachineAuthorized?: boolean;
  readonly AuthURL?: string;
  readonly NodeKeySignature?: string | null;
  readonly Error?: string;
}

export interface MapRequest {
  readonly Version: number;
  readonly Compress?: string;
  readonly KeepAlive?: boolean;
  readonly NodeKey: string;
  readonly DiscoKey?: string;
  readonly Stream?: boolean;
  readonly OmitPeers?: boolean;
  readonly ReadOnly?: boolean;
  readonly Hostinfo?: Hostinfo;
  readonly Endpoints?: readonly string[];
  /** Parallel to Endpoints: 0 unknown, 1 local, 2 STUN, 3 port-mapped, 4 STUN with local port, 5 configured. */
  readonly EndpointTypes?: readonly number[];
  readonly DebugFlags?: readonly string[];
  /** Ours. */
  readonly [VISITOR_RULES]?: readonly SiteRules[];
  readonly [DRAINING]?: boolean;
  readonly [PUBLIC_SITES]?: readonly string[];
  readonly [VISITED_AT]?: readonly string[];
}

/** Absent member = unchanged. */
export interface PeerChange {
  readonly NodeID: number;
  readonly DERPRegion?: number;
  readonly Cap?: number;
  readonly CapMap?: CapMap;
  readonly Endpoints?: readonly string[];
  readonly Key?: string;
  readonly DiscoKey?: string;
  readonly Online?: boolean;
  readonly LastSeen?: string;
  readonly KeyExpiry?: string;
}

export interface PingRequest {
  readonly URL: string;
  readonly URLIsNoise?: boolean;
  readonly Log?: boolean;
  /** Comma-separated: `c2n`, `disco`, `TSMP`, `ICMP`, `peerapi`. */
  readonly Types?: string;
  readonly IP?: string;
  /** Base64 of an HTTP request, for `c2n`. */
  readonly Payload?: string;
}

/** What a node found out for a `PingRequest`. */
export interface PingResponse {
  readonly Type: string;
  readonly IP: string;
  readonly NodeIP: string;
  readonly NodeName: string;
  readonly Err?: string;
  readonly LatencySeconds?: number;
  /** `ip:port` of a direct way. */
  readonly Endpoint?: string;
  readonly DERPRegionID?: number;
  readonly DERPRegionCode?: string;
  readonly PeerAPIPort?: number;
}

/** One message of the map stream. Absent or null = unchanged since the last message of this stream. */
export interface MapResponse {
  readonly KeepAlive?: boolean;
  readonly PingRequest?: PingRequest | null;
  readonly Node?: Node | null;
  readonly DERPMap?: DerpMap | null;
  readonly Peers?: readonly Node[] | null;
  readonly PeersRemoved?: readonly number[] | null;
  readonly PeersChanged?: readonly Node[] | null;
  readonly PeersChangedPatch?: readonly PeerChange[] | null;
  readonly PeerSeenChange?: Readonly<Record<string, boolean>> | null;
  readonly OnlineChange?: Readonly<Record<string, boolean>> | null;
  readonly DNSConfig?: DnsConfig | null;
  readonly Domain?: string;
  readonly PacketFilter?: readonly FilterRule[] | null;
  readonly PacketFilters?: Readonly<Record<string, readonly FilterRule[] | null>> | null;
  readonly UserProfiles?: readonly UserProfile[] | null;
  readonly SSHPolicy?: { readonly rules: readonly SshRule[] | null } | null;
  readonly Health?: readonly string[] | null;
  readonly ControlTime?: string | null;
  readonly Debug?: { readonly SleepSeconds?: number; readonly DisableLogTail?: boolean; readonly Exit?: number } | null;
}

/** The newest capability version whose list of promises we have reviewed (control-protocol appendix B). */
export const CAPABILITY_VERSION = 113;
