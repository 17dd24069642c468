import { isCertificateName } from "../../config/certificates.ts";
import { isCapabilityName } from "../../config/services.ts";
import { asciiName, foldPattern } from "../../wire/host-name.ts";
import { parseVisitorPrefix } from "../../wire/visitor-rules.ts";
import { booleanFlag, type Flag, parseFlags, textFlag, unsignedFlag } from "../flags.ts";
import { CliExit } from "../io.ts";
import { type ServiceVerb, serviceNameRefusal } from "./serve-service.ts";
import { cleanMount, cleanPath } from "./serve-target.ts";

export type ServeKind = "https" | "http" | "tcp" | "tls-terminated-tcp";

/** One serve command line, understood. */
export type ServeRequest =
  | { readonly action: "status"; readonly json: boolean }
  | { readonly action: "reset" }
  | { readonly action: "service"; readonly verb: ServiceVerb; readonly service: string }
  | { readonly action: "usage"; readonly status: number; readonly text?: string }
  | ServeChange;

export interface ServeChange {
  readonly action: "set" | "off";
  readonly isFunnel: boolean;
  readonly isBackground: boolean;
  readonly kind: ServeKind;
  readonly port: number;
  readonly mount: string;
  /** Was a mount named? Without, `off` removes all. */
  readonly isMountGiven: boolean;
  readonly target: string;
  readonly proxyProtocol: number;
  readonly acceptAppCaps: readonly string[];
  readonly yes: boolean;
  /** Go a visitor's way afterwards; unsaid, on a terminal. */
  readonly check?: boolean;
  /** The door to put before it. */
  readonly door?: string;
  /** Anyone may come: it need not be asked. */
  readonly isPublic?: boolean;
  /** Which visitors may come; empty: all, none. */
  readonly visitors?: { readonly allow: readonly string[]; readonly deny: readonly string[] };
  /** A name of one's own, or wildcard, instead of this node's. */
  readonly domain?: string;
  /** The port is public as it is, for whoever comes, and not by the name that a TLS client asks for. */
  readonly isLease?: boolean;
  /** `svc:web`: of this service, not of the node. */
  readonly service?: string;
}

const capsFlag: Flag<readonly string[]> = {
  isBoolean: false,
  initial: [],
  parse: (text) => {
    if (text === "") return [];
    const names = text.split(",").map((name) => name.trim());
    const bad = names.find((name) => !isCapabilityName(name));
    if (bad === undefined) return names;
    throw new Error(
      `"${bad}" does not match the form {domain}/{name}, where domain must be a fully qualified domain name`,
    );
  },
};

const domainFlag: Flag<string> = {
  isBoolean: false,
  initial: "",
  parse: (text) => {
    const name = foldPattern(asciiName(text));
    if (name === undefined || !isCertificateName(name))
      throw new Error("wanted a full DNS name and nothing else, such as demo.example.org");
    return name;
  },
};

/** `all` takes back what was said; who types it to keep people out means nobody, and would let everybody in. */
const addressesFlag = (all: "all" | undefined): Flag<readonly string[]> => ({
  isBoolean: false,
  initial: [],
  parse: (text) => {
    if (text === all) return [];
    if (text === "all") throw new Error("wanted addresses; `off` closes it to everybody");
    // An unset variable of a script opens nothing.
    if (text === "") throw new Error(all === undefined ? "wanted addresses" : "wanted addresses, or all");
    const given = text.split(",").map((address) => address.trim());
    const bad = given.find((address) => parseVisitorPrefix(address) === undefined);
    if (bad === undefined) return given;
    throw new Error(`"${bad}" is no IP address and no block of them without host bits, such as 203.0.113.0/24`);
  },
});

const commonFlags = {
  bg: booleanFlag(false),
  "set-path": textFlag(),
  https: unsignedFlag(),
  tcp: unsignedFlag(),
  "tls-terminated-tcp": unsignedFlag(),
  "proxy-protocol": unsignedFlag(),
  yes: booleanFlag(false),
};
const funnelFlags = {
  ...commonFlags,
  check: booleanFlag(false),
  door: textFlag(),
  public: booleanFlag(false),
  domain: domainFlag,
  lease: unsignedFlag(),
  "allow-ip": addressesFlag("all"),
  "deny-ip": addressesFlag(undefined),
};
const serviceFlag: Flag<string> = {
  isBoolean: false,
  initial: "",
  parse: (text) => {
    if (text === "" || serviceNameRefusal(text) === undefined) return text;
    throw new Error(`invalid service name: "${text}"`);
  },
};
const serveFlags = {
  ...commonFlags,
  http: unsignedFlag(),
  "accept-app-caps": capsFlag,
  service: serviceFlag,
  tun: booleanFlag(false),
};

/** The "try --help" error: what went wrong, then where to read. */
export function tryHelp(command: string, text: string): CliExit {
  return new CliExit(`${text}try \`sallyport ${command} --help\` for usage info`);
}

