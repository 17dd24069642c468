import { type AddressRange, AddressSet, parseRanges } from "../../wire/address-set.ts";
import type { FilterRule } from "../../wire/tailcfg.ts";
import type { Header } from "./header.ts";

const DEFAULT_PROTOCOLS = [6, 17, 1, 58];

/** Destinations that share a port range. */
interface Target {
  readonly addresses: AddressSet;
  readonly first: number;
  readonly last: number;
}

/** A filter rule made ready for packets. */
export interface Rule {
  readonly sources: AddressSet;
  /** Capabilities of the sending peer that make it a source. */
  readonly sourceCaps: readonly string[];
  /** 256 flags, by protocol number. */
  readonly protocols: Uint8Array;
  readonly targets: readonly Target[];
}

/** A bad element of a rule is skipped, the rest stays; a rule of capabilities only admits nothing. */
export function compileRule(rule: FilterRule): Rule | undefined {
  const { SrcIPs, DstPorts, IPProto } = rule;
  if (!Array.isArray(SrcIPs) || !Array.isArray(DstPorts)) return undefined;
  const sources: AddressRange[] = [];
  const sourceCaps: string[] = [];
  for (const text of SrcIPs) {
    if (typeof text !== "string") continue;
    if (text.startsWith("cap:")) sourceCaps.push(text.slice(4));
    else sources.push(...(parseRanges(text) ?? []));
  }
  const byPorts = new Map<number, AddressRange[]>();
  for (const destination of DstPorts) {
    const { First, Last } = destination?.Ports ?? {};
    const ranges = typeof destination?.IP === "string" ? parseRanges(destination.IP) : undefined;
    if (ranges === undefined || !isPort(First) || !isPort(Last) || First > Last) continue;
    const key = First * 65536 + Last;
    byPorts.set(key, [...(byPorts.get(key) ?? []), ...ranges]);
  }
  if ((sources.length === 0 && sourceCaps.length === 0) || byPorts.size === 0) return undefined;
  const protocols = new Uint8Array(256);
  for (const protocol of IPProto?.length ? IPProto : DEFAULT_PROTOCOLS)
    if (protocol in protocols) protocols[protocol] = 1;
  return {
    sources: new AddressSet(sources),
    sourceCaps,
    protocols,
    targets: [...byPorts].map(([key, ranges]) => ({
      addresses: new AddressSet(ranges),
      first: Math.floor(key / 65536),
      last: key % 65536,
    })),
  };
}

function isPort(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= 65535;
}

export function sourceMatches(rule: Rule, header: Header): boolean {
  return holds(rule.sources, header.version, header.source);
}

/** True when some target has the header's destination and admits `port`; -1 asks for all ports, -2 for any. */
export function targetMatches(rule: Rule, header: Header, port: number): boolean {
  for (let i = 0; i < rule.targets.length; i++) {
    const { addresses, first, last } = rule.targets[i]!;
    const admits =
      port === ANY_PORT || (port === ALL_PORTS ? first === 0 && last === 65535 : first <= port && port <= last);
    if (admits && holds(addresses, header.version, header.destination)) return true;
  }
  return false;
}

export const ALL_PORTS = -1;
export const ANY_PORT = -2;

export function holds(set: AddressSet, version: 0 | 4 | 6, words: Uint32Array): boolean {
  return version === 4 ? set.hasV4(words[3]!) : set.hasV6(words[0]!, words[1]!, words[2]!, words[3]!);
}
