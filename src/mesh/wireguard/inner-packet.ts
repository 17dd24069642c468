import { IPV4, IPV6 } from "../../wire/ip.ts";

/** Length of the IP packet in `plain` decrypted bytes, padding left out; 0 when its own length field lies. */
export function innerLength(slab: Uint8Array, start: number, plain: number): number {
  const version = slab[start]! >> 4;
  if (version === 4 && plain >= IPV4.end) {
    const length = word(slab, start + IPV4.totalLength);
    return length >= IPV4.end && length <= plain ? length : 0;
  }
  if (version === 6 && plain >= IPV6.end) {
    const length = word(slab, start + IPV6.payloadLength) + IPV6.end;
    return length <= plain ? length : 0;
  }
  return 0;
}

/** Where the source address stands in the header. */
export function sourceAt(isIpv4: boolean): number {
  return isIpv4 ? IPV4.source : IPV6.source;
}

function word(slab: Uint8Array, at: number): number {
  return (slab[at]! << 8) | slab[at + 1]!;
}
