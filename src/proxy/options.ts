import type { Duplex } from "node:stream";
import type { SecureContext } from "node:tls";
import type { Clock } from "../base/clock.ts";
import type { Proof } from "../base/conn.ts";
import type { Fault } from "../base/fault.ts";
import type { Log } from "../base/log.ts";
import type { Assertions } from "../identity/assertions.ts";
import type { Callers } from "../identity/caller.ts";
import type { ServeConfig } from "../wire/serve-config.ts";
import type { DoorEvent } from "./doors/door.ts";
import type { Gatekeeper } from "./doors/gatekeeper.ts";
import type { Recorder } from "./inspector/recorder.ts";
import type { RouteRules } from "./route-rules.ts";

export interface ProxyOptions {
  readonly config: () => ServeConfig;
  /** Our FQDN without a dot at its end. */
  readonly selfName: () => string;
  /** Our own mesh addresses: asking for one of them is asking for our name. */
  readonly selfAddresses?: () => readonly string[];
  readonly callers: Callers;
  /** Of a name that is served; as a promise where it has to be obtained first. */
  readonly secureContext: (
    serverName: string,
    asksClients: boolean,
  ) => SecureContext | Fault | Promise<SecureContext | Fault>;
  /** For `acme-tls/1`, while a CA is expected to ask for that name. */
  readonly challengeContext?: (serverName: string) => SecureContext | undefined;
  /** For a CA that asks by plain HTTP on port 80 (RFC 8555 section 8.3): what is at this path of that host. */
  readonly challengeAnswer?: (host: string, path: string) => string | undefined;
  readonly log: Log;
  readonly clock: Clock;
  readonly assertions?: Assertions;
  /** Whether a file or folder target may be opened. */
  readonly allowPath?: (path: string) => boolean;
  /** The Service whose virtual address this is. */
  readonly serviceOf?: (address: string) => { readonly service: string; readonly name: string } | undefined;
  /** Opens a connection to a backend; without it, or where it gives nothing, `net.connect` does. */
  readonly dialBackend?: (place: BackendPlace) => Duplex | undefined;
  /** Does something of ours listen there, which is nobody's backend? Asked of every address that a backend's name leads to. */
  readonly isOwnListener?: (address: string, port: number) => boolean;
  /** PEM certificates that may sign a backend's, beside those of Node and of the system. */
  readonly backendRoots?: readonly string[];
  readonly limits?: Partial<ProxyLimits>;
  /** Of callers from the Internet; what is set in `limits` counts for them too. */
  readonly publicLimits?: Partial<ProxyLimits>;
  /** What else is asked of a mount. */
  readonly rulesOf?: (place: {
    readonly service?: string;
    readonly port: number;
    /** The name that was asked for. */
    readonly name: string;
    readonly mount: string;
  }) => RouteRules | undefined;
  /** Stands before the mounts whose rules name a door; without it nobody passes there. */
  readonly gatekeeper?: Gatekeeper;
  /** Looks on at every request. */
  readonly recorder?: Recorder;
  /** A request was answered, or its connection ended first: the status, and how long it took. */
  readonly answered?: (status: number, seconds: number) => void;
  /** Called for what should be counted. */
  readonly count?: (event: ProxyEvent) => void;
  /** `Location` and cookie domains that name the backend are turned into the served name; default true. */
  readonly rewritesAnswers?: boolean;
}

/**
 * `header_omitted`: a value over the limit was left out. `cross_site`, `body_too_large`: a request was refused.
 * `handshake_refused`: TLS for a name that is not served, or no TLS. `handshake_crowded`: too many handshakes at a time.
 * `connections_crowded`: too many connections on plain ports. `http2_flood`: a connection was closed for what it cost.
 * `answer_cut`: the backend broke an answer off.
 */
export type ProxyEvent =
  | "header_omitted"
  | "cross_site"
  | "body_too_large"
  | "handshake_refused"
  | "handshake_crowded"
  | "connections_crowded"
  | "http2_flood"
  | "answer_cut"
  | DoorEvent;

export type BackendPlace = { readonly host: string; readonly port: number } | { readonly path: string };

export interface ProxyLimits {
  /** Of a request's head. */
  readonly headBytes: number;
  readonly headFields: number;
  readonly targetBytes: number;
  /** Of a request's body, where the mount has no limit of its own. */
  readonly bodyBytes: number;
  /** For a head, from its first byte on. */
  readonly headMs: number;
  /** Between two parts of a body. */
  readonly bodyMs: number;
  /** Between two requests. */
  readonly idleMs: number;
  /** For a caller that takes nothing of its answer. */
  readonly writeMs: number;
  /** For a TLS handshake in total. */
  readonly handshakeMs: number;
  /** For a certificate that has to be obtained first, as upstream waits. */
  readonly certificateMs: number;
  /** TLS handshakes under way at a time, and of one peer or visitor's address; when there are more, the oldest goes. */
  readonly handshakes: number;
  readonly handshakesPerCaller: number;
  /** Connections on plain ports, and of one caller; when there are more, the one that is idle for longest goes. */
  readonly connections: number;
  readonly connectionsPerCaller: number;
}

type Sizes = Partial<Pick<ProxyLimits, "headBytes" | "headFields" | "targetBytes" | "bodyBytes">>;

type Crowds = Partial<Pick<ProxyLimits, "handshakes" | "handshakesPerCaller" | "connections" | "connectionsPerCaller">>;

/** What an operator says of sizes and crowds while the proxy runs; `visitors`: what is other for callers from the Internet. */
export interface SaidLimits extends Sizes, Crowds {
  readonly visitors?: Sizes;
}

/** As generous in size as programs that work with upstream need, but bounded; in time as RFC 9112 section 9.3 leaves us. */
export const DEFAULT_LIMITS: ProxyLimits = {
  headBytes: 64 * 1024,
  headFields: 4000,
  targetBytes: 16 * 1024,
  bodyBytes: Number.POSITIVE_INFINITY,
  headMs: 10_000,
  bodyMs: 60_000,
  idleMs: 75_000,
  writeMs: 60_000,
  handshakeMs: 10_000,
  certificateMs: 60_000,
  handshakes: 1000,
  handshakesPerCaller: 64,
  connections: 32_768, // half of what the mesh's stack has
  connectionsPerCaller: 10_240,
};

/** What nobody on the Internet needs more of (H1-13); as Envoy's guide for edges has it. */
export const PUBLIC_LIMITS: Partial<ProxyLimits> = { headBytes: 32 * 1024, headFields: 100, targetBytes: 8 * 1024 };

/** What is known of a connection before any of its bytes is read as HTTP. */
export interface Front {
  readonly proof: Proof;
  readonly port: number;
  /** SNI; `undefined` on plain ports. */
  readonly serverName: string | undefined;
  /** Bytes that the connection holds and the caller has not taken. */
  readonly unsent?: () => number;
  readonly service: { readonly service: string; readonly name: string } | undefined;
  /** SHA-256 of the certificate that the client has shown to hold the key of, in hex; any may be shown. */
  readonly clientCertificate?: string | undefined;
}
