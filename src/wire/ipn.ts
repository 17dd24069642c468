import type { ServeConfig } from "./serve-config.ts";

// Documents of the local admin interface, spelled as upstream's daemon spells them: `ipn/ipnstate/ipnstate.go`,
// `ipn/prefs.go`, `ipn/backend.go`, `client/tailscale/apitype/apitype.go`.

/** What a program that keeps no date writes in its place (Go's zero time). */
export const ZERO_TIME: string = "0001-01-01T00:00:00Z";

export type BackendState =
  | "NoState"
  | "InUseOtherUser"
  | "NeedsLogin"
  | "NeedsMachineAuth"
  | "Stopped"
  | "Starting"
  | "Running";

/** The numbers of `ipn.State`, as they travel in `Notify.State`. */
export const STATE_NUMBERS: Readonly<Record<BackendState, number>> = {
  NoState: 0,
  InUseOtherUser: 1,
  NeedsLogin: 2,
  NeedsMachineAuth: 3,
  Stopped: 4,
  Starting: 5,
  Running: 6,
};

/** One node in `IpnStatus`. */
export interface PeerStatus {
  readonly ID: string;
  readonly NodeID?: number;
  readonly PublicKey?: string;
  readonly HostName: string;
  /** With the final dot. */
  readonly DNSName: string;
  readonly OS: string;
  readonly UserID: number;
  readonly AltSharerUserID?: number;
  readonly TailscaleIPs: readonly string[] | null;
  readonly AllowedIPs?: readonly string[] | null;
  readonly Tags?: readonly string[];
  readonly PrimaryRoutes?: readonly string[];
  readonly Addrs?: readonly string[] | null;
  readonly CurAddr?: string;
  readonly Relay?: string;
  readonly PeerRelay?: string;
  readonly RxBytes?: number;
  readonly TxBytes?: number;
  readonly Created?: string;
  readonly LastWrite?: string;
  readonly LastSeen?: string;
  readonly LastHandshake?: string;
  readonly Online?: boolean;
  readonly ExitNode?: boolean;
  readonly ExitNodeOption?: boolean;
  readonly Active?: boolean;
  readonly PeerAPIURL?: readonly string[] | null;
  readonly TaildropTarget?: number;
  readonly NoFileSharingReason?: string;
  readonly Capabilities?: readonly string[];
  readonly CapMap?: Readonly<Record<string, readonly unknown[] | null>>;
  readonly ShareeNode?: boolean;
  readonly InNetworkMap?: boolean;
  readonly InMagicSock?: boolean;
  readonly InEngine?: boolean;
  readonly Expired?: boolean;
  readonly KeyExpiry?: string;
}

export interface StatusUser {
  readonly ID: number;
  readonly LoginName: string;
  readonly DisplayName: string;
  readonly ProfilePicURL?: string;
}

/** `ipnstate.Status`. */
export interface IpnStatus {
  readonly Version: string;
  readonly TUN: boolean;
  readonly BackendState: BackendState;
  readonly HaveNodeKey?: boolean;
  readonly AuthURL: string;
  readonly TailscaleIPs: readonly string[] | null;
  readonly Self: PeerStatus;
  readonly Health: readonly string[] | null;
  readonly MagicDNSSuffix: string;
  readonly CurrentTailnet: {
    readonly Name: string;
    readonly MagicDNSSuffix: string;
    readonly MagicDNSEnabled: boolean;
  } | null;
  readonly CertDomains?: readonly string[] | null;
  readonly ExtraRecords?: readonly unknown[] | null;
  /** By node key; null when asked without peers. */
  readonly Peer: Readonly<Record<string, PeerStatus>> | null;
  /** By user number. */
  readonly User: Readonly<Record<string, StatusUser>> | null;
  readonly ClientVersion?: unknown;
  /** Ours: which of several implementations are at work. */
  readonly Means?: { readonly udp: string; readonly aead: string };
  /** Ours: what was observed of each certificate. */
  readonly Certificates?: readonly ObservedCertificate[];
}

/** Times are RFC 3339; empty = none. */
export interface ObservedCertificate {
  readonly Names: readonly string[];
  readonly State: string;
  readonly Authority: string;
  readonly NotAfter: string;
  readonly RenewAt: string;
  readonly Observed: string;
}

/** `ipn.Prefs`: the members that this gateway reads or keeps; others travel through unchanged. */
export interface Prefs {
  readonly ControlURL: string;
  readonly RouteAll: boolean;
  readonly CorpDNS: boolean;
  readonly WantRunning: boolean;
  readonly LoggedOut: boolean;
  readonly ShieldsUp: boolean;
  readonly AdvertiseTags: readonly string[] | null;
  readonly Hostname: string;
  readonly AdvertiseRoutes: readonly string[] | null;
  readonly AdvertiseServices: readonly string[] | null;
  readonly [other: string]: unknown;
}

/** `ipn.MaskedPrefs`: only members whose `…Set` flag is true may be applied. */
export type MaskedPrefs = Readonly<Record<string, unknown>>;