/** Reads the words after `serve` or `funnel` (upstream `cli/serve_v2.go`). Wrong ones throw `CliExit`. */
export function parseServeArgs(command: "serve" | "funnel", args: readonly string[]): ServeRequest {
  const isFunnel = command === "funnel";
  const parsed = isFunnel ? parseFlags(funnelFlags, args) : parseFlags(serveFlags, args);
  if (parsed.kind === "help") return { action: "usage", status: 0 };
  if (parsed.kind === "error") return { action: "usage", status: 2, text: parsed.text };
  const { values, rest } = parsed;
  const verb = rest[0]?.toLowerCase();
  if (verb === "status") return parseStatus(rest.slice(1));
  if (verb === "reset") return rest.length > 1 ? { action: "usage", status: 0 } : { action: "reset" };
  if (!isFunnel && isServiceVerb(verb)) return parseServiceVerb(verb, rest.slice(1));
  if ("tun" in values) refuseAbsent(verb, values);
  const legacy = translateLegacy(command, rest);
  if (legacy !== undefined) throw legacyRefusal(command, legacy);
  if (rest.length === 0) return { action: "usage", status: 0 };
  if (rest.length > 2) throw tryHelp(command, `Error: invalid number of arguments (${rest.length})\n`);
  if (rest.length === 2 && rest[1] !== "off") throw tryHelp(command, "Error: invalid argument format\n");
  const isOff = rest.at(-1) === "off";
  const service = "service" in values ? values.service : "";
  if (service !== "" && parsed.given.has("bg") && !values.bg)
    throw new CliExit("Error: --service flag is only compatible with background mode");
  const mount = cleanMount(values["set-path"]);
  const lease = "lease" in values ? (values.lease as number) : 0;
  const given = {
    https: values.https,
    http: "http" in values ? (values.http as number) : 0,
    tcp: values.tcp,
    "tls-terminated-tcp": values["tls-terminated-tcp"],
  };
  const { kind, port } = lease === 0 ? pickListener(command, given) : pickLease(lease, given);
  const isTcp = kind === "tcp" || kind === "tls-terminated-tcp";
  const proxyProtocol = values["proxy-protocol"];
  if (proxyProtocol !== 0 && !isTcp) {
    throw new CliExit("PROXY protocol is only supported for TCP forwarding, not HTTP/HTTPS");
  }
  if (proxyProtocol > 2) throw new CliExit(`invalid PROXY protocol version ${proxyProtocol}; must be 1 or 2`);
  return {
    action: isOff ? "off" : "set",
    isFunnel,
    isBackground: values.bg || service !== "", // a service is never in the foreground, as upstream has it
    kind,
    port,
    mount,
    isMountGiven: values["set-path"] !== "",
    target: isOff ? "" : (rest[0] ?? ""),
    proxyProtocol,
    acceptAppCaps: "accept-app-caps" in values ? (values["accept-app-caps"] as readonly string[]) : [],
    yes: values.yes,
    ...("check" in values ? ofFunnel(values, parsed.given) : {}),
    ...(service === "" ? {} : { service }),
  };
}

interface FunnelValues {
  readonly check: boolean;
  readonly door: string;
  readonly public: boolean;
  readonly domain: string;
  readonly lease: number;
  readonly "allow-ip": readonly string[];
  readonly "deny-ip": readonly string[];
}

function ofFunnel(values: FunnelValues, given: ReadonlySet<string>): Partial<ServeChange> {
  const { check, door, public: isPublic, domain, lease, "allow-ip": allow, "deny-ip": deny } = values;
  if (lease !== 0 && domain !== "") throw new CliExit("error: a raw port has no name: found --lease and --domain");
  if (lease === 0 && given.has("lease")) throw new CliExit("error: port 0 cannot be leased: wanted 1 to 65535");
  // A script's variable that is not set must not open what it was to close.
  if (given.has("door") && door === "") throw new CliExit("error: found --door without a name, wanted that of a door");
  if (isPublic && door !== "") throw new CliExit("error: found --public and --door, wanted one of them");
  return {
    isPublic,
    ...(given.has("check") ? { check } : {}),
    ...(door === "" ? {} : { door }),
    ...(domain === "" ? {} : { domain }),
    ...(lease === 0 ? {} : { isLease: true }),
    ...(given.has("allow-ip") || given.has("deny-ip") ? { visitors: { allow, deny } } : {}),
  };
}

function isServiceVerb(word: string | undefined): word is ServiceVerb {
  return word === "advertise" || word === "drain" || word === "clear";
}

function parseServiceVerb(verb: ServiceVerb, words: readonly string[]): ServeRequest {
  const parsed = parseFlags({}, words);
  if (parsed.kind === "help") return { action: "usage", status: 0 };
  if (parsed.kind === "error") return { action: "usage", status: 2, text: parsed.text };
  const [service, ...more] = parsed.rest;
  if (more.length > 0) throw tryHelp("serve", "error: invalid number of arguments\n\n");
  if (service !== undefined) return { action: "service", verb, service };
  throw verb === "advertise" ? new CliExit("error: missing service name argument") : tryHelp("serve", "");
}

