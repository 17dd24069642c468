import { parsePrefix } from "../../base/address.ts";
import { rangeOfPrefix } from "../../wire/address-set.ts";
import type { CapMap } from "../../wire/tailcfg.ts";
import { type Opening, parseOpening, parsePorts, parseProtocol } from "./ports.ts";
import { isLogin, type Names, parseSelector, type Selector } from "./selector.ts";
import { type Path, PolicySource } from "./source.ts";
import { readSsh, readSshTests, type SshRule, type SshTest } from "./ssh.ts";

export interface Grant {
  readonly sources: readonly Selector[];
  readonly destinations: readonly Selector[];
  readonly openings: readonly Opening[];
  readonly app: CapMap | undefined;
  readonly via: readonly string[];
}

export interface NodeAttribute {
  readonly targets: readonly Selector[];
  readonly attributes: CapMap;
}

export interface PolicyTest {
  readonly path: Path;
  readonly src: string;
  readonly proto: string;
  readonly accept: readonly string[];
  readonly deny: readonly string[];
}

export interface PolicyDocument {
  readonly source: PolicySource;
  readonly names: Names;
  readonly tagOwners: ReadonlyMap<string, readonly string[]>;
  /** `undefined`: neither `acls` nor `grants` is there, so everything is allowed. */
  readonly grants: readonly Grant[] | undefined;
  readonly nodeAttributes: readonly NodeAttribute[];
  readonly routeApprovers: ReadonlyMap<string, readonly Selector[]>;
  readonly exitApprovers: readonly Selector[];
  readonly ssh: readonly SshRule[];
  readonly tests: readonly PolicyTest[];
  readonly sshTests: readonly SshTest[];
}

const MEMBERS = [
  "groups",
  "hosts",
  "ipsets",
  "tagOwners",
  "acls",
  "grants",
  "autoApprovers",
  "nodeAttrs",
  "ssh",
  "tests",
  "sshTests",
  "postures",
  "defaultSrcPosture",
  "attrConfig",
  "derpMap",
  "disableIPv4",
  "oneCGNATRoute",
  "randomizeClientPort",
];

/** Capabilities of the vendor's domain that a policy may grant all the same (control-protocol sheet 7.5). */
const VENDOR_CAPABILITIES = new Set(
  ["drive", "relay", "webui", "kubernetes", "tsidp", "secrets"].map((name) => `tailscale.com/cap/${name}`),
);
const RESERVED_POOLS = ["100.100.100.0/24", "100.115.92.0/23"].map((text) => rangeOfPrefix(parsePrefix(text)!));
const SELF_MISUSE = "autogroup:self can only be used with users, groups, or supported autogroups";

/** What is known of the tailnet beyond the policy; where absent, the checks that need it are left out. */
export interface Known {
  readonly users?: readonly string[];
  readonly domains?: readonly string[];
}

/** Reads and checks a policy file. Everything wrong with it is a fault with line and column. */
export function readPolicy(text: string, file: string, { users, domains }: Known): PolicyDocument {
  const source = new PolicySource(text.trim() === "" ? "{}" : text, file);
  const top = source.members(source.value, [], MEMBERS);
  const at = (name: string): { value: unknown; path: Path } => top.get(name) ?? { value: undefined, path: [] };
  for (const name of ["ipsets", "defaultSrcPosture"]) {
    const { value, path } = at(name);
    if (value !== undefined && value !== null && Object.keys(value).length > 0) throw unsupported(source, path, name);
  }
  const reader = new Reader(source, readNames(source, at, users), users, domains);
  const acls = at("acls");
  const grants = at("grants");
  const approvers = source.members(at("autoApprovers").value, at("autoApprovers").path, [
    "routes",
    "exitNode",
    "services",
  ]);
  const routes = approvers.get("routes");
  const exitNode = approvers.get("exitNode");
  const document: Omit<PolicyDocument, "grants"> = {
    source,
    names: reader.names,
    tagOwners: reader.tagOwners(at("tagOwners")),
    nodeAttributes: reader.nodeAttributes(at("nodeAttrs")),
    routeApprovers: reader.routeApprovers(routes),
    exitApprovers: exitNode === undefined ? [] : reader.selectors(exitNode.value, exitNode.path),
    ssh: readSsh(source, at("ssh"), reader.names, reader.domains),
    tests: readTests(source, at("tests")),
    sshTests: readSshTests(source, at("sshTests"), reader.names),
  };
  const isOpen = !top.has("acls") && !top.has("grants");
  return { ...document, grants: isOpen ? undefined : [...reader.acls(acls), ...reader.grants(grants)] };
}

interface Place {
  readonly value: unknown;
  readonly path: Path;
}

