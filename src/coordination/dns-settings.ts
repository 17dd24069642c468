import { formatAddress, parseAddress, parseAddressPort } from "../base/address.ts";
import { Fault } from "../base/fault.ts";
import { plainName } from "../wire/host-name.ts";
import type { DnsConfig, DnsResolver } from "../wire/tailcfg.ts";
import type { Core } from "./core.ts";
import type { Ledger } from "./ledger.ts";

/** What the network's administrator says about names (control-protocol §8.1). */
export interface DnsSettings {
  /** Names of nodes are resolved by the clients themselves. */
  readonly magicDns: boolean;
  /** For all names that nothing else is said about. */
  readonly nameservers: readonly string[];
  /** The name servers take the place of a device's own; otherwise they stand in where it has none. */
  readonly override: boolean;
  /** Domain → who answers for it; nobody: what has no record there does not exist. */
  readonly split: Readonly<Record<string, readonly string[]>>;
  /** After the network's own domain. */
  readonly search: readonly string[];
  readonly records: readonly AddressRecord[];
}

export interface AddressRecord {
  /** Lower case, without the final dot. */
  readonly name: string;
  readonly type: "A" | "AAAA";
  readonly value: string;
}

/** What one command changes; what is absent stays. */
export interface DnsChange {
  readonly magicDns?: boolean;
  readonly nameservers?: readonly string[];
  readonly override?: boolean;
  /** `null` takes the domain away. */
  readonly split?: Readonly<Record<string, readonly string[] | null>>;
  readonly search?: readonly string[];
  readonly addRecords?: readonly { readonly name: string; readonly value: string }[];
  /** Without `value`: all records of the name. */
  readonly removeRecords?: readonly { readonly name: string; readonly value?: string }[];
}

export const DEFAULT_DNS: DnsSettings = {
  magicDns: true,
  nameservers: [],
  override: false,
  split: {},
  search: [],
  records: [],
};

const MOST_RESOLVERS = 16;
const MOST_DOMAINS = 256;
const MOST_SEARCHED = 16;
const MOST_RECORDS = 2000;

const LABEL = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/;

const bad = (what: string, value: unknown, wanted: string): Fault =>
  new Fault("COORDINATION_DNS", `Cannot use ${what} "${String(value).slice(0, 100)}": wanted ${wanted}`);

/** The settings after a change. @throws {Fault} COORDINATION_DNS */
export function changedDns(before: DnsSettings, change: DnsChange): DnsSettings {
  const split = new Map(Object.entries(before.split));
  for (const [domain, resolvers] of Object.entries(change.split ?? {})) {
    const name = checkedDomain(domain);
    if (resolvers === null) {
      if (!split.delete(name)) throw bad("split domain", domain, "one that is there");
    } else split.set(name, bounded("resolvers of a domain", resolvers.map(checkedResolver), MOST_RESOLVERS));
  }
  const records = change.removeRecords === undefined ? before.records : without(before.records, change.removeRecords);
  const all = new Map(
    [...records, ...(change.addRecords ?? []).map(checkedRecord)].map((r) => [`${r.name} ${r.value}`, r]),
  );
  return {
    magicDns: change.magicDns ?? before.magicDns,
    nameservers: bounded(
      "name servers",
      change.nameservers?.map(checkedResolver) ?? before.nameservers,
      MOST_RESOLVERS,
    ),
    override: change.override ?? before.override,
    split: Object.fromEntries(bounded("split domains", [...split].toSorted(), MOST_DOMAINS)),
    search: bounded("search domains", change.search?.map(checkedDomain) ?? before.search, MOST_SEARCHED),
    records: bounded("records", [...all.values()], MOST_RECORDS),
  };
}

function without(
  records: readonly AddressRecord[],
  removals: NonNullable<DnsChange["removeRecords"]>,
): readonly AddressRecord[] {
  let left = records;
  for (const { name, value } of removals) {
    const gone = checkedDomain(name);
    const kept = left.filter((record) => record.name !== gone || (value !== undefined && record.value !== value));
    if (kept.length === left.length)
      throw bad("record", value === undefined ? name : `${name} ${value}`, "one that is there");
    left = kept;
  }
  return left;
}

function bounded<T>(what: string, list: readonly T[], most: number): readonly T[] {
  if (list.length > most) throw bad(what, `${list.length} of them`, `at most ${most}`);
  return list;
}