/** Words of upstream's that are not here; taken for targets they would be told to be none. */
function refuseAbsent(verb: string | undefined, { tun }: { readonly tun: boolean }): void {
  if (verb === "get-config" || verb === "set-config")
    throw new CliExit(
      `error: there is no ${verb} here: services are declared in the services file (docs/services-file.md)`,
    );
  if (tun) throw new CliExit("error: --tun needs a kernel interface, which this gateway has not");
}

function parseStatus(args: readonly string[]): ServeRequest {
  const parsed = parseFlags({ json: booleanFlag(false) }, args);
  if (parsed.kind === "help") return { action: "usage", status: 0 };
  if (parsed.kind === "error") return { action: "usage", status: 2, text: parsed.text };
  return { action: "status", json: parsed.values.json };
}

function pickListener(command: string, ports: Readonly<Record<ServeKind, number>>): { kind: ServeKind; port: number } {
  const given = (Object.keys(ports) as ServeKind[]).filter((kind) => ports[kind] !== 0);
  if (given.length > 1) throw tryHelp(command, "error: cannot serve multiple types for a single mount point\n\n");
  const kind = given[0];
  if (kind === undefined) return { kind: "https", port: 443 };
  if (ports[kind] > 65535) throw tryHelp(command, `error: port number ${ports[kind]} is too high for https flag\n\n`);
  return { kind, port: ports[kind] };
}

/** A raw port is one of TCP: forwarded as it is, unless TLS is to end here. */
function pickLease(port: number, ports: Readonly<Record<ServeKind, number>>): { kind: ServeKind; port: number } {
  if (port > 65535) throw new CliExit(`error: port number ${port} is too high for lease flag`);
  if (ports.https !== 0 || ports.http !== 0)
    throw new CliExit("error: --lease is for TCP; HTTPS has a name: use --https");
  const isTerminated = ports["tls-terminated-tcp"] !== 0;
  const other = isTerminated ? ports["tls-terminated-tcp"] : ports.tcp;
  if ((isTerminated && ports.tcp !== 0) || (other !== 0 && other !== port)) {
    throw new CliExit("error: --lease and the TCP flag name different ports, wanted the same");
  }
  return { kind: isTerminated ? "tls-terminated-tcp" : "tcp", port };
}

/** `65535` and below, in decimal. */
const PORT = /^(?:\d{1,4}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d{2}|655[0-2]\d|6553[0-5])$/;
const LEGACY_WORDS: Readonly<Record<string, number>> = { https: 3, http: 3, tcp: 2, "tls-terminated-tcp": 2 };
const LEGACY_PORTS: Readonly<Record<string, string>> = { https: "443", http: "80" };

/** Words of the grammar before 2023, in today's; undefined when they are not (upstream `isLegacyInvocation`). */
export function translateLegacy(command: "serve" | "funnel", words: readonly string[]): string | undefined {
  if (command === "funnel") {
    const [port = "", verb = ""] = words;
    return words.length === 2 && PORT.test(port) && (verb === "on" || verb === "off") ? "" : undefined;
  }
  const isOff = words.length > 1 && words.at(-1) === "off";
  const rest = isOff ? words.slice(0, -1) : words;
  const source = rest[0] ?? "";
  const colon = source.indexOf(":");
  const type = colon < 0 ? source : source.slice(0, colon);
  const port = colon < 0 ? LEGACY_PORTS[type] : source.slice(colon + 1);
  const wanted = Object.hasOwn(LEGACY_WORDS, type) ? LEGACY_WORDS[type] : undefined;
  if (wanted === undefined || port === undefined) return undefined;
  if (rest.length !== wanted && !(isOff && rest.length === wanted - 1)) return undefined;
  const parts: string[] = ["tailscale serve --bg"];
  if (!(type === "https" && port === "443")) parts.push(`--${type} ${port}`);
  if (wanted === 3) {
    const mount = rest[1] ?? "";
    if (!isLegacyMount(mount)) return undefined;
    if (mount !== "/") parts.push(`--set-path ${mount}`);
  }
  const target = rest.length === wanted ? (rest.at(-1) ?? "") : undefined;
  if (target !== undefined) parts.push(target.includes(" ") ? `"${target}"` : target);
  if (isOff) parts.push("off");
  return parts.join(" ");
}

/** Upstream `cleanMountPoint`. */
function isLegacyMount(text: string): boolean {
  if (text === "") return false;
  const rooted = text.startsWith("/") ? text : `/${text}`;
  const clean = cleanPath(rooted);
  return rooted === clean || rooted === `${clean}/`;
}

function legacyRefusal(command: string, translation: string): CliExit {
  const head = "Error: the CLI for serve and funnel has changed.";
  const about = "Please see https://tailscale.com/kb/1242/tailscale-serve for more information.\n";
  const text =
    translation === ""
      ? `${head}\n${about}`
      : `${head} You can run the following command instead:\n\t- ${translation.replace("tailscale", "sallyport")}\n\n${about}`;
  return tryHelp(command, text);
}
