import { type Prefix, parseAddress, parsePrefix, prefixContains } from "../base/address.ts";

const prefixes = (...texts: readonly string[]): readonly Prefix[] => texts.map((text) => parsePrefix(text)!);

/** Where nobody on the Internet is: tailnets, "this network", link-local, multicast and what lies behind it. */
const NOBODY = prefixes(
  "100.64.0.0/10",
  "fd7a:115c:a1e0::/48",
  "0.0.0.0/8",
  "::/128",
  "169.254.0.0/16",
  "fe80::/10",
  "224.0.0.0/3",
  "ff00::/8",
);
const LOOPBACK = prefixes("127.0.0.0/8", "::1/128");

/** May a relay say that this is its visitor? A private network may have a relay of its own; nobody calls from a mesh (FN-7). */
export function isBelievableVisitor(address: string, allowsLoopback: boolean): boolean {
  const bytes = parseAddress(address);
  if (bytes === undefined) return false;
  const isAmong = (list: readonly Prefix[]): boolean => list.some((prefix) => prefixContains(prefix, bytes));
  return !isAmong(NOBODY) && (allowsLoopback || !isAmong(LOOPBACK));
}
