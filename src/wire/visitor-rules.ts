import { formatPrefix, maskedPrefix, type Prefix, parseAddress, parsePrefix, prefixContains } from "../base/address.ts";
import { wildcardOf } from "./host-name.ts";
import { atSite, foldSite } from "./site.ts";

/** Ours: the member of a map request in which a gateway says what it asks for its visitors. */
export const VISITOR_RULES: "sallyport.dev/visitor-rules" = "sallyport.dev/visitor-rules";

/** Smallest and largest sane value of each limit; whole numbers all. */
export const LIMIT_RANGES: Readonly<Record<keyof VisitorLimits, readonly [least: number, most: number]>> = {
  connectionsPerSecond: [1, 1_000_000],
  connections: [1, 1_000_000],
  visitorConnectionsPerSecond: [1, 1_000_000],
  visitorConnections: [1, 1_000_000],
  bytesPerSecond: [1000, 1_000_000_000_000],
};
/** Of one name and port, `allow` and `deny` together. */
export const MOST_PREFIXES = 256;
/** Of all that one gateway asks, as JSON. */
export const LARGEST_RULES: number = 32 * 1024;
export const MOST_RULES = 64;
const MOST_SITES = 256;
const EVERY_SITE = "*";

export interface VisitorLimits {
  readonly connectionsPerSecond?: number;
  /** At once. */
  readonly connections?: number;
  /** Of one visitor: an IPv4 address, or an IPv6 /64. */
  readonly visitorConnectionsPerSecond?: number;
  readonly visitorConnections?: number;
  /** Of one connection, in each direction. */
  readonly bytesPerSecond?: number;
}

/** What the owner of a public name asks of whoever lets visitors in. Absent: only the others' own limits count. */
export interface VisitorRules extends VisitorLimits {
  /** Visitors from elsewhere are as unknown as the name is to them. */
  readonly allow?: readonly Prefix[];
  readonly deny?: readonly Prefix[];
}

/** Rules as they travel, for the sites (`name:port`, or `*.example.org:port`) that they are about. */
export interface SiteRules {
  readonly sites: readonly string[];
  readonly allow?: readonly string[];
  readonly deny?: readonly string[];
  readonly limits?: VisitorLimits;
}

/** By site. */
export type RulesBySite = ReadonlyMap<string, VisitorRules>;

const NOBODY = { allow: [] } as const;

/**
 * What a gateway told, as far as it can be understood. What cannot lets nobody in: a rule that was meant to close must
 * not open by a mistake in it.
 */
export function checkedSiteRules(value: unknown): readonly SiteRules[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value) || value.length > MOST_RULES || JSON.stringify(value).length > LARGEST_RULES) return CLOSED;
  const checked = value.map(checkedRule);
  return checked.every((rule) => rule !== undefined) && isPlain(checked) ? checked : CLOSED;
}

/**
 * Each site once, and nothing about all sites but that they are closed: what two lists have in common is work that grows with both,
 * and who tells us is not who does it.
 */
function isPlain(rules: readonly SiteRules[]): boolean {
  const sites = rules.flatMap((rule) => [...new Set(rule.sites)]);
  const isOpen = ({ sites: of, allow }: SiteRules): boolean => of.includes(EVERY_SITE) && allow?.length !== 0;
  return new Set(sites).size === sites.length && !rules.some(isOpen);
}

const CLOSED: readonly SiteRules[] = [{ sites: [EVERY_SITE], ...NOBODY }];

/** Undefined: it cannot even be told what it is about. */
function checkedRule(value: unknown): SiteRules | undefined {
  const { sites, allow, deny, limits } = Object(value) as Readonly<Record<string, unknown>>;
  if (!Array.isArray(sites) || sites.length > MOST_SITES || !sites.every(isSite)) return undefined;
  const lists = [allow, deny].map((list) => (list === undefined ? undefined : checkedPrefixes(list)));
  const known = limits === undefined ? {} : checkedLimits(limits);
  const [allowed, denied] = lists;
  const isBad = lists.some((list) => list === null) || known === undefined;
  if (isBad || (allowed?.length ?? 0) + (denied?.length ?? 0) > MOST_PREFIXES) return { sites, ...NOBODY };
  return {
    sites,
    ...(allowed ? { allow: allowed } : {}),
    ...(denied ? { deny: denied } : {}),
    ...(Object.keys(known).length === 0 ? {} : { limits: known }),
  };
}

const isSite = (value: unknown): value is string =>
  typeof value === "string" && (value === EVERY_SITE || foldSite(value) === value);

/** In their one form; null: something else. */
function checkedPrefixes(list: unknown): readonly string[] | null {
  if (!Array.isArray(list)) return null;
  const prefixes = list.map((text) => (typeof text === "string" ? parseVisitorPrefix(text) : undefined));
  return prefixes.every((prefix) => prefix !== undefined) ? prefixes.map(formatPrefix) : null;
}

/** An address, or a block of them without host bits: `203.0.113.7/0` is a slip that would open or close everything. */
export function parseVisitorPrefix(text: string): Prefix | undefined {
  const prefix = parsePrefix(text);
  return prefix !== undefined && formatPrefix(maskedPrefix(prefix)) === formatPrefix(prefix) ? prefix : undefined;
}

