import { formatAddress, parseAddress, parsePrefix } from "../../base/address.ts";
import { plainName } from "../../wire/host-name.ts";
import { SERVICE_ADDRESS } from "../../wire/mesh-address.ts";
import type { NetworkMap } from "../../wire/network-map.ts";
import type { DnsResolver, Node } from "../../wire/tailcfg.ts";

/** What a name stands for; text addresses. */
export interface Record4And6 {
  readonly v4: readonly string[];
  readonly v6: readonly string[];
}

const addressesOf = (resolvers: readonly DnsResolver[]): readonly string[] => resolvers.map(({ Addr }) => Addr);

/** The service addresses of MagicDNS itself. */
const SERVICE_NAME = "magicdns.localhost-tailscale-daemon";
const SERVICE: Record4And6 = { v4: [SERVICE_ADDRESS], v6: ["fd7a:115c:a1e0::53"] };
const REVERSE_V6 = "0.e.1.a.c.5.1.1.a.7.d.f.ip6.arpa";

/** All names of one network map. */
export class NameTable {
  readonly #records: Map<string, Record4And6> = new Map();
  /** Nodes that answer for every name below theirs. */
  readonly #parents: Set<string> = new Set();
  readonly #reverse: Map<string, string> = new Map();
  readonly #zones: Set<string> = new Set();
  /** Suffix → who answers for it; `""`: all other names. */
  readonly #resolvers: Map<string, readonly string[]> = new Map();
  readonly searchDomains: readonly string[] = [];
  /** Whether nodes with an IPv4 address answer AAAA too. */
  readonly hasBothFamilies: boolean = false;

  constructor(map: NetworkMap | undefined) {
    if (map === undefined || map.self.Expired === true) return;
    const { self, dns } = map;
    const isV6Only = !self.Addresses.some((address) => !address.includes(":"));
    this.hasBothFamilies = isV6Only || Object.hasOwn(self.CapMap ?? {}, "magicdns-aaaa");
    this.searchDomains = (dns.Domains ?? []).map(plainName).filter((domain) => domain !== "");
    this.#addService();
    for (const node of map.peers.values()) this.#addNode(node, isV6Only);
    this.#addNode(self, isV6Only);
    for (const { Name, Type = "", Value } of dns.ExtraRecords ?? []) this.#addExtra(plainName(Name), Type, Value);
    for (const [suffix, resolvers] of Object.entries(dns.Routes ?? {})) {
      if (resolvers === null || resolvers.length === 0) this.#zones.add(plainName(suffix));
      else this.#resolvers.set(plainName(suffix), addressesOf(resolvers));
    }
    if (dns.Resolvers !== undefined && dns.Resolvers.length > 0) this.#resolvers.set("", addressesOf(dns.Resolvers));
    if (dns.Proxied === true) {
      const suffix = plainName(self.Name).split(".").slice(1).join(".");
      if (suffix !== "") this.#zones.add(suffix);
      for (let i = 64; i < 128; i++) this.#zones.add(`${i}.100.in-addr.arpa`);
      this.#zones.add(REVERSE_V6);
    }
  }