function checkedDomain(text: string): string {
  const name = plainName(text);
  if (name.length > 253 || !name.split(".").every((label) => LABEL.test(label)))
    throw bad("name", text, "a domain name");
  return name;
}

/** What stock clients know: an address, with a port or without, and DNS over HTTPS (upstream net/dns/resolver/forwarder.go). */
function checkedResolver(text: string): string {
  if (parseAddress(text) !== undefined || parseAddressPort(text) !== undefined) return text;
  if (text.length <= 300 && /^https?:\/\/[^\s/]+\/\S*$/.test(text) && URL.canParse(text)) return text;
  throw bad("resolver", text, "an address, address:port, or a URL of DNS over HTTPS");
}

function checkedRecord({ name, value }: { readonly name: string; readonly value: string }): AddressRecord {
  const bytes = parseAddress(value);
  // Clients leave all other types out (upstream ipn/ipnlocal/node_backend.go dnsConfigForNetmap).
  if (bytes === undefined) throw bad("record", value, "an IPv4 or IPv6 address, for clients know no other records");
  return { name: checkedDomain(name), type: bytes.length === 4 ? "A" : "AAAA", value: formatAddress(bytes) };
}

const REVERSE_ZONES: Readonly<Record<string, readonly DnsResolver[]>> = Object.fromEntries(
  [
    "0.e.1.a.c.5.1.1.a.7.d.f.ip6.arpa",
    ...Array.from({ length: 64 }, (_, i) => `${64 + i}.100.in-addr.arpa`).toSorted(),
  ].map((zone) => [zone, []]),
);

const asResolvers = (texts: readonly string[]): readonly DnsResolver[] => texts.map((Addr) => ({ Addr }));

/** What all nodes are told alike. */
export function sharedDnsConfig(settings: DnsSettings, baseDomain: string): DnsConfig {
  const { magicDns, nameservers, override, split, search, records } = settings;
  const routes = {
    ...REVERSE_ZONES,
    ...Object.fromEntries(Object.entries(split).map(([d, r]) => [d, asResolvers(r)])),
  };
  const covered = [...Object.keys(routes), ...(magicDns ? [baseDomain] : [])];
  for (const { name } of records) {
    // Where nothing leads to the client's own resolver, the name itself does (clients before 1.100 do not see to that).
    if (!covered.some((zone) => name === zone || name.endsWith(`.${zone}`))) routes[name] = [];
  }
  const global = asResolvers(nameservers);
  return {
    ...(global.length > 0 && override ? { Resolvers: global } : {}),
    Routes: routes,
    ...(global.length > 0 && !override ? { FallbackResolvers: global } : {}),
    Domains: [baseDomain, ...search.filter((domain) => domain !== baseDomain)],
    ...(magicDns ? { Proxied: true } : {}),
    ...(records.length === 0
      ? {}
      : { ExtraRecords: records.map(({ name, type, value }) => ({ Name: name, Type: type, Value: value })) }),
  };
}

const SETTING = "dns";
const parsed: WeakMap<Ledger, { readonly text: string; readonly settings: DnsSettings }> = new WeakMap();

/** The same object as long as nothing changes. */
export function dnsSettingsOf(ledger: Ledger): DnsSettings {
  const text = ledger.settings.get(SETTING);
  if (text === undefined) return DEFAULT_DNS;
  let known = parsed.get(ledger);
  if (known?.text !== text) {
    known = { text, settings: { ...DEFAULT_DNS, ...(JSON.parse(text) as DnsSettings) } };
    parsed.set(ledger, known);
  }
  return known.settings;
}

export function changeDns(core: Core, change: DnsChange, by: string): Promise<DnsSettings> {
  return core.exclusive(async () => {
    const after = changedDns(dnsSettingsOf(core.ledger), change);
    for (const { name } of change.addRecords ?? []) {
      const node = core.named(name);
      if (node !== undefined) throw bad("record", name, "a name that no node has, for it would take its place");
    }
    const entry = core.entry(by, "dns.set", "dns", JSON.stringify(change));
    await core.ledger.commit([{ put: "setting", name: SETTING, value: JSON.stringify(after) }, entry]);
    core.streams.touchAll();
    return after;
  });
}
