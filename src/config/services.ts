import { readFile } from "node:fs/promises";
import { z } from "zod";
import { Fault, messageOf } from "../base/fault.ts";
import { parseHujson } from "../base/hujson.ts";
import { asciiName, plainName } from "../wire/host-name.ts";
import type { VisitorRules } from "../wire/visitor-rules.ts";
import { type CertificatesConfig, certificatesSchema, checkCertificates, isCertificateName } from "./certificates.ts";
import { checkDoors, type DoorsConfig, doorsSchema } from "./doors.ts";
import { parseSource, parseTarget, type SourcePorts, type Target } from "./endpoints.ts";
import { type Fail, failAt, nearest, type Path, protoMember, unknownMember } from "./file-faults.ts";
import { leasedPorts } from "./leases.ts";
import { type GivenRules, inherited, type MountRules, rulesOf, rulesSchema } from "./mount-rules.ts";
import { type LimitsConfig, limitsSchema } from "./request-limits.ts";
import { funnelSchema, visitorRulesOf } from "./visitor-rules.ts";

/** The one version of the format (upstream `ipn/conffile/serveconf.go`). */
const VERSION = "0.0.1";
const MAX_PORTS = 1024;

const caps = z.array(z.string());
const mountSchema = z.union([
  z.string(),
  z.strictObject({ target: z.string(), acceptAppCaps: caps.optional(), ...rulesSchema }),
]);
/** What is served at the paths of one name. */
const contentSchema = {
  target: z.string().optional(),
  acceptAppCaps: caps.optional(),
  ...rulesSchema,
  mounts: z.record(z.string(), mountSchema).optional(),
};
const hostName = z.string().refine(isCertificateName, {
  error: ({ input }) => {
    const plain = plainName(asciiName(String(input)));
    const meant = isCertificateName(plain) ? `, wanted ${plain}` : ", such as app.example.com";
    return `found no full DNS name${meant}`;
  },
});
const endpointSchema = z.strictObject({
  listen: z.enum(["https", "http", "tcp", "tls-terminated-tcp"]).optional(),
  ...contentSchema,
  hosts: z
    .union([z.array(hostName).min(1), z.record(hostName, z.union([z.string(), z.strictObject(contentSchema)]))])
    .optional(),
  redirectHttp: z.boolean().optional(),
  proxyProtocol: z.union([z.literal(1), z.literal(2)]).optional(),
  funnel: funnelSchema.optional(),
  lease: z.union([z.int(), funnelSchema]).optional(),
});
const serviceTarget = z.string({
  error: "found no target: mounts, doors and rules are for what the node itself serves",
});
const fileSchema = z.strictObject({
  version: z.literal(VERSION),
  certificates: certificatesSchema.optional(),
  limits: limitsSchema.optional(),
  doors: doorsSchema.optional(),
  node: z.strictObject({ endpoints: z.record(z.string(), z.union([z.string(), endpointSchema])) }).optional(),
  services: z
    .record(
      z.string(),
      z.strictObject({ endpoints: z.record(z.string(), serviceTarget), advertised: z.boolean().optional() }),
    )
    .optional(),
});

type Listen = "https" | "http" | "tcp" | "tls-terminated-tcp";

export interface Mount {
  readonly target: Target;
  readonly acceptAppCaps: readonly string[];
  readonly rules: MountRules;
  /** Of the target, which another may stand for by a command. */
  readonly keepAliveAfterBody: boolean;
}

export type Mounts = ReadonlyMap<string, Mount>;

/** What a run of ports does. */
export interface Endpoint {
  readonly ports: SourcePorts;
  readonly listen: Listen;
  /** By path, for the node's own name; TCP listeners have the one `/`. */
  readonly mounts: Mounts;
  /** The same for names of the operator's own, in lower case. */
  readonly hosts: ReadonlyMap<string, Mounts>;
  /** Plain HTTP on port 80 leads here. */
  readonly redirectHttp: boolean;
  /** The door before whatever is mounted here by other means than the file, too. */
  readonly door?: string;
  readonly proxyProtocol: number;
  readonly funnel: boolean;
  /** Which visitors from the Internet may come, and how many. */
  readonly visitorRules?: VisitorRules;
  /** Of its ports, those that are public as they are (`docs/funnel.md`). */
  readonly leases: readonly number[];
}