function unsupported(source: PolicySource, path: Path, what: string): Error {
  return source.fault("POLICY_UNSUPPORTED", path, `"${what}" is not supported`, `Take "${what}" out of the policy.`);
}

function readNames(source: PolicySource, at: (name: string) => Place, users: readonly string[] | undefined): Names {
  const hosts = new Map<string, string>();
  for (const [name, value] of source.entries(at("hosts").value, at("hosts").path)) {
    const path = [...at("hosts").path, name];
    const address = source.text(value, path);
    if (parsePrefix(address) === undefined)
      throw source.fault("POLICY_RULE", path, `hosts["${name}"]: "${address}": invalid address`);
    hosts.set(name, address);
  }
  const groups = new Map<string, readonly string[]>();
  for (const [name, value] of source.entries(at("groups").value, at("groups").path)) {
    const path = [...at("groups").path, name];
    if (!/^group:./.test(name))
      throw source.fault("POLICY_RULE", path, `groups["${name}"]: group names must start with "group:"`);
    const members = source.texts(value, path);
    for (const [index, member] of members.entries()) {
      const fail = (problem: string): Error =>
        source.fault("POLICY_RULE", [...path, index], `groups["${name}"]: "${member}": ${problem}`);
      if (member.startsWith("group:")) throw fail("group members cannot be recursive");
      if (/^(tag|autogroup):/.test(member) || !member.includes("@")) throw fail("group members must be users");
      if (users !== undefined && !users.some((user) => isLogin(member, user))) throw fail("user not found");
    }
    groups.set(name, members);
  }
  const tags = new Set<string>();
  for (const [name] of source.entries(at("tagOwners").value, at("tagOwners").path)) {
    if (!/^tag:[A-Za-z]/.test(name)) {
      const problem = `tagOwners["${name}"]: tag names must start with a letter, after 'tag:'`;
      throw source.fault("POLICY_RULE", [...at("tagOwners").path, name], problem);
    }
    tags.add(name);
  }
  return { hosts, groups, tags };
}

function readTests(source: PolicySource, { value, path }: Place): readonly PolicyTest[] {
  return source.list(value, path).map((item, index) => {
    const where = [...path, index];
    const members = source.members(item, where, ["src", "proto", "accept", "deny", "allow", "srcPostureAttrs"]);
    const texts = (name: string): readonly string[] =>
      source.texts(members.get(name)?.value, members.get(name)?.path ?? where);
    return {
      path: where,
      src: source.text(members.get("src")?.value ?? "", where),
      proto: source.text(members.get("proto")?.value ?? "", where),
      accept: [...texts("accept"), ...texts("allow")],
      deny: texts("deny"),
    };
  });
}

class Reader {
  readonly names: Names;
  readonly #source: PolicySource;
  readonly #users: readonly string[] | undefined;
  /** Mail domains of the tailnet; `undefined` when not known. */
  readonly domains: ReadonlySet<string> | undefined;

  constructor(
    source: PolicySource,
    names: Names,
    users: readonly string[] | undefined,
    domains: readonly string[] | undefined,
  ) {
    this.#source = source;
    this.names = names;
    this.#users = users;
    const own = domains ?? users?.map((user) => user.slice(user.lastIndexOf("@") + 1));
    this.domains = own === undefined ? undefined : new Set(own);
  }

  selectors(
    value: unknown,
    path: Path,
    wrap: (problem: string, text: string) => string = (problem) => problem,
  ): readonly Selector[] {
    return this.#source.texts(value, path).map((text, index) => this.#selector(text, [...path, index], wrap));
  }

