import { parsePrefix } from "../../base/address.ts";
import { rangeOfPrefix } from "../../wire/address-set.ts";
import { DOMAINS_ATTRIBUTE, grantProblem, PORTS_ATTRIBUTE } from "../../wire/claims.ts";
import { DOOR_REQUIRED, RELAY_ATTRIBUTE } from "../../wire/funnel.ts";
import type { NodeAttribute, PolicyTest } from "./document.ts";
import { readIpsets } from "./ipsets.ts";
import { type AttributeValue, type Posture, parseAssertion } from "./posture.ts";
import { covers } from "./ranges.ts";
import { isLogin, type Names, type Selector } from "./selector.ts";
import type { Place, SelectorReader } from "./selector-reader.ts";
import type { Path, PolicySource } from "./source.ts";

const NO_TARGETS = new Set(["self", "internet", "danger-all", "nonroot"]);
/** Of ours, what a policy may give to nodes (docs/funnel.md). */
const OWN_ATTRIBUTES: readonly string[] = [RELAY_ATTRIBUTE, DOOR_REQUIRED, DOMAINS_ATTRIBUTE, PORTS_ATTRIBUTE];
const MESH_POOL = rangeOfPrefix(parsePrefix("100.64.0.0/10")!);
const RESERVED_POOLS = ["100.100.100.0/24", "100.115.92.0/23"].map((text) => rangeOfPrefix(parsePrefix(text)!));

