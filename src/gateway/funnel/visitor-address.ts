import { type Prefix, parseAddress, prefixContains, prefixes } from "../../base/address.ts";
import { embedded } from "../../base/embedded-address.ts";

/** Where nobody on the Internet is: tailnets, "this network", link-local, multicast and what lies behind it, and what IPv6 gave up. */
const NOBODY = prefixes(
  "100.64.0.0/10",
  "fd7a:115c:a1e0::/48",
  "0.0.0.0/8",
  "169.254.0.0/16",
  "fe80::/10",
  "224.0.0.0/3",
  "ff00::/8",
  "::/96", // IPv4-compatible (RFC 4291 section 2.5.5.1)
  "::ffff:0:0:0/96", // IPv4-translated (RFC 2765)
);
const LOOPBACK = prefixes("127.0.0.0/8", "::1/128");

/** May a relay say that this is its visitor? A private network may have a relay of its own; nobody calls from a mesh (FN-7). */
export function isBelievableVisitor(address: string, allowsLoopback: boolean): boolean {
  const bytes = parseAddress(address);
  if (bytes === undefined) return false;
  const isAmong = (list: readonly Prefix[], one: Uint8Array): boolean =>
    list.some((prefix) => prefixContains(prefix, one));
  if (isAmong(LOOPBACK, bytes)) return allowsLoopback;
  if (isAmong(NOBODY, bytes)) return false;
  // Who reads out the address within must not find one of the mesh.
  return !embedded(bytes).some((within) => isAmong(NOBODY, within) || isAmong(LOOPBACK, within));
}
