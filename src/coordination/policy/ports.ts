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

/** `undefined` when `text` names no protocol. A number has no leading zero. */
export function parseProtocol(text: string): number | undefined {
  const name = text.toLowerCase();
  if (Object.hasOwn(PROTOCOLS, name)) return PROTOCOLS[name];
  return /^(0|[1-9]\d{0,2})$/.test(name) && Number(name) <= 255 ? Number(name) : undefined;
}

/** Protocol 0 stands for none in particular, as no protocol does (upstream `tailcfg/proto_port_range.go`). */
export function asProtocols(protocol: number): readonly number[] {
  return protocol === 0 ? [] : [protocol];
}

export function unknownProtocol(text: string): string {
  return `proto name ${JSON.stringify(text)} not known; use protocol number 0-255 or protocol name (icmp, tcp, udp, etc.)`;
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

/** In the order in which upstream `tailcfg/proto_port_range.go:ParseHostPortRange` looks. */
function parseRange(text: string): PortRange | string {
  if (text === "*") return ALL_PORTS;
  if (text === "") return 'invalid port list: ""';
  const [from = "", to, more] = text.split("-");
  const wrong = (what: string): string => `port range ${JSON.stringify(text)}: ${what}`;
  if (more !== undefined) return wrong("too many dashes(-)");
  const first = parsePort(from);
  if (first === undefined) return wrong("invalid first integer");
  const last = to === undefined ? first : parsePort(to);
  if (last === undefined) return wrong("invalid last integer");
  if (first === 0) return wrong("first port must be >0, or use '*' for wildcard");
  if (first > last) return wrong("first port must be >= last port"); // sic
  return { First: first, Last: last };
}

function parsePort(text: string): number | undefined {
  return /^\d+$/.test(text) && Number(text) <= 65535 ? Number(text) : undefined;
}

/** An element of a grant's `ip`: `*`, `443`, `80-90`, `tcp:443`, `udp:*`, `47:*`, `*:443`; not a comma list. */
export function parseOpening(text: string): Opening | string {
  if (text === "") return "empty string";
  const colon = text.lastIndexOf(":");
  const name = colon < 0 ? "*" : text.slice(0, colon);
  if (name.includes(",")) return 'host cannot contain a comma (",")';
  const range = parseRange(text.slice(colon + 1));
  if (typeof range === "string") return range;
  if (name === "") return "empty protocol";
  if (name === "*") return { protocols: [], ports: [range] };
  const protocol = parseProtocol(name);
  return protocol === undefined ? unknownProtocol(name) : { protocols: asProtocols(protocol), ports: [range] };
}
