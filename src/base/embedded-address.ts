import { type AddressBytes, type Prefix, parsePrefix, prefixContains } from "./address.ts";

/** IPv4 within IPv6: compatible, NAT64 (RFC 6052, RFC 8215), 6to4 (RFC 3056). Where its four bytes begin. */
const EMBEDDINGS: readonly (readonly [prefix: Prefix, at: number])[] = [
  [parsePrefix("::/96")!, 12],
  [parsePrefix("64:ff9b::/96")!, 12],
  [parsePrefix("64:ff9b:1::/48")!, 12],
  [parsePrefix("2002::/16")!, 2],
];

/** IPv4 addresses that stand in one of IPv6: whoever reads them out goes there. `::1` has none. */
export function embedded(bytes: AddressBytes): AddressBytes[] {
  if (bytes.length === 4 || isLoopback6(bytes)) return [];
  return EMBEDDINGS.filter(([prefix]) => prefixContains(prefix, bytes)).map(([, at]) => bytes.subarray(at, at + 4));
}

export function isLoopback6(bytes: AddressBytes): boolean {
  return bytes.length === 16 && bytes.every((byte, i) => byte === (i === 15 ? 1 : 0));
}
