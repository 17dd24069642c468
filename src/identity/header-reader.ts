import type { CapMap } from "../wire/tailcfg.ts";
import { encodeHeaderValue } from "./headers.ts";

/** Request headers as `node:http`, Express, Fastify (objects) or fetch-style frameworks (`Headers`) have them. */
export type RequestHeaders =
  | { readonly [name: string]: string | readonly string[] | undefined }
  | { get(name: string): string | null };

/** What the gateway says of a caller in header fields. */
export type HeaderCaller =
  | {
      readonly kind: "user";
      readonly login: string;
      readonly name: string;
      /** Empty when the user has none. */
      readonly picture: string;
      readonly address: string;
    }
  | { readonly kind: "guest"; readonly issuer: string; readonly subject: string; readonly address: string }
  | { readonly kind: "tagged" | "routed" | "anonymous" | "probe"; readonly address: string };

export interface HeaderIdentity {
  readonly caller: HeaderCaller;
  /** What the policy grants here, by capability name, of the names that the service accepts. */
  readonly capabilities: CapMap;
  /** Came in from the public internet. */
  readonly isFunnel: boolean;
}

/**
 * Who called, by the header fields of docs/identity.md; `undefined` when they are missing or contradict each other:
 * then the request did not come through the gateway, and a backend refuses it.
 * Only to be believed where nobody but the gateway can connect; elsewhere verify the assertion.
 */
export function readIdentity(headers: RequestHeaders): HeaderIdentity | undefined {
  const field = (name: string): string | undefined => single(headers, name);
  const address = field("x-forwarded-for");
  const kind = field("sallyport-caller-kind");
  const capabilities = capabilitiesIn(field("tailscale-app-capabilities"));
  if (address === undefined || kind === undefined || capabilities === undefined) return undefined;
  const caller = callerOf(kind, address, field);
  return caller && { caller, capabilities, isFunnel: field("tailscale-funnel-request") === "?1" };
}

function callerOf(
  kind: string,
  address: string,
  field: (name: string) => string | undefined,
): HeaderCaller | undefined {
  switch (kind) {
    case "user": {
      const login = decodeHeaderValue(field("tailscale-user-login") ?? "");
      const name = decodeHeaderValue(field("tailscale-user-name") ?? "");
      return login === ""
        ? undefined
        : { kind, login, name, picture: field("tailscale-user-profile-pic") ?? "", address };
    }
    case "guest": {
      const guest = objectIn(field("sallyport-guest") ?? "");
      const { iss: issuer, sub: subject } = guest ?? {};
      if (typeof issuer !== "string" || typeof subject !== "string") return undefined;
      return { kind, issuer, subject, address };
    }
    case "tagged":
    case "routed":
    case "anonymous":
    case "probe":
      return { kind, address };
    default:
      return undefined;
  }
}

function single(headers: RequestHeaders, name: string): string | undefined {
  if (typeof headers["get"] === "function") return headers.get(name) ?? undefined;
  const value = (headers as Readonly<Record<string, unknown>>)[name];
  if (Array.isArray(value)) return value.length === 1 && typeof value[0] === "string" ? value[0] : undefined;
  return typeof value === "string" ? value : undefined;
}

function capabilitiesIn(text: string | undefined): CapMap | undefined {
  // Without a prototype: a lookup of "constructor" must not find anything.
  const capabilities: Record<string, unknown[]> = Object.create(null);
  if (text === undefined) return capabilities;
  const value = objectIn(text);
  if (value === undefined) return undefined;
  for (const [name, grants] of Object.entries(value)) {
    if (!Array.isArray(grants)) return undefined;
    capabilities[name] = grants;
  }
  return capabilities;
}

function objectIn(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? { ...value } : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Undoes the RFC 2047 words of `encodeHeaderValue`, and nothing else: a value that is not exactly what the gateway
 * would have written for non-ASCII text stays as it is, so that nobody's ASCII login reads as somebody else's.
 */
export function decodeHeaderValue(value: string): string {
  if (!value.startsWith("=?utf-8?q?")) return value;
  const bytes: number[] = [];
  for (const word of value.split(" ")) {
    const content = /^=\?utf-8\?q\?([^? ]*)\?=$/.exec(word)?.[1];
    if (content === undefined) return value;
    for (const [, hex, character] of content.matchAll(/=([0-9A-F]{2})|(.)/g)) {
      bytes.push(hex === undefined ? (character === "_" ? 0x20 : character!.charCodeAt(0)) : Number.parseInt(hex, 16));
    }
  }
  const text = Buffer.from(bytes).toString("utf8");
  return /[^\t\x20-\x7e]/.test(text) && encodeHeaderValue(text) === value ? text : value;
}
