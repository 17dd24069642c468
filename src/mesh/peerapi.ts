import { crc32 } from "node:zlib";
import type { AddressBytes } from "../base/address.ts";

/**
 * The port of a node's peerapi on one of its addresses, first try (upstream `ipn/ipnlocal/peerapi.go:listen`). IPv4
 * addresses and their 4-in-6 form share the last three bytes, so both families normally have one port.
 */
export function peerApiPort(address: AddressBytes): number {
  return 0x8000 | (crc32(address.subarray(-3)) & 0xffff);
}