  #selector(text: string, path: Path, wrap: (problem: string, text: string) => string): Selector {
    const selector = parseSelector(text, this.names);
    const fail = (problem: string): Error => this.#source.fault("POLICY_RULE", path, wrap(problem, text));
    if (typeof selector === "string") throw fail(selector);
    if (
      selector.kind === "user" &&
      this.#users !== undefined &&
      !this.#users.some((user) => isLogin(selector.login, user))
    ) {
      throw this.#source.fault("POLICY_UNKNOWN_USER", path, wrap(`user not found: "${text}"`, text));
    }
    if (selector.kind === "domain" && this.domains !== undefined && !this.domains.has(selector.domain)) {
      throw fail(
        `${selector.domain} is not associated with this Tailnet and cannot be used in user:*@<domain> expressions`,
      );
    }
    return selector;
  }

  #sources(place: Place | undefined, path: Path): readonly Selector[] {
    const where = place?.path ?? path;
    return this.selectors(place?.value, where, (problem) => `src=${problem}`).map((selector, index) => {
      if (selector.kind === "autogroup" && selector.name === "self") {
        throw this.#source.fault(
          "POLICY_RULE",
          [...where, index],
          '"autogroup:self" not valid on the src side of a rule',
        );
      }
      if (selector.kind === "autogroup" && selector.name === "internet") {
        throw this.#source.fault(
          "POLICY_RULE",
          [...where, index],
          '"autogroup:internet" not valid on the src side of a rule',
        );
      }
      return selector;
    });
  }

  #destination(text: string, path: Path): Selector {
    const selector = this.#selector(text, path, (problem, target) =>
      problem.startsWith("tag not found") ? `dst="${target}": ${problem}` : `dst=${problem}`,
    );
    if (selector.kind === "autogroup" && selector.name === "danger-all") {
      throw this.#source.fault("POLICY_RULE", path, "cannot use autogroup:danger-all as a dst");
    }
    return selector;
  }

  #checkSelf(sources: readonly Selector[], destinations: readonly Selector[], path: Path, isAnyFine: boolean): void {
    if (!destinations.some((selector) => selector.kind === "autogroup" && selector.name === "self")) return;
    const isFine = (selector: Selector): boolean =>
      selector.kind === "user" ||
      selector.kind === "group" ||
      selector.kind === "domain" ||
      (selector.kind === "autogroup" && selector.name !== "tagged" && selector.name !== "danger-all") ||
      (selector.kind === "any" && isAnyFine);
    if (!sources.every(isFine)) throw this.#source.fault("POLICY_RULE", path, SELF_MISUSE);
  }

  acls({ value, path }: Place): readonly Grant[] {
    return this.#source.list(value, path).flatMap((item, index) => this.#acl(item, [...path, index]));
  }

  /** One grant for each destination: they have ports of their own. */
  #acl(item: unknown, path: Path): readonly Grant[] {
    const source = this.#source;
    const members = source.members(item, path, ["action", "src", "users", "dst", "ports", "proto", "srcPosture"]);
    const action = members.get("action")?.value;
    if (action === undefined || action === "") throw source.fault("POLICY_RULE", path, "action must be specified");
    if (action !== "accept") {
      throw source.fault("POLICY_RULE", members.get("action")!.path, `action="${String(action)}" is not supported`);
    }
    this.#checkPosture(members.get("srcPosture"));
    const sources = this.#sources(members.get("src") ?? members.get("users"), path);
    const protocols = this.#protocols(members.get("proto"));
    const targets = members.get("dst") ?? members.get("ports");
    const where = targets?.path ?? path;
    const grants = source.texts(targets?.value, where).map((text, index): Grant => {
      const spot = [...where, index];
      const colon = text.lastIndexOf(":");
      const ports = parsePorts(text.slice(colon + 1));
      if (typeof ports === "string") throw source.fault("POLICY_RULE", spot, `dst="${text}": ${ports}`);
      const destination = this.#destination(text.slice(0, Math.max(0, colon)), spot);
      return { sources, destinations: [destination], openings: [{ protocols, ports }], app: undefined, via: [] };
    });
    for (const grant of grants) this.#checkSelf(sources, grant.destinations, path, true);
    return grants;
  }

  #protocols(place: Place | undefined): readonly number[] {
    if (place === undefined || place.value === "") return [];
    const text = this.#source.text(place.value, place.path);
    const protocol = parseProtocol(text);
    if (protocol === undefined) throw this.#source.fault("POLICY_RULE", place.path, `unknown protocol "${text}"`);
    return [protocol];
  }

  /** Postures are not evaluated, so a rule that they narrow must not be widened by leaving them out. */
  #checkPosture(place: Place | undefined): void {
    if (place !== undefined && this.#source.list(place.value, place.path).length > 0) {
      throw unsupported(this.#source, place.path, "srcPosture");
    }
  }

  grants({ value, path }: Place): readonly Grant[] {
    return this.#source.list(value, path).map((item, index) => this.#grant(item, [...path, index]));
  }

  #grant(item: unknown, path: Path): Grant {
    const source = this.#source;
    const members = source.members(item, path, ["src", "dst", "ip", "app", "via", "srcPosture"]);
    this.#checkPosture(members.get("srcPosture"));
    const ip = members.get("ip");
    const app = this.#app(members.get("app"));
    const openings = source.texts(ip?.value, ip?.path ?? path).map((text, index) => {
      const opening = parseOpening(text);
      if (typeof opening === "string") throw source.fault("POLICY_RULE", [...ip!.path, index], opening);
      return opening;
    });
    if (openings.length === 0 && app === undefined) {
      throw source.fault("POLICY_RULE", path, "ip and app can not both be empty");
    }
    const sources = this.#sources(members.get("src"), path);
    const dst = members.get("dst");
    const where = dst?.path ?? path;
    const destinations = source.texts(dst?.value, where).map((text, index) => {
      const selector = this.#destination(text, [...where, index]);
      if (selector.kind === "range" && selector.isWhole) {
        const problem = `dst "${text}": to allow all IP addresses, use "*" or "autogroup:internet"`;
        throw source.fault("POLICY_RULE", [...where, index], problem);
      }
      if (app !== undefined && selector.kind === "autogroup" && selector.name === "internet") {
        throw source.fault("POLICY_RULE", [...where, index], "cannot use app grants with autogroup:internet");
      }
      return selector;
    });
    this.#checkSelf(sources, destinations, path, false);
    return { sources, destinations, openings, app, via: this.#via(members.get("via")) };
  }

  #via(place: Place | undefined): readonly string[] {
    if (place === undefined) return [];
    const tags = this.#source.texts(place.value, place.path);
    for (const [index, tag] of tags.entries()) {
      const where = [...place.path, index];
      if (!tag.startsWith("tag:")) throw this.#source.fault("POLICY_RULE", where, "via can only be a tag");
      if (!this.names.tags.has(tag)) throw this.#source.fault("POLICY_RULE", where, `tag "${tag}" not found`);
    }
    return tags;
  }

  #app(place: Place | undefined): CapMap | undefined {
    if (place === undefined) return undefined;
    const entries = this.#source.entries(place.value, place.path);
    const app: Record<string, readonly unknown[]> = Object.create(null);
    for (const [name, values] of entries) {
      const where = [...place.path, name];
      const domain = name.slice(0, Math.max(0, name.indexOf("/")));
      if (name.includes("://") || !/^[^/\s]+\.[^/\s]+\/.+$/.test(name)) {
        throw this.#source.fault("POLICY_RULE", where, "capability name must have the form {domain}/{path}");
      }
      if ((domain === "tailscale.com" || domain.endsWith(".tailscale.com")) && !VENDOR_CAPABILITIES.has(name)) {
        throw this.#source.fault("POLICY_RULE", where, "capability name must not be in the tailscale.com domain");
      }
      app[name] = this.#source.list(values, where);
    }
    return entries.length === 0 ? undefined : app;
  }

  tagOwners({ value, path }: Place): ReadonlyMap<string, readonly string[]> {
    const owners = new Map<string, readonly string[]>();
    for (const [tag, list] of this.#source.entries(value, path)) {
      const texts = this.#source.texts(list, [...path, tag]);
      this.selectors(list, [...path, tag], (problem) => `tagOwners["${tag}"]: ${problem}`);
      owners.set(tag, texts);
    }
    return owners;
  }

  routeApprovers(place: Place | undefined): ReadonlyMap<string, readonly Selector[]> {
    const approvers = new Map<string, readonly Selector[]>();
    if (place === undefined) return approvers;
    for (const [route, list] of this.#source.entries(place.value, place.path)) {
      const where = [...place.path, route];
      if (parsePrefix(route) === undefined)
        throw this.#source.fault("POLICY_RULE", where, `"${route}": invalid address`);
      approvers.set(route, this.selectors(list, where));
    }
    return approvers;
  }

  nodeAttributes({ value, path }: Place): readonly NodeAttribute[] {
    const source = this.#source;
    return source.list(value, path).map((item, index): NodeAttribute => {
      const where = [...path, index];
      const members = source.members(item, where, ["target", "attr", "app", "ipPool"]);
      const target = members.get("target");
      const targets = this.selectors(target?.value, target?.path ?? where);
      for (const selector of targets) {
        if (selector.kind === "autogroup" && (selector.name === "self" || selector.name === "internet")) {
          throw source.fault("POLICY_RULE", target!.path, `"autogroup:${selector.name}" is not valid as a target`);
        }
      }
      const pool = members.get("ipPool");
      for (const [at, text] of source.texts(pool?.value, pool?.path ?? where).entries())
        this.#checkPool(text, [...pool!.path, at]);
      const attributes: Record<string, readonly unknown[] | null> = Object.create(null);
      const attr = members.get("attr");
      for (const name of source.texts(attr?.value, attr?.path ?? where)) attributes[name] = null;
      const app = members.get("app");
      for (const [name, values] of source.entries(app?.value, app?.path ?? where)) {
        attributes[name] = source.list(values, [...app!.path, name]);
      }
      return { targets, attributes };
    });
  }

  #checkPool(text: string, path: Path): void {
    const prefix = parsePrefix(text);
    if (prefix === undefined) throw this.#source.fault("POLICY_RULE", path, `IPPool(${text}): invalid address`);
    const range = rangeOfPrefix(prefix);
    const isReserved = RESERVED_POOLS.some(
      (pool) => pool.bits === range.bits && pool.low <= range.low && range.high <= pool.high,
    );
    if (isReserved) throw this.#source.fault("POLICY_RULE", path, `IPPool(${text}): network within reserved range`);
  }
}
