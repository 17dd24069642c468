import { readFile } from "node:fs/promises";
import { z } from "zod";
import { Fault, messageOf } from "../base/fault.ts";
import { type Hujson, parseHujson } from "../base/hujson.ts";
import type { HttpHandler, ServeConfig, TcpPortHandler, WebServerConfig } from "../wire/serve-config.ts";
import { parseSource, parseTarget, type SourcePorts, type Target } from "./endpoints.ts";

/** The one version of the format (upstream `ipn/conffile/serveconf.go`). */
const VERSION = "0.0.1";
const MAX_PORTS = 1024;
const LISTED = "docs/services-file.md lists every member";

const caps = z.array(z.string());
const LARGEST_BODY_BYTES = 2 ** 40;
/** What a mount asks beyond upstream's configuration. */
const rulesSchema = {
  crossSite: z.enum(["pass", "deny"]).optional(),
  otherNames: z.array(z.string().regex(/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/, "found no header name")).optional(),
  onOtherName: z.enum(["drop", "reject"]).optional(),
  bodyBytes: z.number().int().min(0).max(LARGEST_BODY_BYTES).optional(),
};
const mountSchema = z.union([
  z.string(),
  z.strictObject({ target: z.string(), acceptAppCaps: caps.optional(), ...rulesSchema }),
]);
const endpointSchema = z.strictObject({
  listen: z.enum(["https", "http", "tcp", "tls-terminated-tcp"]).optional(),
  target: z.string().optional(),
  acceptAppCaps: caps.optional(),
  ...rulesSchema,
  mounts: z.record(z.string(), mountSchema).optional(),
  proxyProtocol: z.union([z.literal(1), z.literal(2)]).optional(),
  funnel: z.boolean().optional(),
});
const fileSchema = z.strictObject({
  version: z.literal(VERSION),
  node: z.strictObject({ endpoints: z.record(z.string(), z.union([z.string(), endpointSchema])) }).optional(),
  services: z
    .record(
      z.string(),
      z.strictObject({ endpoints: z.record(z.string(), z.string()), advertised: z.boolean().optional() }),
    )
    .optional(),
});

type Listen = "https" | "http" | "tcp" | "tls-terminated-tcp";
type Path = readonly (string | number)[];

/** What becomes of requests that a mount would rather not see; absent = as upstream. */
export interface MountRules {
  /** Requests that another site's page makes with the caller's identity. */
  readonly crossSite?: "pass" | "deny";
  /** Header names with other characters than letters, digits and dashes that may pass. */
  readonly otherNames?: readonly string[];
  /** What becomes of a request with any other such name. */
  readonly onOtherName?: "drop" | "reject";
  /** Longest body of a request. */
  readonly bodyBytes?: number;
}

export interface Mount {
  readonly target: Target;
  readonly acceptAppCaps: readonly string[];
  readonly rules: MountRules;
}

/** What a run of ports does. */
export interface Endpoint {
  readonly ports: SourcePorts;
  readonly listen: Listen;
  /** By path; TCP listeners have the one `/`. */
  readonly mounts: ReadonlyMap<string, Mount>;
  readonly proxyProtocol: number;
  readonly funnel: boolean;
}

/** A checked services file. */
export interface ServicesConfig {
  readonly node: readonly Endpoint[];
  /** `svc:` entries: checked, and waiting for an address that only the network's administrator can give. */
  readonly services: ReadonlyMap<
    string,
    { readonly endpoints: readonly Endpoint[] | "tun"; readonly advertised: boolean }
  >;
  /** What an operator should know though it is allowed. */
  readonly warnings: readonly string[];
}

export async function readServices(file: string): Promise<ServicesConfig> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (cause) {
    throw new Fault("CONFIG_UNREADABLE", `Cannot read "${file}": ${messageOf(cause)}`, { cause });
  }
  return parseServices(text, file);
}

