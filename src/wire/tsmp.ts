import { createIpView, ipHeaderLength, read16, readIp, write16, writeIpHeader } from "./ip.ts";

/** Tailscale's own messages inside the tunnel (upstream `net/packet/tsmp.go`): IP protocol 99, a type, a body. */
export const TSMP_PROTOCOL = 99;
/** What a ping carries and its pong repeats. */
export const TSMP_PING_BYTES = 8;

const TYPE = { ping: 0x70, pong: 0x6f, reject: 0x21 } as const;
const REASON = { acl: 0x41, shields: 0x53 } as const;
const view = createIpView();

/**
 * The whole IP packet that answers a TSMP ping in `length` bytes of `slab` at `offset`; `undefined` for anything else.
 * Pong: type, the ping's 8 bytes, peerapi port u16 big-endian (0 = none).
 */
export function pongFor(slab: Uint8Array, offset: number, length: number, peerApiPort: number): Uint8Array | undefined {
  if (!readTsmp(slab, offset, length, TYPE.ping, TSMP_PING_BYTES)) return undefined;
  const { payload, source, destination, addressLength } = view;
  const body = new Uint8Array(1 + TSMP_PING_BYTES + 2);
  body[0] = TYPE.pong;
  body.set(slab.subarray(payload + 1, payload + 1 + TSMP_PING_BYTES), 1);
  write16(body, 1 + TSMP_PING_BYTES, peerApiPort);
  const ours = slab.subarray(destination, destination + addressLength);
  return encodeTsmp(ours, slab.subarray(source, source + addressLength), body);
}

/** A ping as a whole IP packet; `data` has 8 bytes. */
export function encodeTsmpPing(source: Uint8Array, destination: Uint8Array, data: Uint8Array): Uint8Array {
  const body = new Uint8Array(1 + TSMP_PING_BYTES);
  body[0] = TYPE.ping;
  body.set(data, 1);
  return encodeTsmp(source, destination, body);
}

/** What a pong repeats of its ping, and the sender's peerapi port (0 = none); `undefined` for anything else. */
export function readTsmpPong(
  slab: Uint8Array,
  offset: number,
  length: number,
): { readonly data: Uint8Array; readonly peerApiPort: number } | undefined {
  if (!readTsmp(slab, offset, length, TYPE.pong, TSMP_PING_BYTES)) return undefined;
  const { payload, payloadLength } = view;
  const end = payload + 1 + TSMP_PING_BYTES;
  return {
    data: slab.slice(payload + 1, end),
    peerApiPort: payloadLength >= 1 + TSMP_PING_BYTES + 2 ? read16(slab, end) : 0,
  };
}

/**
 * Tells the sender of a TCP or UDP packet why it was not let in: rejected protocol, reason, its two ports. `undefined`
 * when `packet` shows no ports.
 */
export function encodeTsmpReject(packet: Uint8Array, reason: keyof typeof REASON): Uint8Array | undefined {
  if (!readIp(packet, 0, packet.length, view) || view.isFragment || view.payloadLength < 4) return undefined;
  const { protocol, payload, source, destination, addressLength } = view;
  const body = new Uint8Array(7);
  body.set([TYPE.reject, protocol, REASON[reason]]);
  body.set(packet.subarray(payload, payload + 4), 3);
  const ours = packet.subarray(destination, destination + addressLength);
  return encodeTsmp(ours, packet.subarray(source, source + addressLength), body);
}

function readTsmp(slab: Uint8Array, offset: number, length: number, type: number, bodyBytes: number): boolean {
  if (!readIp(slab, offset, length, view) || view.protocol !== TSMP_PROTOCOL || view.isFragment) return false;
  return view.payloadLength >= 1 + bodyBytes && slab[view.payload] === type;
}

function encodeTsmp(source: Uint8Array, destination: Uint8Array, body: Uint8Array): Uint8Array {
  const start = ipHeaderLength(source);
  const packet = new Uint8Array(start + body.length);
  writeIpHeader(packet, source, destination, TSMP_PROTOCOL, body.length);
  packet.set(body, start);
  return packet;
}
