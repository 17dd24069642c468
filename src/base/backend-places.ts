import { type AddressBytes, type Prefix, parseAddress, prefixContains, prefixes, withoutBrackets } from "./address.ts";
import { embedded, isLoopback6 } from "./embedded-address.ts";

/** Where no backend is, and something that hands out a machine's own credentials may be (RT-8). */
const NO_BACKENDS: readonly (readonly [what: string, prefixes: readonly Prefix[]])[] = [
  ["an address of no machine", prefixes("0.0.0.0/8", "::/128")],
  ["link-local, where clouds keep the machine's own secrets", prefixes("169.254.0.0/16", "fe80::/10")],
  ["multicast or broadcast", prefixes("224.0.0.0/3", "ff00::/8")],
  [
    "a cloud's metadata service",
    // Of Amazon by IPv6, Google by IPv6, Azure, Oracle and Alibaba.
    prefixes("fd00:ec2::254", "fd20:ce::254", "168.63.129.16", "192.0.0.192", "100.100.100.200"),
  ],
];

/** As the system's resolver takes it: `2852039166`, `0xa9fe.43518` and full-width digits are addresses, too. */
export function asDialled(host: string): string {
  const found = /[/?#@\\:]/.test(host) ? undefined : URL.parse(`http://${host}`)?.hostname;
  return found !== undefined && parseAddress(found) !== undefined ? found : host;
}

/** Why there can be no backend at this address; `undefined` when there may be one, or it is a name. */
export function noBackendAt(host: string): string | undefined {
  const bytes = parseAddress(withoutBrackets(host).replace(/%.*$/, ""));
  if (bytes === undefined) return undefined;
  return [bytes, ...embedded(bytes)].map(reasonAgainst).find((reason) => reason !== undefined);
}

/** `0.0.0.0` and `::` in a target mean this machine to its kernel: something else listens there than was meant to. */
export function isUnspecified(host: string): boolean {
  const bytes = parseAddress(withoutBrackets(host));
  return bytes?.every((byte) => byte === 0) === true;
}

/** Does this host, a name or an address, always mean the machine that asks? Other names may lead here, too. */
export function isThisMachine(host: string): boolean {
  const plain = host.replace(/^\[|\]$/g, "").replace(/\.$/, "");
  if (/^(?:.*\.)?localhost$/i.test(plain) || isUnspecified(plain)) return true;
  const bytes = parseAddress(plain);
  return bytes !== undefined && (isLoopback6(bytes) || [bytes, ...embedded(bytes)].some(isLoopback4));
}

function isLoopback4(bytes: AddressBytes): boolean {
  return bytes.length === 4 && bytes[0] === 127;
}

function reasonAgainst(bytes: AddressBytes): string | undefined {
  if (bytes.every((byte) => byte === 0)) return undefined; // means this machine: said loudly, not refused
  return NO_BACKENDS.find(([, prefixes]) => prefixes.some((prefix) => prefixContains(prefix, bytes)))?.[0];
}
