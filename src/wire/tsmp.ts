import { createIpView, ipHeaderLength, readIp, write16, writeIpHeader } from "./ip.ts";

/** Tailscale's own messages inside the tunnel (upstream `net/packet/tsmp.go`): IP protocol 99, a type, a body. */
export const TSMP_PROTOCOL = 99;

const TYPE = { ping: 0x70, pong: 0x6f } as const;
const PING_BODY_BYTES = 8;
const view = createIpView();

/**
 * The whole IP packet that answers a TSMP ping in `length` bytes of `slab` at `offset`; `undefined` for anything else.
 * Pong: type, the ping's 8 bytes, peerapi port u16 big-endian (0 = none).
 */
export function pongFor(slab: Uint8Array, offset: number, length: number, peerApiPort: number): Uint8Array | undefined {
  if (!readIp(slab, offset, length, view) || view.protocol !== TSMP_PROTOCOL || view.isFragment) return undefined;
  const { payload, payloadLength, source, destination, addressLength } = view;
  if (payloadLength < 1 + PING_BODY_BYTES || slab[payload] !== TYPE.ping) return undefined;
  const from = slab.subarray(destination, destination + addressLength);
  const to = slab.subarray(source, source + addressLength);
  const start = ipHeaderLength(from);
  const bodyBytes = 1 + PING_BODY_BYTES + 2;
  const packet = new Uint8Array(start + bodyBytes);
  writeIpHeader(packet, from, to, TSMP_PROTOCOL, bodyBytes);
  packet[start] = TYPE.pong;
  packet.set(slab.subarray(payload + 1, payload + 1 + PING_BODY_BYTES), start + 1);
  write16(packet, start + 1 + PING_BODY_BYTES, peerApiPort);
  return packet;
}
