import { type IncomingMessage, METHODS } from "node:http";
import type { ProxyLimits } from "./options.ts";

/** Why a request is not routed at all. */
export interface Refusal {
  readonly status: number;
  readonly reason: string;
}

/** What the checks leave of a request for the router. */
export interface Checked {
  /** The caller's Host or authority, as sent. Empty only for HTTP/1.0. */
  readonly host: string;
  /** Origin form. */
  readonly target: string;
  readonly isChunked: boolean;
  /** Of a body with a declared length. */
  readonly length: number | undefined;
}

/** Those that Node's parser of HTTP/1 takes: by HTTP/2 there are no others, and none in small letters. */
const KNOWN_METHODS: ReadonlySet<string> = new Set(METHODS);
/** Colon, blank and line end. */
const FIELD_MARKS = 4;

const refuse = (status: number, reason: string): Refusal => ({ status, reason });

/** What Node's parser lets through and a backend might read differently (reliability matrix section 4.2). */
export function checkRequest(request: IncomingMessage, limits: ProxyLimits): Checked | Refusal {
  const { rawHeaders, httpVersionMajor, httpVersion } = request;
  const isHttp2 = httpVersionMajor === 2;
  if (!isHttp2 && httpVersion !== "1.0" && httpVersion !== "1.1") return refuse(400, "unsupported protocol version");
  const url = request.url ?? "";
  if (url.length > limits.targetBytes) return refuse(414, "the request target is too long");
  if (isHttp2 && !KNOWN_METHODS.has(request.method ?? "")) return refuse(501, "unknown method");
  if (request.method === "TRACE" || request.method === "CONNECT") return refuse(405, "method not allowed");

  const hosts: string[] = [];
  const codings: string[] = [];
  let authority: string | undefined;
  let lengthText: string | undefined;
  let fieldCount = rawHeaders.length / 2;
  let crumbs = 0;
  let bytes = url.length;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const value = rawHeaders[i + 1]!;
    bytes += rawHeaders[i]!.length + value.length + FIELD_MARKS;
    switch (rawHeaders[i]!.toLowerCase()) {
      case "host":
        hosts.push(value);
        break;
      case ":authority":
        authority = value;
        break;
      case "transfer-encoding":
        codings.push(value);
        break;
      case "content-length":
        if (lengthText !== undefined) return refuse(400, "two lengths");
        lengthText = value;
        break;
      case "cookie":
        crumbs++;
        break;
    }
  }
  // HTTP/2 sends each cookie as a field of its own (RFC 9113 section 8.2.3), and four that are the request line.
  if (isHttp2) fieldCount -= Math.max(0, crumbs - 1) + 4;
  if (bytes > limits.headBytes) return refuse(431, "the header fields are too long");
  if (fieldCount > limits.headFields) return refuse(431, "too many header fields");
  if (codings.length > 0) {
    if (lengthText !== undefined) return refuse(400, "two ways of framing");
    if (codings.length > 1 || codings[0]!.toLowerCase() !== "chunked")
      return refuse(501, "unsupported transfer coding");
    if (httpVersion === "1.0") return refuse(400, "a transfer coding in HTTP/1.0");
  }
  if (lengthText !== undefined && !/^\d{1,15}$/.test(lengthText)) return refuse(400, "malformed length");
  const host = authority ?? hosts[0];
  if (hosts.length > 1 || (host === undefined && httpVersion !== "1.0")) return refuse(400, "missing or repeated Host");
  if (authority !== undefined && hosts.length === 1 && hosts[0] !== authority)
    return refuse(400, "Host is not authority");
  if (host !== undefined && !isHost(host)) return refuse(400, "malformed Host");
  const target = url === "*" && request.method === "OPTIONS" ? url : originForm(url, host ?? "");
  if (target === undefined) return refuse(400, "malformed request target");
  const length = lengthText === undefined ? undefined : Number(lengthText);
  return { host: host ?? "", target, isChunked: codings.length > 0, length };
}

function isHost(text: string): boolean {
  const match = /^(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(\d{0,5}))?$/.exec(text);
  if (match === null) return false;
  const port = match[1];
  return port === undefined || port === "" || (Number(port) > 0 && Number(port) <= 65535);
}

/** An absolute target must name the same authority as Host; anything that is neither form is no target. */
function originForm(url: string, host: string): string | undefined {
  if (url.startsWith("/")) return url;
  const absolute = /^https?:\/\/([^/?#]*)(.*)$/is.exec(url);
  if (absolute === null || absolute[1]!.toLowerCase() !== host.toLowerCase()) return undefined;
  return absolute[2]!.startsWith("/") ? absolute[2] : `/${absolute[2]}`;
}