/** Upstream's Services file with one member more, `node`: the same endpoints for the node itself. */
export function parseServices(text: string, file: string): ServicesConfig {
  const parsed = parseHujson(text, file);
  const fail = failAt(parsed, file);
  const raw = parsed.value;
  if (typeof raw !== "object" || raw === null || Array.isArray(raw))
    return fail([], "found another value, wanted an object");
  if (!("version" in raw)) return fail([], `found no "version", wanted "version": "${VERSION}"`);
  const dropped = protoMember(raw, []);
  if (dropped !== undefined) fail(dropped, 'found unknown member "__proto__"', LISTED);
  const read = fileSchema.safeParse(raw);
  if (!read.success) return fail(...nearest(read.error.issues, []));
  const { node, services } = read.data;
  const warnings: string[] = [];
  const nodeEndpoints = node === undefined ? [] : endpoints(node.endpoints, ["node", "endpoints"], fail, warnings);
  if (nodeEndpoints === "tun") return fail(["node", "endpoints", "*"], "found TUN, which only a service can have");
  const found = new Map<string, { endpoints: readonly Endpoint[] | "tun"; advertised: boolean }>();
  for (const [name, service] of Object.entries(services ?? {})) {
    if (!isServiceName(name)) {
      fail(["services", name], `found service name "${name}", wanted svc: and one DNS label of letters, digits and -`);
    }
    const path = ["services", name, "endpoints"];
    if (Object.keys(service.endpoints).length === 0) fail(path, "found no endpoints, wanted at least one");
    found.set(name, {
      endpoints: endpoints(service.endpoints, path, fail, warnings),
      advertised: service.advertised ?? true,
    });
    warnings.push(`${name} waits for an address: an administrator of the network approves services`);
  }
  return { node: nodeEndpoints, services: found, warnings };
}

/** `svc:` and one DNS label (upstream `tailcfg.ServiceName.Validate`). */
export function isServiceName(name: string): boolean {
  return /^svc:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/i.test(name);
}

type Fail = (path: Path, found: string, hint?: string) => never;

function failAt(parsed: Hujson, file: string): Fail {
  return (path, found, hint) => {
    const { line, column } = parsed.positionOf(path);
    const where = path.length === 0 ? "" : `${path.map(String).join(" / ")}: `;
    throw new Fault("CONFIG_SERVICES", `Cannot use "${file}": line ${line}, column ${column}: ${where}${found}`, {
      line,
      column,
      ...(hint === undefined ? {} : { hint }),
    });
  };
}

