import type { Place } from "../../config/node-serve-config.ts";
import type { Observations } from "../../funnel/observations.ts";
import type {
  IpnStatus,
  MaskedPrefs,
  NetcheckDocument,
  Notify,
  PingResult,
  Prefs,
  QueryFeatureResponse,
  StartOptions,
  StoredServeConfig,
  WhoIsResponse,
} from "../../wire/ipn.ts";
import type { CommandDoors } from "../doors/command-doors.ts";
import type { DoorAdmin } from "../doors/door-admin.ts";
import type { VisitorRulebook } from "../funnel/visitor-rulebook.ts";
import type { Inspection } from "../inspection.ts";

/** What the local admin interface asks of the gateway. */
export interface LocalApiBackend {
  status(options: { readonly peers: boolean }): Promise<IpnStatus>;
  /** `etag` is opaque to clients; `serveConfigEtag` (src/config/serve-document.ts) makes upstream's. */
  serveConfig(): { readonly config: StoredServeConfig; readonly etag: string };
  /** Throws Fault GATEWAY_ETAG_MISMATCH when `ifMatch` is given and no longer the current tag. */
  setServeConfig(config: StoredServeConfig, ifMatch?: string): Promise<void>;
  /** `address`: an IP address, `ip:port`, or a node key. */
  whois(address: string, proto?: string): Promise<WhoIsResponse | undefined>;
  ping(ip: string, type: string, size: number, signal: AbortSignal): Promise<PingResult>;
  prefs(): Prefs;
  editPrefs(change: MaskedPrefs): Promise<Prefs>;
  start(options: StartOptions): Promise<void>;
  /** The address to visit arrives as `BrowseToURL` on the watchers' streams. */
  loginInteractive(): Promise<void>;
  logout(): Promise<void>;
  /**
   * Calls back with documents: at once what `mask` asks for, later every change. `session` is 16 hex digits; the interface
   * itself adds it to the first document, and removes the session's foreground part when the stream ends.
   */
  watch(mask: number, onNotify: (notify: Notify) => void): { readonly session: string; close(): void };
  queryFeature(feature: string): Promise<QueryFeatureResponse>;

  /** The user besides root and our own who may change things (preference `OperatorUser`). */
  operatorUid?(): number | undefined;
  /** Why these preferences cannot be, or nothing. */
  checkPrefs?(prefs: Prefs): Promise<string | undefined>;
  /** Names for which a certificate can be had. */
  certDomains?(): readonly string[] | null;
  /** PEM texts. */
  certificate?(domain: string, minValiditySeconds: number): Promise<{ readonly key: string; readonly chain: string }>;
  /** What was observed of each certificate. */
  certificates?(): unknown;
  /** What CAs still allow this week. */
  certificateBudget?(): Promise<unknown>;
  /** A new one now, whatever the back-off says. */
  renewCertificate?(name: string): Promise<unknown>;
  revokeCertificate?(name: string): Promise<void>;
  /** A new key for our account at the CA with this id. */
  rollAccountKey?(authority: string): Promise<void>;
  /** Advice for the DNS records of a name, in words. */
  certificateAdvice?(name: string, signal: AbortSignal): Promise<string>;
  /** A signed statement of this node's identity for `audience`. */
  idToken?(audience: string): Promise<string>;
  /** Services that this node can reach, by name. */
  services?(): Readonly<Record<string, unknown>>;
  /** Prometheus text. */
  metrics?(): Promise<string>;
  /** Is the gateway doing its work, and what is wrong. */
  health?(): { readonly isHealthy: boolean; readonly problems: readonly string[] };
  /** Public keys of the signed assertions, a JWK set (RFC 7517). */
  jwks?(): Promise<unknown>;
  /** The DNS message that answers; undefined where nobody does. @throws {Fault} GATEWAY_DNS_QUERY */
  dnsQuery?(name: string, type: string): Promise<Uint8Array | undefined>;
  /** `tailcfg.DNSConfig` of the network map. */
  dnsConfig?(): unknown;
  /** `ipn.LoginProfile`; absent before the first login. */
  profile?(): unknown;
  /** `nodekey:…` */
  nodeKey?(): string;
  /** Leaves a mark in the log, with a note of the caller's, and gives it. */
  markLog?(note: string): string;
  netcheck?(): NetcheckDocument;
  bugReport?(): unknown;
  /** Doors before what is served. */
  readonly doors?: Pick<DoorAdmin, "document" | "invite" | "certify" | "revoke">;
  /** Doors that commands put before a mount of a name and port. */
  readonly commandDoors?: Pick<CommandDoors, "set">;
  readonly visitorRules?: Pick<VisitorRulebook, "at" | "set">;
  /** The door before a mount of the node's own. */
  doorAt?(place: Place): string | undefined;
  /** Does the network's policy demand a door before what is public? */
  readonly demandsDoors?: boolean;
  /** What was seen of public names, from outside. */
  readonly observations?: Pick<Observations, "list" | "record">;
  /** Looking at requests. */
  readonly inspection?: Pick<Inspection, "invite" | "close">;
  /** PEM of the local CA's certificate. */
  authority?(): Promise<string>;
  /** `tailcfg.DERPMap`. */
  derpMap?(): unknown;
}