/** Applies a masked change (upstream `ipn/prefs.go:ApplyEdits`): a member left out while its flag is true is cleared. */
export function applyMaskedPrefs(prefs: Prefs, change: MaskedPrefs): Prefs {
  const next: Record<string, unknown> = { ...prefs };
  for (const flag of Object.keys(change)) {
    if (!flag.endsWith("Set") || flag.length === 3) continue;
    const member = flag.slice(0, -3);
    if (flag === "AutoUpdateSet") {
      const marks = change[flag];
      if (typeof marks !== "object" || marks === null) continue;
      const given = record(change["AutoUpdate"]);
      const kept: Record<string, unknown> = { ...record(next["AutoUpdate"]) };
      if (record(marks)["CheckSet"] === true) kept["Check"] = given["Check"] ?? false;
      if (record(marks)["ApplySet"] === true) kept["Apply"] = given["Apply"] ?? null;
      next["AutoUpdate"] = kept;
    } else if (change[flag] === true) {
      if (member === "__proto__") continue;
      if (Object.hasOwn(change, member)) next[member] = change[member];
      else if (Object.hasOwn(EMPTY_PREFS, member)) next[member] = EMPTY_PREFS[member];
      else delete next[member];
    }
  }
  return next as Prefs;
}

function record(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null ? (value as Readonly<Record<string, unknown>>) : {};
}

/** Every member that upstream always writes, empty. Clients decode strictly by type. */
export const EMPTY_PREFS: Prefs = {
  ControlURL: "",
  RouteAll: false,
  ExitNodeID: "",
  ExitNodeIP: "",
  InternalExitNodePrior: "",
  ExitNodeAllowLANAccess: false,
  CorpDNS: false,
  RunSSH: false,
  RunWebClient: false,
  WantRunning: false,
  LoggedOut: false,
  ShieldsUp: false,
  AdvertiseTags: null,
  Hostname: "",
  NotepadURLs: false,
  AdvertiseRoutes: null,
  AdvertiseServices: null,
  Sync: null,
  NoSNAT: false,
  NoStatefulFiltering: true,
  NetfilterMode: 0,
  AutoUpdate: { Check: false, Apply: false },
  AppConnector: { Advertise: false },
  PostureChecking: false,
  NetfilterKind: "",
  RemoteConfig: false,
  DriveShares: null,
};

/** `ipn.Notify`. Members that say nothing are null or left out. */
export interface Notify {
  readonly Version?: string;
  readonly SessionID?: string;
  readonly ErrMessage?: string | null;
  readonly LoginFinished?: Readonly<Record<string, never>> | null;
  readonly State?: number | null;
  readonly Prefs?: Prefs | null;
  readonly NetMap?: unknown;
  readonly Engine?: unknown;
  readonly BrowseToURL?: string | null;
  readonly DriveShares?: unknown;
  readonly SelfChange?: unknown;
  readonly Health?: unknown;
  readonly InitialStatus?: IpnStatus;
}

/** Bits of the `mask` of `watch-ipn-bus` that this gateway answers to. */
export const NOTIFY: {
  readonly initialState: number;
  readonly initialPrefs: number;
  readonly initialNetMap: number;
  readonly initialHealth: number;
  readonly rateLimit: number;
  readonly initialStatus: number;
} = {
  initialState: 2,
  initialPrefs: 4,
  initialNetMap: 8,
  initialHealth: 128,
  rateLimit: 256,
  initialStatus: 16384,
};

/** `apitype.WhoIsResponse`. */
export interface WhoIsResponse {
  readonly Node: WhoIsNode;
  readonly UserProfile: StatusUser & { readonly Groups?: readonly string[] };
  readonly CapMap: Readonly<Record<string, readonly unknown[] | null>> | null;
}

export interface WhoIsNode {
  readonly ID: number;
  readonly StableID: string;
  readonly Name: string;
  readonly User: number;
  readonly Key?: string;
  readonly Addresses: readonly string[];
  readonly AllowedIPs?: readonly string[];
  readonly Tags?: readonly string[];
  readonly Hostinfo?: unknown;
  readonly ComputedName?: string;
  readonly [other: string]: unknown;
}

/** `ipnstate.PingResult`. */
export interface PingResult {
  readonly IP: string;
  readonly NodeIP: string;
  readonly NodeName: string;
  readonly Err: string;
  readonly LatencySeconds: number;
  readonly Endpoint: string;
  readonly PeerRelay?: string;
  readonly DERPRegionID: number;
  readonly DERPRegionCode: string;
  readonly PeerAPIURL?: string;
  readonly PeerAPIPort?: number;
  readonly IsLocalIP?: boolean;
}

/** Body of `start` (`ipn.Options`). */
export interface StartOptions {
  readonly AuthKey?: string;
  readonly UpdatePrefs?: Prefs | null;
}

/** Answer of `query-feature` (`tailcfg.QueryFeatureResponse`). */
export interface QueryFeatureResponse {
  readonly Complete?: boolean;
  readonly Text?: string;
  readonly URL?: string;
  readonly ShouldWait?: boolean;
}

/** A serve configuration as the daemon holds it: null before the first write. */
export type StoredServeConfig = ServeConfig | null;

/** What the gateway knows of the network under it; ours, not upstream's: its command line measures by itself. */
export interface NetcheckDocument {
  readonly udp: boolean;
  /** `ip:port` as seen from outside; absent = that family does not get through. */
  readonly ipv4?: string;
  readonly ipv6?: string;
  readonly mappingVariesByDestIp?: boolean;
  readonly endpoints: readonly string[];
  readonly regions: readonly {
    readonly id: number;
    readonly code: string;
    readonly name: string;
    readonly latencyMs?: number;
    readonly isHome: boolean;
    readonly isConnected: boolean;
  }[];
}
