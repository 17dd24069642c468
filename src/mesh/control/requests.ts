import { Fault, messageOf } from "../../base/fault.ts";
import { formatKey, publicKeyOf } from "../../crypto/keys.ts";
import { DRAINING, PUBLIC_SITES, VISITED_AT } from "../../wire/funnel.ts";
import { CAPABILITY_VERSION, type MapRequest, type RegisterRequest } from "../../wire/tailcfg.ts";
import { VISITOR_RULES } from "../../wire/visitor-rules.ts";
import type { ControlClientOptions } from "./control-state.ts";

const ZERO_TIME = "0001-01-01T00:00:00Z";
/** Any past time says logout; upstream says Unix second 123. */
const LOGOUT_TIME = "1970-01-01T00:02:03Z";
const ZERO_KEY = new Uint8Array(32);

export interface RegisterDetails {
  /** Private: the node key to register, and the one before it. */
  readonly key: { readonly private: Uint8Array; readonly old?: Uint8Array };
  readonly authKey: string | undefined;
  readonly followup: string;
  readonly isLogout?: boolean;
}

export function registerRequest(options: ControlClientOptions, details: RegisterDetails): RegisterRequest {
  const { key } = details;
  return {
    Version: CAPABILITY_VERSION,
    NodeKey: formatKey("nodekey", publicKeyOf(key.private)),
    OldNodeKey: formatKey("nodekey", key.old === undefined ? ZERO_KEY : publicKeyOf(key.old)),
    NLKey: options.lockKey ?? formatKey("nlpub", ZERO_KEY),
    ...(details.authKey === undefined ? {} : { Auth: { AuthKey: details.authKey } }),
    Expiry: details.isLogout ? LOGOUT_TIME : ZERO_TIME,
    Followup: details.followup,
    Hostinfo: options.hostinfo(),
    NodeKeySignature: null,
  };
}

/** Both shapes carry everything: hosted servers store lite updates only, Headscale also what comes with the poll. */
export function mapRequest(options: ControlClientOptions, shape: "poll" | "update"): MapRequest {
  const endpoints = options.endpoints();
  const { visitorRules = [], isDraining = false, publicSites, visitedAt } = options.funnelWish?.() ?? {};
  return {
    Version: CAPABILITY_VERSION,
    Compress: "zstd",
    KeepAlive: true,
    NodeKey: formatKey("nodekey", publicKeyOf(options.nodeKey().private)),
    DiscoKey: formatKey("discokey", options.discoKey),
    Stream: shape === "poll",
    ...(shape === "update" ? { OmitPeers: true } : {}),
    Hostinfo: options.hostinfo(),
    ...(visitorRules.length === 0 ? {} : { [VISITOR_RULES]: visitorRules }),
    ...(isDraining ? { [DRAINING]: true } : {}),
    ...(visitedAt === undefined ? {} : { [VISITED_AT]: visitedAt }),
    ...(publicSites === undefined ? {} : { [PUBLIC_SITES]: publicSites }),
    ...(endpoints.length === 0
      ? {}
      : { Endpoints: endpoints.map(({ endpoint }) => endpoint), EndpointTypes: endpoints.map(({ type }) => type) }),
    ...(options.debugFlags === undefined ? {} : { DebugFlags: options.debugFlags }),
  };
}

/** The load balancer's hint: the keys concerned, the old one first. */
export function balancerHint(request: { readonly NodeKey: string; readonly OldNodeKey?: string }): string[] {
  const old = request.OldNodeKey;
  return old === undefined || old === formatKey("nodekey", ZERO_KEY) ? [request.NodeKey] : [old, request.NodeKey];
}

/** Upstream's limits for what a 429 may ask: 1 h; otherwise 5 to 10 s, `fraction` of the way. */
export function retryAfterMs(header: string | undefined, wallMs: number, fraction: number): number {
  const seconds = header === undefined ? Number.NaN : Number(header);
  const ms = Number.isNaN(seconds) && header !== undefined ? Date.parse(header) - wallMs : seconds * 1000;
  return ms > 0 && ms <= 3_600_000 ? ms : 5000 + fraction * 5000;
}

/** An answer other than 200. */
export function statusFault(path: string, status: number, body: string): Fault {
  const text = body
    .slice(0, 200)
    .replace(/[^ -~]/g, " ")
    .trim();
  return new Fault(
    status === 429 ? "CONTROL_BUSY" : "CONTROL_STATUS",
    `Cannot ask "${path}": found status ${status}, wanted 200`,
    text === "" ? {} : { hint: `The server says: ${text}` },
  );
}

/** An answer that came: the channel is fine, and may say when to come back. */
export class StatusError extends Error {
  readonly fault: Fault;
  readonly status: number;
  readonly retryAfter: string | undefined;

  constructor(fault: Fault, answer: { readonly status: number; readonly retryAfter: string | undefined }) {
    super(fault.message);
    this.fault = fault;
    this.status = answer.status;
    this.retryAfter = answer.retryAfter;
  }
}

export function faultOf(error: unknown): Fault {
  if (error instanceof StatusError) return error.fault;
  if (error instanceof Fault) return error;
  return new Fault("CONTROL_BROKEN", `Cannot talk to the control server: ${messageOf(error)}`, { cause: error });
}
