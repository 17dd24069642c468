/** RFC 792 and RFC 4443: both begin alike, and echo has the same body. */
export const ICMP = { type: 0, code: 1, checksum: 2, id: 4, sequence: 6, end: 8 } as const;

/** Next-hop MTU: the second half of the rest-of-header in IPv4 (RFC 1191), all of it in IPv6. */
export const ICMP_MTU = { ipv4: 6, ipv6: 4 } as const;

export const ICMPV4_TYPE = { echoReply: 0, unreachable: 3, echo: 8 } as const;
export const ICMPV6_TYPE = { unreachable: 1, packetTooBig: 2, echo: 128, echoReply: 129 } as const;

export const ICMPV4_CODE = { portUnreachable: 3, fragmentationNeeded: 4 } as const;
export const ICMPV6_CODE = { portUnreachable: 4 } as const;