  #addService(): void {
    this.#records.set(SERVICE_NAME, SERVICE);
    for (const address of [...SERVICE.v4, ...SERVICE.v6]) this.#reverse.set(address, SERVICE_NAME);
  }

  #addNode(node: Node, isV6Only: boolean): void {
    const name = plainName(node.Name);
    if (name === "") return;
    const addresses = node.Addresses.map((text) => parsePrefix(text))
      .filter((prefix) => prefix !== undefined)
      .map((prefix) => formatAddress(prefix.address));
    const v6 = addresses.filter((address) => address.includes(":"));
    const v4 = isV6Only ? [] : addresses.filter((address) => !address.includes(":"));
    this.#records.set(name, { v4, v6 });
    if (Object.hasOwn(node.CapMap ?? {}, "dns-subdomain-resolve")) this.#parents.add(name);
    for (const address of addresses) this.#reverse.set(address, name);
  }

  /** The type is told by the value; a stated one must agree. */
  #addExtra(name: string, type: string, value: string): void {
    const bytes = parseAddress(value);
    if (bytes === undefined || name === "" || !["", bytes.length === 4 ? "A" : "AAAA"].includes(type)) return;
    const before = this.#extras.get(name) ?? { v4: [], v6: [] };
    const text = formatAddress(bytes);
    const record =
      bytes.length === 4 ? { ...before, v4: [...before.v4, text] } : { ...before, v6: [...before.v6, text] };
    this.#extras.set(name, record);
  }

  readonly #extras: Map<string, Record4And6> = new Map();

  /** Whether the record came from `ExtraRecords`: those hide no family. */
  isExtra(name: string): boolean {
    return this.#extras.has(name);
  }

  find(name: string): Record4And6 | undefined {
    const exact = this.#extras.get(name) ?? this.#records.get(name);
    if (exact !== undefined || this.#parents.size === 0) return exact;
    for (let dot = name.indexOf("."); dot >= 0; dot = name.indexOf(".", dot + 1)) {
      const above = name.slice(dot + 1);
      if (this.#parents.has(above)) return this.#records.get(above);
    }
    return undefined;
  }

  /** Who is to be asked about `name`, by the longest suffix; `undefined`: whoever this machine asks. */
  resolversOf(name: string): readonly string[] | undefined {
    for (let rest = name; rest !== ""; rest = rest.includes(".") ? rest.slice(rest.indexOf(".") + 1) : "") {
      const resolvers = this.#resolvers.get(rest);
      if (resolvers !== undefined) return resolvers;
    }
    return this.#resolvers.get("");
  }

  /** Name of the node that has `address`. */
  nameOf(address: string): string | undefined {
    return this.#reverse.get(address);
  }

  /** The zone of ours that holds `name`; an extra name is a zone of its own. */
  zoneOf(name: string): string | undefined {
    for (let rest = name; rest !== ""; rest = rest.includes(".") ? rest.slice(rest.indexOf(".") + 1) : "") {
      if (this.#zones.has(rest)) return rest;
    }
    return this.#extras.has(name) ? name : undefined;
  }
}

/** The address that a name of the reverse zones stands for. */
export function reverseAddress(name: string): string | undefined {
  const v4 = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.in-addr\.arpa$/.exec(name);
  if (v4 !== null) {
    const bytes = parseAddress(v4.slice(1).reverse().join("."));
    return bytes === undefined ? undefined : formatAddress(bytes);
  }
  const v6 = /^((?:[0-9a-f]\.){32})ip6\.arpa$/.exec(name);
  if (v6 === null) return undefined;
  const digits = v6[1]!.split(".").reverse().join("");
  const bytes = parseAddress(digits.match(/.{4}/g)!.join(":"));
  return bytes === undefined ? undefined : formatAddress(bytes);
}

/**
 * `<a>-<b>-<c>-<d>-via-<site>`, alone or under the vendor's suffixes: the IPv6 address that stands for an IPv4 address
 * at a site (data-plane sheet 7.2 and 8).
 */
export function via6Address(name: string): string | undefined {
  const match = /^(\d{1,3})-(\d{1,3})-(\d{1,3})-(\d{1,3})-via-(0x[0-9a-f]+|0o[0-7]+|0b[01]+|\d+)(\..+)?$/.exec(name);
  if (match === null) return undefined;
  const suffix = match[6];
  if (suffix !== undefined && !/\.(ts\.net|tailscale\.net)$/.test(suffix)) return undefined;
  const v4 = parseAddress(match.slice(1, 5).join("."));
  const digits = match[5]!;
  const site = /^0\d+$/.test(digits)
    ? /^[0-7]+$/.test(digits)
      ? Number.parseInt(digits, 8)
      : Number.NaN
    : Number(digits);
  if (v4 === undefined || !Number.isInteger(site) || site > 0xffffffff) return undefined;
  const bytes = parseAddress("fd7a:115c:a1e0:b1a::")!;
  new DataView(bytes.buffer).setUint32(8, site);
  bytes.set(v4, 12);
  return formatAddress(bytes);
}