/** A checked services file. */
export interface ServicesConfig {
  /** It says what is served. One of doors, certificates and limits alone leaves that to commands. */
  readonly saysWhatIsServed: boolean;
  readonly node: readonly Endpoint[];
  readonly certificates: CertificatesConfig;
  readonly doors: DoorsConfig;
  readonly limits: LimitsConfig;
  /** `svc:` entries: hosted once the network's administrator has given them addresses. */
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
  if (dropped !== undefined) fail(dropped, ...unknownMember("__proto__"));
  const read = fileSchema.safeParse(raw);
  if (!read.success) return fail(...nearest(read.error.issues, []));
  const { node, services } = read.data;
  const warnings: string[] = [];
  const nodeEndpoints = node === undefined ? [] : endpoints(node.endpoints, ["node", "endpoints"], fail, warnings);
  if (nodeEndpoints === "tun") return fail(["node", "endpoints", "*"], "found TUN, which only a service can have");
  checkHttpRedirect(nodeEndpoints, fail);
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
    if (found.get(name)?.endpoints === "tun")
      warnings.push(`${name} is left out: TUN is for hosts with a kernel interface`);
  }
  const { certificates = {}, doors = {}, limits = {} } = read.data;
  checkCertificates(certificates, fail);
  const raws = Object.entries(node?.endpoints ?? {}).map(
    ([key, raw], i) => [key, raw, nodeEndpoints[i]!.listen] as const,
  );
  const saysWhatIsServed = node !== undefined || services !== undefined;
  const doorWarnings = checkDoors(doors, raws, fail);
  if (saysWhatIsServed) warnings.push(...doorWarnings); // else commands put them somewhere
  return { saysWhatIsServed, node: nodeEndpoints, services: found, certificates, doors, limits, warnings };
}

/** `svc:` and one DNS label (upstream `tailcfg.ServiceName.Validate`). */
export function isServiceName(name: string): boolean {
  return /^svc:[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$/.test(name);
}

type RawEndpoint = string | z.infer<typeof endpointSchema>;

function endpoints(
  given: Readonly<Record<string, RawEndpoint>>,
  path: Path,
  fail: Fail,
  warnings: string[],
): readonly Endpoint[] | "tun" {
  const found: Endpoint[] = [];
  const taken = new Map<number, SourcePorts>();
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
    for (let port = source.first; port <= source.last; port += 1) {
      const clash = taken.get(port);
      if (clash !== undefined) fail(at, `found ports that an earlier entry has (${clash.first}-${clash.last})`);
      taken.set(port, source);
    }
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
    const mounts = new Map([["/", { target: only, acceptAppCaps: [], rules: {}, keepAliveAfterBody: false }]]);
    return { ports, listen: impliedListener(only), mounts, hosts: NO_HOSTS, redirectHttp: false, ...PLAIN };
  }
  const content = (given: RawContent, where: Path): Mounts =>
    contentOf({ ...inherited(value as GivenRules), ...given }, where, target, fail);
  const mounts = content(value, at);
  const hosts = new Map<string, Mounts>();
  for (const [host, one] of hostsOf(value.hosts)) {
    const where = [...at, "hosts", host.key];
    const name = host.name.toLowerCase();
    if (hosts.has(name)) fail(where, `found "${name}" a second time`);
    if (one === undefined && mounts.size === 0) fail(where, "found a name alone, wanted a target for it");
    const own = typeof one === "string" ? content({ target: one }, where) : one && content(one, where);
    if (own?.size === 0) fail(where, "found neither target nor mounts, wanted one of them");
    hosts.set(name, own ?? mounts);
  }
  if (mounts.size === 0 && hosts.size === 0) fail(at, "found neither target nor mounts, wanted one of them");
  const root = mounts.get("/")?.target;
  const listen: Listen = value.listen ?? (root !== undefined && isTcpTarget(root) ? impliedListener(root) : "https");
  checkListener(value, { ports, listen, mounts, hosts }, at, fail);
  const funnel = value.funnel !== undefined && value.funnel !== false;
  const rules = visitorRulesOf(typeof value.lease === "object" ? value.lease : value.funnel);
  const visitorRules = rules === undefined ? {} : { visitorRules: rules };
  const leases = leasedPorts(value.lease, ports, { listen, funnel });
  if ("refusal" in leases) return fail([...at, "lease"], leases.refusal);
  const isGuarded = [mounts, ...hosts.values()].every((own) => [...own.values()].every(({ rules }) => rules.door));
  if ((leases.length > 0 || (funnel && !isGuarded)) && rules?.allow === undefined)
    warnings.push(`${at.map(String).join(" / ")}: open to the internet, without login`);
  const redirectHttp = value.redirectHttp ?? false;
  const door = typeof value.door === "string" ? { door: value.door } : {};
  return {
    ports,
    listen,
    mounts,
    hosts,
    redirectHttp,
    ...door,
    proxyProtocol: value.proxyProtocol ?? 0,
    funnel,
    leases,
    ...visitorRules,
  };
}

