import { type AddressBytes, prefixContains, prefixes } from "../base/address.ts";

/** Where nodes have their addresses from (upstream `net/tsaddr`: `CGNATRange`, `TailscaleULARange`). */
const MESH = prefixes("100.64.0.0/10", "fd7a:115c:a1e0::/48");

/** Each node's own DNS server, and a gateway's for its WireGuard members; nobody has it (upstream `tsaddr.TailscaleServiceIP`). */
export const SERVICE_ADDRESS = "100.100.100.100";

/** Is it one that a node may have, and nobody on the Internet? */
export function isMeshAddress(address: AddressBytes): boolean {
  return MESH.some((prefix) => prefixContains(prefix, address));
}