/** Limits that we know, each in its range; the rest is for whoever knows it. */
function checkedLimits(value: unknown): VisitorLimits | undefined {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
  const known: [string, number][] = [];
  for (const [name, [least, most]] of Object.entries(LIMIT_RANGES)) {
    if (!Object.hasOwn(value, name)) continue;
    const limit = (value as Readonly<Record<string, unknown>>)[name];
    if (!Number.isInteger(limit) || Number(limit) < least || Number(limit) > most) return undefined;
    known.push([name, Number(limit)]);
  }
  return Object.fromEntries(known);
}

/** Those of `rules` that visitors of `name` may meet, on these ports; it may be a wildcard, and so may they. */
export function siteRulesOf(
  rules: readonly SiteRules[],
  name: string,
  ports?: readonly number[],
): readonly SiteRules[] {
  const asked = ports && new Set(ports.map(String));
  const isMet = (site: string): boolean => {
    if (site === EVERY_SITE) return true;
    const colon = site.lastIndexOf(":"); // of thousands of sites, hundreds of times: they are not taken apart in vain
    return asked?.has(site.slice(colon + 1)) !== false && covers(name, site.slice(0, colon));
  };
  return rules.flatMap((rule) => {
    const sites = rule.sites.filter(isMet);
    return sites.length === 0 ? [] : [{ ...rule, sites }];
  });
}

const covers = (name: string, other: string): boolean =>
  name === other || wildcardOf(other) === name || wildcardOf(name) === other;

/** Checked rules, to be looked up. Two about the same site both hold. */
export function rulesBySite(rules: readonly SiteRules[]): RulesBySite {
  const bySite = new Map<string, VisitorRules>();
  for (const { sites, allow, deny, limits } of rules) {
    const read: VisitorRules = {
      ...limits,
      ...(allow === undefined ? {} : { allow: prefixesOf(allow) }),
      ...(deny === undefined ? {} : { deny: prefixesOf(deny) }),
    };
    for (const site of sites) bySite.set(site, bothRules(bySite.get(site), read)!);
  }
  return bySite;
}

const prefixesOf = (list: readonly string[]): readonly Prefix[] => list.flatMap((text) => parsePrefix(text) ?? []);

/** The rules for a visitor who asks for `name`, which is no wildcard. */
export function rulesAt(rules: RulesBySite, name: string, port: number): VisitorRules | undefined {
  return bothRules(rules.get(EVERY_SITE), atSite(rules, { name, port }));
}

/** Whoever may come by one of them may not come for that by the other. Made once of each two: it is asked for each visitor. */
export function bothRules(one: VisitorRules | undefined, other: VisitorRules | undefined): VisitorRules | undefined {
  if (one === undefined || other === undefined) return one ?? other;
  const made = met.get(one) ?? new WeakMap<VisitorRules, VisitorRules>();
  met.set(one, made);
  let both = made.get(other);
  if (both === undefined) {
    both = strictest(one, other);
    made.set(other, both);
  }
  return both;
}

const met: WeakMap<VisitorRules, WeakMap<VisitorRules, VisitorRules>> = new WeakMap();

function strictest(one: VisitorRules, other: VisitorRules): VisitorRules {
  const limits: [string, number][] = [];
  for (const name of Object.keys(LIMIT_RANGES) as (keyof VisitorLimits)[]) {
    const least = Math.min(one[name] ?? Infinity, other[name] ?? Infinity);
    if (least < Infinity) limits.push([name, least]);
  }
  const deny = [...(one.deny ?? []), ...(other.deny ?? [])];
  const allow =
    one.allow === undefined || other.allow === undefined ? (one.allow ?? other.allow) : common(one.allow, other.allow);
  return {
    ...Object.fromEntries(limits),
    ...(allow === undefined ? {} : { allow }),
    ...(deny.length === 0 ? {} : { deny }),
  };
}

/** Of two blocks one lies in the other, or they have nothing in common. */
function common(some: readonly Prefix[], others: readonly Prefix[]): readonly Prefix[] {
  return some.flatMap((one) =>
    others.flatMap((other) => {
      const [wide, narrow] = one.bits <= other.bits ? [one, other] : [other, one];
      return prefixContains(wide, narrow.address) ? [narrow] : [];
    }),
  );
}

/** As they travel. */
export function siteRules(sites: readonly string[], { allow, deny, ...limits }: VisitorRules): SiteRules {
  return {
    sites,
    ...(allow === undefined ? {} : { allow: allow.map(formatPrefix) }),
    ...(deny === undefined ? {} : { deny: deny.map(formatPrefix) }),
    ...(Object.keys(limits).length === 0 ? {} : { limits }),
  };
}

/** May a visitor from `address` come at all? */
export function isWelcome(rules: VisitorRules | undefined, address: string): boolean {
  const { allow, deny } = rules ?? {};
  if (allow === undefined && deny === undefined) return true;
  const bytes = parseAddress(address);
  if (bytes === undefined || deny?.some((prefix) => prefixContains(prefix, bytes)) === true) return false;
  return allow === undefined || allow.some((prefix) => prefixContains(prefix, bytes));
}
