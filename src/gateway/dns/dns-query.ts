import { randomBytes } from "node:crypto";
import { Fault } from "../../base/fault.ts";
import type { QueryDns } from "../../mesh/dns/magic-dns.ts";
import { encodeName } from "../../wire/dns.ts";

/** Types that upstream's command knows by name (`ipn/localapi/localapi.go:dnsMessageTypeForString`). */
const TYPES: Readonly<Record<string, number>> = {
  A: 1,
  NS: 2,
  CNAME: 5,
  SOA: 6,
  WKS: 11,
  PTR: 12,
  HINFO: 13,
  MINFO: 14,
  MX: 15,
  TXT: 16,
  AAAA: 28,
  SRV: 33,
  OPT: 41,
  AXFR: 252,
  ALL: 255,
};
const RECURSION_DESIRED = 0x0100;
const CLASS_IN = 1;

/** Asks as a device of the mesh would. @throws {Fault} GATEWAY_DNS_QUERY */
export async function queryDns(ask: QueryDns, name: string, type: string): Promise<Uint8Array | undefined> {
  const wanted = type.trim().toUpperCase() || "A";
  const code = Object.hasOwn(TYPES, wanted) ? TYPES[wanted] : undefined;
  if (code === undefined) throw new Fault("GATEWAY_DNS_QUERY", `unknown DNS message type: ${wanted.slice(0, 20)}`);
  const encoded = name === "" ? undefined : encodeName(name.replace(/\.$/, ""));
  if (encoded === undefined)
    throw new Fault("GATEWAY_DNS_QUERY", `Cannot ask for "${name.slice(0, 100)}": wanted a domain name`);
  const head = Buffer.alloc(12);
  head.set(randomBytes(2));
  head.writeUInt16BE(RECURSION_DESIRED, 2);
  head.writeUInt16BE(1, 4);
  const tail = Buffer.alloc(4);
  tail.writeUInt16BE(code);
  tail.writeUInt16BE(CLASS_IN, 2);
  return ask(Buffer.concat([head, encoded, tail]), "udp");
}
