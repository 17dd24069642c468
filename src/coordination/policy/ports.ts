import type { PortRange } from "../../wire/tailcfg.ts";

/** Names as upstream `types/ipproto`. The hosted service means ICMPv4 alone by `icmp`. */
const PROTOCOLS: Readonly<Record<string, number>> = {
  icmp: 1,
  icmpv4: 1,
  igmp: 2,
  ipv4: 4,
  "ip-in-ip": 4,
  tcp: 6,
  egp: 8,
  igp: 9,
  udp: 17,
  dccp: 33,
  gre: 47,
  esp: 50,
  ah: 51,
  icmpv6: 58,
  "ipv6-icmp": 58,
  tsmp: 99,
  sctp: 132,
};

export const ALL_PORTS: PortRange = { First: 0, Last: 65535 };

/** Protocols and ports that a grant opens. No protocols = TCP, UDP, ICMP and ICMPv6. */
export interface Opening {
  readonly protocols: readonly number[];
  readonly ports: readonly PortRange[];
}

/** `undefined` when `text` names no protocol. */
export function parseProtocol(text: string): number | undefined {
  const name = text.toLowerCase();
  if (Object.hasOwn(PROTOCOLS, name)) return PROTOCOLS[name];
  return /^\d{1,3}$/.test(name) && Number(name) <= 255 ? Number(name) : undefined;
}

/** A comma list of ports and ranges, or `*`. A string result is what is wrong, in the hosted service's words. */
export function parsePorts(text: string): readonly PortRange[] | string {
  const ranges: PortRange[] = [];
  for (const part of text.split(",")) {
    const range = parseRange(part);
    if (typeof range === "string") return range;
    ranges.push(range);
  }
  return ranges;
}

function parseRange(text: string): PortRange | string {
  if (text === "*") return ALL_PORTS;
  const [from = "", to, more] = text.split("-");
  const wrong = (what: string): string => `port range "${text}": ${what}`;
  const first = parsePort(from);
  if (first === undefined) return wrong("invalid first integer");
  const last = to === undefined ? first : parsePort(to);
  if (last === undefined || more !== undefined) return wrong("invalid last integer");
  if (first === 0) return wrong("first port must be >0, or use '*' for wildcard");
  if (first > last) return wrong("first port must not be above the last");
  return { First: first, Last: last };
}

function parsePort(text: string): number | undefined {
  return /^\d{1,5}$/.test(text) && Number(text) <= 65535 ? Number(text) : undefined;
}

/** An element of a grant's `ip`: `*`, `443`, `80-90`, `tcp:443`, `udp:*`, `47:*`. */
export function parseOpening(text: string): Opening | string {
  const colon = text.indexOf(":");
  const ports = parsePorts(text.slice(colon + 1));
  if (typeof ports === "string") return ports;
  if (colon < 0) return { protocols: [], ports };
  const name = text.slice(0, colon);
  const protocol = parseProtocol(name);
  return protocol === undefined ? `unknown protocol "${name}"` : { protocols: [protocol], ports };
}
