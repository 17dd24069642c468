import type { IncomingMessage, ServerResponse } from "node:http";
import type { Log } from "../base/log.ts";
import type { HeaderPair } from "../identity/headers.ts";
import type { Backend } from "./backend.ts";
import type { AskOptions, BackendPool } from "./backend-pool.ts";
import { requestFields } from "./fields.ts";
import type { ProxyOptions } from "./options.ts";
import type { Checked } from "./request-checks.ts";
import type { Asked } from "./upstream/exchange.ts";

/** A request that was routed to a backend, with everything that sending it needs. */
export interface Forwarding {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly checked: Checked;
  readonly backend: Backend;
  /** With the query. */
  readonly path: string;
  readonly identity: readonly HeaderPair[];
  readonly pool: BackendPool;
  readonly poolKey: string;
  /** The operator vouches that this backend reads every body. */
  readonly readsBodies?: boolean;
  /** The longest body that may be sent on. */
  readonly bodyBytes?: number;
  readonly log: Log;
  readonly count: ProxyOptions["count"];
  readonly rewrite: (name: string, value: string) => string;
}

const LENGTH_WANTED: ReadonlySet<string> = new Set(["POST", "PUT", "PATCH"]);
/** RFC 9110 section 9.2.2, of those that we let through without a body. */
const RETRIED: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS"]);

/** The request anew from its parsed parts; the framing is ours. */
export function askedOf(work: Forwarding, extra: readonly HeaderPair[] = []): Asked {
  const { request, checked, backend, identity, path } = work;
  const method = request.method ?? "GET";
  let fields = requestFields(request.rawHeaders, checked.isChunked);
  // Not known to HTTP/1.0, so it is ignored, whatever it says (RFC 9110 section 10.1.1).
  if (request.httpVersion === "1.0") fields = fields.filter(([name]) => name.toLowerCase() !== "expect");
  for (const pair of extra) fields.push(pair);
  for (const pair of identity) fields.push(pair);
  const host = backend.socketPath === undefined ? checked.host : "localhost";
  const body = bodyOf(request, checked);
  // A backend that leaves a body unread would take it for the next request, with any identity that the caller has written
  // there: hand-written ones do, and Cheroot with what an application leaves of chunks. One that is told to close reads no
  // next request (RFC 9112 section 9.6).
  const isLast = body !== "none" && body !== 0 && work.readsBodies !== true;
  return { method, path, host, fields, body, isLast };
}

function bodyOf(request: IncomingMessage, { isChunked, length }: Checked): Asked["body"] {
  if (isChunked) return "chunked";
  if (length !== undefined && length > 0) return length;
  // HTTP/2 needs neither field for a body.
  if (request.httpVersionMajor === 2 && !isEndedStream(request)) return "chunked";
  return LENGTH_WANTED.has(request.method ?? "") ? 0 : "none";
}

function isEndedStream(request: IncomingMessage): boolean {
  const { stream } = request as IncomingMessage & { readonly stream?: { readonly endAfterHeaders?: boolean } };
  return stream?.endAfterHeaders === true || request.readableEnded;
}

/** May it be sent again when its connection died unanswered? (H1-24) */
export function isRepeatable({ method, body }: Asked): boolean {
  return body === "none" && RETRIED.has(method);
}

export function askOptionsOf(work: Forwarding): AskOptions {
  return { isH2c: isH2c(work), isShared: work.request.httpVersionMajor === 2 };
}

/**
 * HTTP/2 to a backend without TLS, as upstream has it: for gRPC alone, as nothing can tell beforehand what else such a
 * backend speaks (upstream `shouldProxyViaH2C`).
 */
function isH2c({ request, backend }: Forwarding): boolean {
  if (request.httpVersionMajor !== 2 || backend.scheme !== "http") return false;
  return /^application\/grpc(?:[+;]|$)/.test(request.headers["content-type"] ?? "");
}