/** What later parts of a policy refer to. */
export function readNames(
  source: PolicySource,
  at: (name: string) => Place,
  users: readonly string[] | undefined,
): Names {
  const hosts = new Map<string, string>();
  for (const [name, value] of source.entries(at("hosts").value, at("hosts").path)) {
    const path = [...at("hosts").path, name];
    const address = source.text(value, path);
    if (parsePrefix(address) === undefined)
      throw source.fault("POLICY_RULE", path, `hosts["${name}"]: "${address}": invalid address`);
    hosts.set(name, address);
  }
  const groups = new Map<string, readonly string[]>();
  for (const [name, value] of innermostFirst(source.entries(at("groups").value, at("groups").path))) {
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
  const ipsets = readIpsets(source, at("ipsets"), hosts);
  return { hosts, groups, tags, ipsets, postures: readPostures(source, at("postures")) };
}

/** A group that another names comes before it: of nested ones the hosted service complains of the innermost. */
function innermostFirst(entries: readonly [string, unknown][]): readonly [string, unknown][] {
  const byName = new Map(entries);
  const ordered = new Map<string, unknown>();
  const under = new Set<string>();
  const visit = (name: string): void => {
    if (ordered.has(name) || under.has(name) || !byName.has(name)) return;
    under.add(name);
    const members = byName.get(name);
    if (Array.isArray(members)) for (const member of members) if (typeof member === "string") visit(member);
    ordered.set(name, members);
  };
  for (const [name] of entries) visit(name);
  return [...ordered];
}

function readPostures(source: PolicySource, { value, path }: Place): ReadonlyMap<string, Posture> {
  return new Map(
    source.entries(value, path).map(([name, list]) => {
      const where = [...path, name];
      if (!/^posture:./.test(name))
        throw source.fault("POLICY_RULE", where, `postures["${name}"]: posture names must start with "posture:"`);
      const lines = source.texts(list, where).map((text, index) => {
        const line = parseAssertion(text);
        if (typeof line === "string")
          throw source.fault("POLICY_RULE", [...where, index], `postures["${name}"]: ${line}`);
        return line;
      });
      return [name, lines];
    }),
  );
}

/** The postures that a rule asks of its sources: one of them is enough. None: `fallback`. */
export function readSourcePostures(
  source: PolicySource,
  { postures }: Names,
  place: Place | undefined,
  fallback: readonly Posture[],
): readonly Posture[] {
  const named = source.texts(place?.value, place?.path ?? []).map((name, index) => {
    const posture = postures.get(name);
    if (posture === undefined)
      throw source.fault("POLICY_RULE", [...place!.path, index], `posture not found: "${name}"`);
    return posture;
  });
  return named.length === 0 ? fallback : named;
}

export function readTagOwners(reader: SelectorReader, { value, path }: Place): ReadonlyMap<string, readonly string[]> {
  const owners = new Map<string, readonly string[]>();
  for (const [tag, list] of reader.source.entries(value, path)) {
    const texts = reader.source.texts(list, [...path, tag]);
    reader.selectors(list, [...path, tag], (problem) => `tagOwners["${tag}"]: ${problem}`);
    owners.set(tag, texts);
  }
  return owners;
}

export function readRouteApprovers(
  reader: SelectorReader,
  place: Place | undefined,
): ReadonlyMap<string, readonly Selector[]> {
  const approvers = new Map<string, readonly Selector[]>();
  if (place === undefined) return approvers;
  for (const [route, list] of reader.source.entries(place.value, place.path)) {
    const where = [...place.path, route];
    if (parsePrefix(route) === undefined) throw reader.fault(where, `"${route}": invalid address`);
    approvers.set(route, reader.selectors(list, where));
  }
  return approvers;
}

export function readServiceApprovers(
  reader: SelectorReader,
  place: Place | undefined,
): ReadonlyMap<string, readonly Selector[]> {
  return new Map(
    reader.source.entries(place?.value, place?.path ?? []).map(([name, list]) => {
      const where = [...place!.path, name];
      // A tag stands for the services that carry it.
      if (reader.selector(name, where).kind !== "service" && !name.startsWith("tag:"))
        throw reader.fault(where, `"${name}": invalid service name`);
      return [name, reader.selectors(list, where)];
    }),
  );
}

export function readNodeAttributes(reader: SelectorReader, { value, path }: Place): readonly NodeAttribute[] {
  const { source } = reader;
  return source.list(value, path).map((item, index): NodeAttribute => {
    const where = [...path, index];
    const members = source.members(item, where, ["target", "attr", "app", "ipPool"]);
    const target = members.get("target");
    const targets = reader.selectors(target?.value, target?.path ?? where);
    for (const selector of targets) {
      if (selector.kind === "autogroup" && NO_TARGETS.has(selector.name)) {
        throw reader.fault(target!.path, `"autogroup:${selector.name}" is not valid as a target`);
      }
    }
    const pool = members.get("ipPool");
    const pools = source.texts(pool?.value, pool?.path ?? where);
    for (const [at, text] of pools.entries()) checkPool(reader, text, [...pool!.path, at]);
    const attributes: Record<string, readonly unknown[] | null> = Object.create(null);
    const attr = members.get("attr");
    for (const [at, name] of source.texts(attr?.value, attr?.path ?? where).entries()) {
      checkOwnAttribute(reader, name, undefined, [...attr!.path, at]);
      attributes[name] = null;
    }
    const app = members.get("app");
    for (const [name, values] of source.entries(app?.value, app?.path ?? where)) {
      const list = source.list(values, [...app!.path, name]);
      checkOwnAttribute(reader, name, list, [...app!.path, name]);
      attributes[name] = list;
    }
    return { targets, attributes, pools };
  });
}

/** Of our own words a slip of the pen is said: a door that is not demanded stays open. */
function checkOwnAttribute(
  reader: SelectorReader,
  name: string,
  values: readonly unknown[] | undefined,
  path: Path,
): void {
  if (!name.startsWith("sallyport.dev/")) return;
  if (!OWN_ATTRIBUTES.includes(name))
    throw reader.fault(path, `"${name}": unknown attribute, wanted one of ${OWN_ATTRIBUTES.join(", ")}`);
  const problems = (values ?? [undefined]).map((value) => grantProblem(name, value));
  const problem = problems.find((one) => one !== undefined);
  if (problem !== undefined) throw reader.fault(path, `"${name}": ${problem}`);
}

function checkPool(reader: SelectorReader, text: string, path: Path): void {
  const prefix = parsePrefix(text);
  if (prefix === undefined) throw reader.fault(path, `IPPool(${text}): invalid address`);
  const range = rangeOfPrefix(prefix);
  if (!covers(MESH_POOL, range)) throw reader.fault(path, `IPPool(${text}): network not within 100.64.0.0/10`);
  const isReserved = RESERVED_POOLS.some((pool) => covers(pool, range));
  if (isReserved) throw reader.fault(path, `IPPool(${text}): network within reserved range`);
}

export function readTests(source: PolicySource, { value, path }: Place): readonly PolicyTest[] {
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
      attributes: readTestAttributes(source, members.get("srcPostureAttrs")),
    };
  });
}

/** What a test says of its source for postures to look at; `undefined`: nothing. */
function readTestAttributes(
  source: PolicySource,
  place: Place | undefined,
): Readonly<Record<string, AttributeValue>> | undefined {
  const entries = source.entries(place?.value, place?.path ?? []).map(([name, value]): [string, AttributeValue] => {
    if (typeof value !== "string" && typeof value !== "number" && typeof value !== "boolean")
      throw source.fault("POLICY_SHAPE", [...place!.path, name], "a text, number or truth value is wanted");
    return [name, value];
  });
  return place === undefined ? undefined : Object.fromEntries(entries);
}