/** Is all of `value` something that such a listener can do? */
function checkListener(
  value: Exclude<RawEndpoint, string>,
  { ports, listen, mounts, hosts }: Pick<Endpoint, "ports" | "listen" | "mounts" | "hosts">,
  at: Path,
  fail: Fail,
): void {
  const root = mounts.get("/")?.target;
  const isTcp = listen === "tcp" || listen === "tls-terminated-tcp";
  if (hosts.size > 0 && (listen === "tcp" || (isTcp && hosts.size > 1))) {
    fail([...at, "hosts"], `found names on a ${listen} listener, wanted ${listen === "tcp" ? "none" : "one"}`);
  }
  if (value.redirectHttp === true && (listen !== "https" || ports.first !== ports.last)) {
    fail([...at, "redirectHttp"], "found it on another listener than HTTPS on one port");
  }
  if (listen === "http" && value.funnel !== undefined && value.funnel !== false) {
    fail([...at, "funnel"], "found it on a plain HTTP listener, wanted https or TCP: visitors come by TLS");
  }
  if (isTcp && (mounts.size !== 1 || root === undefined)) fail(at, "found mounts on a TCP listener, wanted one target");
  if (isTcp && root !== undefined && root.kind !== "ports" && root.kind !== "socket") {
    fail([...at, "target"], "found a web target on a TCP listener, wanted tcp://host:port or unix:path");
  }
  if (!isTcp && root !== undefined && isTcpTarget(root)) {
    fail([...at, "target"], `found a TCP target on an ${listen} listener`);
  }
  if (value.proxyProtocol !== undefined && (!isTcp || root?.kind === "socket")) {
    fail([...at, "proxyProtocol"], "PROXY protocol is only supported for TCP forwarding to host:port");
  }
  if (isTcp && (value.acceptAppCaps?.length ?? 0) > 0) {
    fail([...at, "acceptAppCaps"], "found capabilities on a TCP listener, which has no headers");
  }
}

const isTcpTarget = (target: Target): boolean =>
  "scheme" in target && (target.scheme === "tcp" || target.scheme === "tls-terminated-tcp");

const NO_HOSTS: ReadonlyMap<string, Mounts> = new Map();
const PLAIN = { proxyProtocol: 0, funnel: false, leases: [] };

type RawContent = Pick<z.infer<typeof endpointSchema>, keyof typeof contentSchema>;
type RawHosts = z.infer<typeof endpointSchema>["hosts"];
type RawHost = readonly [
  host: { readonly key: string | number; readonly name: string },
  string | RawContent | undefined,
];

/** A list of names has the endpoint's own content. */
function hostsOf(hosts: RawHosts): readonly RawHost[] {
  if (hosts === undefined) return [];
  if (Array.isArray(hosts)) return hosts.map((name, key) => [{ key, name }, undefined]);
  return Object.entries(hosts).map(([name, content]) => [{ key: name, name }, content]);
}

function contentOf(value: RawContent, at: Path, target: (text: string, where: Path) => Target, fail: Fail): Mounts {
  const mounts = new Map<string, Mount>();
  const add = (mount: string, text: string, given: GivenRules & AcceptedCaps, where: Path): void => {
    const { acceptAppCaps = [], keepAliveAfterBody = false } = given;
    const read = target(text, where);
    if (acceptAppCaps.length > 0 && !["proxy", "ports", "socket"].includes(read.kind)) {
      fail(where, "found acceptAppCaps with a target that passes no headers on, wanted a web backend");
    }
    if (keepAliveAfterBody && !["proxy", "ports", "socket"].includes(read.kind)) {
      fail(where, "found keepAliveAfterBody with a target that has no connections, wanted a web backend");
    }
    for (const cap of acceptAppCaps) {
      if (!isCapabilityName(cap))
        fail(where, `found capability "${cap}", wanted {domain}/{name} with a full domain name`);
    }
    mounts.set(mount, { target: read, acceptAppCaps, rules: rulesOf(given), keepAliveAfterBody });
  };
  const { target: root } = value;
  if (root !== undefined) add("/", root, value as GivenRules & AcceptedCaps, [...at, "target"]);
  else if (value.acceptAppCaps !== undefined) fail([...at, "acceptAppCaps"], "found no target that it could belong to");
  for (const [mount, one] of Object.entries(value.mounts ?? {})) {
    const where = [...at, "mounts", mount];
    if (!isMountPoint(mount)) fail(where, `found mount point "${mount}", wanted a clean path that begins with /`);
    if (mounts.has(mount)) fail(where, `found a second target for ${mount}`);
    const own = inherited(value as GivenRules);
    if (typeof one === "string") add(mount, one, own, where);
    else add(mount, one.target, { ...own, ...(one as GivenRules & AcceptedCaps) }, [...where, "target"]);
  }
  return mounts;
}

/** Port 80 can lead to one place only. */
function checkHttpRedirect(node: readonly Endpoint[], fail: Fail): void {
  const [first, second] = node.filter(({ redirectHttp }) => redirectHttp);
  const port = (one: Endpoint): Path => ["node", "endpoints", `tcp:${one.ports.first}`, "redirectHttp"];
  if (second !== undefined) fail(port(second), "found a second one, wanted it at one endpoint");
  const taken = node.some(({ ports }) => ports.first <= 80 && 80 <= ports.last);
  if (first !== undefined && taken) fail(port(first), "found an endpoint on port 80 already");
}

interface AcceptedCaps {
  readonly acceptAppCaps?: readonly string[];
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
