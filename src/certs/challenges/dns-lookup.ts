import { formatAddress } from "../../base/address.ts";
import { Fault } from "../../base/fault.ts";
import { CODE, codeOf, type DnsMessage, type DnsRecord, RECORD } from "../../wire/dns.ts";
import { readPrimary, readTarget } from "../../wire/dns-data.ts";

/** Asks DNS one question. */
export interface DnsLookup {
  /**
   * `server`: ask this one (`ip` or `ip:port`) and none other; otherwise a recursive resolver.
   * @throws {Fault} CERT_DNS_SILENT
   */
  ask(name: string, type: number, how: { readonly server?: string; readonly signal: AbortSignal }): Promise<DnsMessage>;
}

const MOST_ALIASES = 8;
const MOST_SERVERS = 32;

/** Of `name` itself, in the answers. */
export function recordsOf(message: DnsMessage, name: string, type: number): readonly DnsRecord[] {
  const wanted = name.toLowerCase();
  return message.answers.filter((record) => record.type === type && record.name === wanted);
}

/**
 * Where a challenge has to be written: `_acme-challenge` may be led elsewhere by CNAME (RFC 8555 section 8.4).
 * @throws {Fault} CERT_CHALLENGE_ALIAS
 */
export async function followAliases(lookup: DnsLookup, record: string, signal: AbortSignal): Promise<string> {
  const passed = new Set<string>();
  let name = record.toLowerCase();
  for (;;) {
    passed.add(name);
    const message = await lookup.ask(name, RECORD.CNAME, { signal });
    const code = codeOf(message);
    if (code !== CODE.OK && code !== CODE.NAME) throw unusable(record, `the resolver says code ${code} for "${name}"`);
    const [alias] = recordsOf(message, name, RECORD.CNAME);
    const target = alias === undefined ? name : readTarget(alias.data);
    if (target === name) return name;
    if (target === undefined || target.includes("\\")) throw unusable(record, "a CNAME leads to no name");
    if (passed.has(target)) throw unusable(record, `its CNAME records go in a circle at "${target}"`);
    if (passed.size > MOST_ALIASES) throw unusable(record, `more than ${MOST_ALIASES} CNAME records`);
    name = target;
  }
}

function unusable(record: string, found: string): Fault {
  return new Fault("CERT_CHALLENGE_ALIAS", `Cannot write "${record}": ${found}, wanted the record or one CNAME`);
}

export interface ZoneCut {
  readonly zone: string;
  /** Where updates go. */
  readonly primary: string;
}

/** The zone that `name` is in. @throws {Fault} CERT_DNS_ZONE */
export async function findZone(lookup: DnsLookup, name: string, signal: AbortSignal): Promise<ZoneCut> {
  const labels = name.split(".");
  // A resolver tells the zone of a name that is not there too; some say less, so the names above are asked as well.
  for (let i = 0; i < labels.length; i++) {
    const asked = labels.slice(i).join(".");
    const message = await lookup.ask(asked, RECORD.SOA, { signal });
    const soa = [...message.answers, ...message.authority].find(({ type }) => type === RECORD.SOA);
    const primary = soa === undefined ? undefined : readPrimary(soa.data);
    const isAbove = soa !== undefined && (asked === soa.name || asked.endsWith(`.${soa.name}`));
    if (soa !== undefined && primary !== undefined && isAbove && soa.name !== "") return { zone: soa.name, primary };
  }
  throw new Fault("CERT_DNS_ZONE", `Cannot find the DNS zone of "${name}": found no SOA record, wanted one`);
}

/** Addresses of all servers that answer for `zone`. @throws {Fault} CERT_DNS_ZONE */
export async function authorities(lookup: DnsLookup, zone: string, signal: AbortSignal): Promise<readonly string[]> {
  const message = await lookup.ask(zone, RECORD.NS, { signal });
  const names = recordsOf(message, zone, RECORD.NS).map(({ data }) => readTarget(data));
  const addresses = new Set<string>();
  for (const name of names.slice(0, MOST_SERVERS)) {
    if (name === undefined || name.includes("\\")) continue;
    for (const address of await addressesOf(lookup, name, signal)) addresses.add(address);
  }
  if (addresses.size > 0) return [...addresses].slice(0, MOST_SERVERS);
  throw new Fault("CERT_DNS_ZONE", `Cannot find who answers for the zone "${zone}": found no address of a name server`);
}

/** IPv4 first. */
export async function addressesOf(lookup: DnsLookup, name: string, signal: AbortSignal): Promise<readonly string[]> {
  const found: string[] = [];
  for (const type of [RECORD.A, RECORD.AAAA]) {
    const message = await lookup.ask(name, type, { signal }).catch((error: unknown) => {
      signal.throwIfAborted();
      if (error instanceof Fault) return undefined;
      throw error;
    });
    for (const record of message?.answers ?? []) if (record.type === type) found.push(addressText(record.data));
  }
  return found.filter((address) => address !== "");
}

function addressText(data: Uint8Array): string {
  return data.length === 4 || data.length === 16 ? formatAddress(data) : "";
}