/** Zod passes over a member of this name without a word, wherever names are free. */
function protoMember(value: unknown, path: Path): Path | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  for (const [name, member] of Object.entries(value)) {
    const found = name === "__proto__" ? [...path, name] : protoMember(member, [...path, name]);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** The first issue, inside a union the one that got furthest. */
function nearest(issues: readonly z.core.$ZodIssue[], base: Path): [path: Path, found: string, hint?: string] {
  const issue = issues[0];
  if (issue === undefined) return [base, "found an unexpected shape"];
  const path: Path = [...base, ...issue.path.filter((step) => typeof step !== "symbol")];
  if (issue.code === "invalid_union") {
    const branches = issue.errors.filter((branch) => branch.length > 0);
    const object = branches.find((branch) => branch[0]?.code !== "invalid_type" || branch[0].path.length > 0);
    return nearest(object ?? branches[0] ?? [], path);
  }
  if (issue.code === "unrecognized_keys") {
    const key = issue.keys[0] ?? "";
    return [[...path, key], `found unknown member "${key}"`, LISTED];
  }
  return [path, issue.message];
}

type RawEndpoint = string | z.infer<typeof endpointSchema>;

function endpoints(
  given: Readonly<Record<string, RawEndpoint>>,
  path: Path,
  fail: Fail,
  warnings: string[],
): readonly Endpoint[] | "tun" {
  const found: Endpoint[] = [];
  const keys = Object.keys(given);
  for (const key of keys) {
    const at = [...path, key];
    const source = parseSource(key);
    if (typeof source === "object" && "refusal" in source) return fail(at, source.refusal);
    const value = given[key] as RawEndpoint;
    if (value === "TUN") {
      if (source !== "all") fail(at, 'found TUN with ports, destination "TUN" can only be used with source "*"');
      if (keys.length > 1) fail(at, "found TUN beside other endpoints, wanted it alone");
      return "tun";
    }
    if (source === "all") return fail(at, `found every port, wanted at most ${MAX_PORTS} in one entry`);
    if (source.last - source.first >= MAX_PORTS)
      fail(at, `found ${source.last - source.first + 1} ports, wanted at most ${MAX_PORTS}`);
    const clash = found.find((other) => other.ports.first <= source.last && source.first <= other.ports.last);
    if (clash !== undefined)
      fail(at, `found ports that an earlier entry has (${clash.ports.first}-${clash.ports.last})`);
    found.push(endpoint(source, value, at, fail, warnings));
  }
  return found;
}

function endpoint(ports: SourcePorts, value: RawEndpoint, at: Path, fail: Fail, warnings: string[]): Endpoint {
  const target = (text: string, where: Path): Target => {
    const read = parseTarget(text);
    if ("refusal" in read) return fail(where, read.refusal);
    if (read.kind === "ports") {
      if (read.last - read.first !== ports.last - ports.first)
        fail(where, "found another number of ports than the source has");
    } else if (read.kind === "tun") fail(where, 'found TUN, which is only for source "*"');
    if ("scheme" in read && read.scheme === "https+insecure") {
      warnings.push(`${at.map(String).join(" / ")}: the certificate of ${text} is not verified`);
    }
    return read;
  };
  if (typeof value === "string") {
    const only = target(value, at);
    const mounts = new Map([["/", { target: only, acceptAppCaps: [], rules: {} }]]);
    return { ports, listen: impliedListener(only), mounts, proxyProtocol: 0, funnel: false };
  }
  const mounts = new Map<string, Mount>();
  const add = (mount: string, text: string, given: MountRules & AcceptedCaps, where: Path): void => {
    const { acceptAppCaps = [] } = given;
    const read = target(text, where);
    if (acceptAppCaps.length > 0 && !["proxy", "ports", "socket"].includes(read.kind)) {
      fail(where, "found acceptAppCaps with a target that passes no headers on, wanted a web backend");
    }
    for (const cap of acceptAppCaps) {
      if (!isCapabilityName(cap))
        fail(where, `found capability "${cap}", wanted {domain}/{name} with a full domain name`);
    }
    mounts.set(mount, { target: read, acceptAppCaps, rules: rulesOf(given) });
  };
  if (value.target !== undefined) add("/", value.target, value as MountRules & AcceptedCaps, [...at, "target"]);
  else if (value.acceptAppCaps !== undefined) fail([...at, "acceptAppCaps"], "found no target that it could belong to");
  for (const [mount, one] of Object.entries(value.mounts ?? {})) {
    const where = [...at, "mounts", mount];
    if (!isMountPoint(mount)) fail(where, `found mount point "${mount}", wanted a clean path that begins with /`);
    if (mounts.has(mount)) fail(where, `found a second target for ${mount}`);
    if (typeof one === "string") add(mount, one, {}, where);
    else add(mount, one.target, one as MountRules & AcceptedCaps, [...where, "target"]);
  }
  if (mounts.size === 0) fail(at, "found neither target nor mounts, wanted one of them");
  const root = mounts.get("/")?.target;
  const isTcpTarget = root !== undefined && "scheme" in root && ["tcp", "tls-terminated-tcp"].includes(root.scheme);
  const listen: Listen = value.listen ?? (isTcpTarget && root !== undefined ? impliedListener(root) : "https");
  const isTcp = listen === "tcp" || listen === "tls-terminated-tcp";
  if (isTcp && (mounts.size !== 1 || root === undefined)) fail(at, "found mounts on a TCP listener, wanted one target");
  if (isTcp && root !== undefined && root.kind !== "ports" && root.kind !== "socket") {
    fail([...at, "target"], "found a web target on a TCP listener, wanted tcp://host:port or unix:path");
  }
  if (!isTcp && isTcpTarget) fail([...at, "target"], `found a TCP target on an ${listen} listener`);
  if (value.proxyProtocol !== undefined && (!isTcp || root?.kind === "socket")) {
    fail([...at, "proxyProtocol"], "PROXY protocol is only supported for TCP forwarding to host:port");
  }
  if (isTcp && (value.acceptAppCaps?.length ?? 0) > 0) {
    fail([...at, "acceptAppCaps"], "found capabilities on a TCP listener, which has no headers");
  }
  const funnel = value.funnel ?? false;
  if (funnel) warnings.push(`${at.map(String).join(" / ")}: open to the internet, without login`);
  return { ports, listen, mounts, proxyProtocol: value.proxyProtocol ?? 0, funnel };
}

interface AcceptedCaps {
  readonly acceptAppCaps?: readonly string[];
}

function rulesOf({ crossSite, otherNames, onOtherName, bodyBytes }: MountRules): MountRules {
  return {
    ...(crossSite === undefined ? {} : { crossSite }),
    ...(otherNames === undefined ? {} : { otherNames }),
    ...(onOtherName === undefined ? {} : { onOtherName }),
    ...(bodyBytes === undefined ? {} : { bodyBytes }),
  };
}

/** The rules of one mount of the node's own. */
export function mountRules(config: ServicesConfig, port: number, mount: string): MountRules | undefined {
  const endpoint = config.node.find(({ ports }) => ports.first <= port && port <= ports.last);
  return endpoint?.mounts.get(mount)?.rules;
}

/** What upstream's table says a bare target creates: `http` means plain HTTP on the source port too. */
function impliedListener(target: Target): Listen {
  if (!("scheme" in target)) return "https";
  if (target.scheme === "http") return "http";
  if (target.scheme === "tcp" || target.scheme === "tls-terminated-tcp") return target.scheme;
  return "https";
}

/** Upstream `cli/serve_v2.go:cleanURLPath`: clean, perhaps with one slash at the end. */
export function isMountPoint(text: string): boolean {
  if (!text.startsWith("/") || text.includes("//")) return false;
  return !text.split("/").some((part) => part === "." || part === "..");
}

/** `{domain}/{name}` (upstream `cli/serve_v2.go:acceptAppCapsFlag`). */
export function isCapabilityName(text: string): boolean {
  return /^(?:[\p{L}\p{N}-]+\.)+[\p{L}\p{N}-]+\/[\p{L}\p{N}/-]+$/u.test(text);
}

/** What the node itself serves, as the document that the proxy and the local admin interface know. */
export function nodeServeConfig(config: ServicesConfig, name: string): ServeConfig {
  const ports: Record<string, TcpPortHandler> = {};
  const web: Record<string, WebServerConfig> = {};
  const funnel: Record<string, boolean> = {};
  for (const one of config.node) {
    for (let port = one.ports.first; port <= one.ports.last; port += 1) {
      const offset = port - one.ports.first;
      if (one.listen === "https" || one.listen === "http") {
        ports[port] = one.listen === "https" ? { HTTPS: true } : { HTTP: true };
        const handlers = [...one.mounts].map(([mount, to]) => [mount, handler(to, offset)] as const);
        web[`${name}:${port}`] = { Handlers: Object.fromEntries(handlers) };
      } else {
        ports[port] = {
          TCPForward: forward(one.mounts.get("/")?.target, offset),
          ...(one.listen === "tls-terminated-tcp" ? { TerminateTLS: name } : {}),
          ...(one.proxyProtocol > 0 ? { ProxyProtocol: one.proxyProtocol } : {}),
        };
      }
      if (one.funnel) funnel[`${name}:${port}`] = true;
    }
  }
  return {
    ...(Object.keys(ports).length > 0 ? { TCP: ports } : {}),
    ...(Object.keys(web).length > 0 ? { Web: web } : {}),
    ...(Object.keys(funnel).length > 0 ? { AllowFunnel: funnel } : {}),
  };
}

function handler(mount: Mount, offset: number): HttpHandler {
  const { target, acceptAppCaps } = mount;
  const accepted = acceptAppCaps.length > 0 ? { AcceptAppCaps: acceptAppCaps } : {};
  switch (target.kind) {
    case "proxy":
      return { Proxy: target.url, ...accepted };
    case "ports":
      return { Proxy: `${target.scheme}://${target.host}:${target.first + offset}`, ...accepted };
    case "socket":
      return { Proxy: `unix:${target.path}`, ...accepted };
    case "path":
      return { Path: target.path };
    case "text":
      return { Text: target.text };
    case "redirect":
      return { Redirect: target.value };
    case "tun":
      return {};
  }
}

function forward(target: Target | undefined, offset: number): string {
  if (target?.kind === "ports") return `${target.host}:${target.first + offset}`;
  return target?.kind === "socket" ? `unix:${target.path}` : "";
}
