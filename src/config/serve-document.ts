import { createHash } from "node:crypto";
import { z } from "zod";
import { Fault } from "../base/fault.ts";
import type { HttpHandler, ServeConfig, ServiceConfig, TcpPortHandler, WebServerConfig } from "../wire/serve-config.ts";

// Text form of the serve configuration, byte for byte as upstream's daemon writes it (Go's encoding/json over
// `ipn/serve.go`): members in the order of the structure, map keys sorted, empty members left out, `<`, `>`, `&` escaped.

type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json } | SortedMap;

/** Go's encoding/json: like JSON.stringify, with the characters that HTML minds escaped. */
export function goJson(value: unknown, indent?: string): string {
  const text = JSON.stringify(value, null, indent) ?? "null";
  return text.replace(/[<>&\u2028\u2029]/g, (found) => `\\u${found.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

function sorted<T>(map: Readonly<Record<string, T>> | undefined, encode: (value: T) => Json): Json | undefined {
  if (map === undefined || Object.keys(map).length === 0) return undefined;
  const keys = Object.keys(map).sort(byUtf8);
  // Numeric-looking keys would be reordered by the engine in a plain object, so a sorted map keeps its own writer.
  return new SortedMap(keys.map((key) => [key, encode(map[key] as T)]));
}

/** Go sorts map keys by their bytes. */
export function byUtf8(left: string, right: string): number {
  return Buffer.compare(Buffer.from(left), Buffer.from(right));
}

class SortedMap {
  readonly entries: readonly (readonly [string, Json])[];
  constructor(entries: readonly (readonly [string, Json])[]) {
    this.entries = entries;
  }
}

function write(value: Json, indent: string, depth: string): string {
  const inner = depth + indent;
  const open = indent === "" ? "" : `\n${inner}`;
  const close = indent === "" ? "" : `\n${depth}`;
  const separator = indent === "" ? ":" : ": ";
  const members =
    value instanceof SortedMap
      ? value.entries
      : typeof value === "object" && value !== null && !Array.isArray(value)
        ? Object.entries(value)
        : undefined;
  if (members !== undefined) {
    if (members.length === 0) return "{}";
    const lines = members.map(([key, member]) => `${goJson(key)}${separator}${write(member, indent, inner)}`);
    return `{${open}${lines.join(`,${open}`)}${close}}`;
  }
  if (Array.isArray(value)) {
    if (value.length === 0) return "[]";
    return `[${open}${value.map((item: Json) => write(item, indent, inner)).join(`,${open}`)}${close}]`;
  }
  return goJson(value);
}

function compact(members: Readonly<Record<string, Json | undefined>>): Json {
  const kept: Record<string, Json> = {};
  for (const [name, value] of Object.entries(members)) if (value !== undefined) kept[name] = value;
  return kept;
}

function tcpHandler(handler: TcpPortHandler): Json {
  return compact({
    HTTPS: handler.HTTPS || undefined,
    HTTP: handler.HTTP || undefined,
    TCPForward: handler.TCPForward || undefined,
    TerminateTLS: handler.TerminateTLS || undefined,
    ProxyProtocol: handler.ProxyProtocol || undefined,
  });
}

function httpHandler(handler: HttpHandler): Json {
  const caps = handler.AcceptAppCaps ?? [];
  return compact({
    Path: handler.Path || undefined,
    Proxy: handler.Proxy || undefined,
    Text: handler.Text || undefined,
    AcceptAppCaps: caps.length > 0 ? caps : undefined,
    Redirect: handler.Redirect || undefined,
  });
}

function web(server: WebServerConfig): Json {
  if (server.Handlers === null) return { Handlers: null };
  return { Handlers: sorted(server.Handlers, httpHandler) ?? {} };
}

function service(config: ServiceConfig): Json {
  return compact({ TCP: sorted(config.TCP, tcpHandler), Web: sorted(config.Web, web), Tun: config.Tun || undefined });
}

function document(config: ServeConfig): Json {
  return compact({
    TCP: sorted(config.TCP, tcpHandler),
    Web: sorted(config.Web, web),
    Services: sorted(config.Services, service),
    AllowFunnel: sorted(config.AllowFunnel, (isAllowed) => isAllowed),
    Foreground: sorted(config.Foreground, document),
  });
}

/** The document as upstream sends it; `indent` for `serve status --json`. */
export function encodeServeConfig(config: ServeConfig | null, indent: string = ""): string {
  return config === null ? "null" : write(document(config), indent, "");
}

/** Upstream's tag: SHA-256 of the text, in hex, unquoted (`ipnlocal/serve.go:generateServeConfigETag`). */
export function serveConfigEtag(config: ServeConfig | null): string {
  return createHash("sha256").update(encodeServeConfig(config)).digest("hex");
}

const tcpSchema = z.object({
  HTTPS: z.boolean().optional(),
  HTTP: z.boolean().optional(),
  TCPForward: z.string().optional(),
  TerminateTLS: z.string().optional(),
  ProxyProtocol: z.int().optional(),
});
const webSchema = z.object({
  Handlers: z
    .record(
      z.string(),
      z.object({
        Path: z.string().optional(),
        Proxy: z.string().optional(),
        Text: z.string().optional(),
        Redirect: z.string().optional(),
        AcceptAppCaps: z.array(z.string()).nullish(),
      }),
    )
    .nullish()
    .transform((handlers) => handlers ?? null),
});
const portKey = z.string().regex(/^\d{1,5}$/);
const portMap = z.record(portKey, tcpSchema).nullish();
const webMap = z.record(z.string(), webSchema).nullish();
const flat = {
  TCP: portMap,
  Web: webMap,
  Services: z.record(z.string(), z.object({ TCP: portMap, Web: webMap, Tun: z.boolean().optional() })).nullish(),
  AllowFunnel: z.record(z.string(), z.boolean()).nullish(),
};
const documentSchema = z.object({ ...flat, Foreground: z.record(z.string(), z.object(flat)).nullish() }).nullable();

/** Reads a posted document. Unknown members are ignored, as upstream does; wrong types are not. */
export function decodeServeConfig(text: string): ServeConfig | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new Fault("CONFIG_SERVE_SYNTAX", cause instanceof Error ? cause.message : "invalid JSON", { cause });
  }
  const read = documentSchema.safeParse(value);
  if (!read.success) {
    const issue = read.error.issues[0];
    throw new Fault("CONFIG_SERVE_SHAPE", `${issue?.path.join(".") ?? ""}: ${issue?.message ?? "unexpected shape"}`);
  }
  return dropEmpty(read.data) as ServeConfig | null;
}

/** Null and undefined members are the same as absent ones, but for `Handlers`. */
function dropEmpty(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(dropEmpty);
  if (typeof value !== "object" || value === null) return value;
  const kept: Record<string, unknown> = {};
  for (const [name, member] of Object.entries(value)) {
    if (member === undefined || (member === null && name !== "Handlers")) continue;
    kept[name] = dropEmpty(member);
  }
  return kept;
}
