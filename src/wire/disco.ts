import { type AddressPort, formatAddress, parseAddress } from "../base/address.ts";

/** Disco framing, as upstream `disco/disco.go`: magic 6, sender's disco key 32, nonce 24, NaCl box. */
export const DISCO = { key: 6, nonce: 38, box: 62 } as const;

/** Smallest datagram that is worth opening: header, Poly1305 tag, type and version. */
const SMALLEST_BYTES: number = DISCO.box + 16 + 2;
const MAGIC: readonly number[] = [0x54, 0x53, 0xf0, 0x9f, 0x92, 0xac];
const TYPE = { ping: 1, pong: 2, callMeMaybe: 3 } as const;
const TX_BYTES = 12;
const KEY_BYTES = 32;
const ENDPOINT_BYTES = 18;
/** Upstream sends a handful; what is more is not read. */
const MOST_ENDPOINTS = 64;

export type DiscoMessage =
  | { readonly kind: "ping"; readonly tx: Uint8Array; readonly nodeKey: Uint8Array | undefined }
  | { readonly kind: "pong"; readonly tx: Uint8Array; readonly source: AddressPort }
  | { readonly kind: "callMeMaybe"; readonly endpoints: readonly AddressPort[] };

/** Whether the `length` bytes at `offset` begin like a disco datagram. */
export function looksLikeDisco(slab: Uint8Array, offset: number, length: number): boolean {
  if (length < DISCO.box) return false;
  for (let i = 0; i < MAGIC.length; i++) if (slab[offset + i] !== MAGIC[i]) return false;
  return true;
}

/** Geneve of a peer relay (upstream `net/packet/geneve.go`): protocol 0x7A11 or 0x7A12, which no other kind has there. */
export function looksLikeGeneve(slab: Uint8Array, offset: number, length: number): boolean {
  if (length < 8 || (slab[offset]! & 0xc0) !== 0 || (slab[offset + 1]! & 0x3f) !== 0 || slab[offset + 7] !== 0)
    return false;
  return slab[offset + 2] === 0x7a && (slab[offset + 3] === 0x11 || slab[offset + 3] === 0x12);
}

export interface DiscoFrame {
  readonly senderKey: Uint8Array;
  readonly nonce: Uint8Array;
  readonly box: Uint8Array;
}

/** Views of the parts. `undefined` when the datagram is too short or lacks the magic. */
export function decodeDiscoFrame(datagram: Uint8Array): DiscoFrame | undefined {
  if (datagram.length < SMALLEST_BYTES || !looksLikeDisco(datagram, 0, datagram.length)) return undefined;
  return {
    senderKey: datagram.subarray(DISCO.key, DISCO.nonce),
    nonce: datagram.subarray(DISCO.nonce, DISCO.box),
    box: datagram.subarray(DISCO.box),
  };
}

export function encodeDiscoFrame({ senderKey, nonce, box }: DiscoFrame): Uint8Array {
  const datagram = new Uint8Array(DISCO.box + box.length);
  datagram.set(MAGIC);
  datagram.set(senderKey, DISCO.key);
  datagram.set(nonce, DISCO.nonce);
  datagram.set(box, DISCO.box);
  return datagram;
}

/** What is inside the box. `undefined` for malformed messages and for types we do not know, which are not answered. */
export function decodeDiscoMessage(plain: Uint8Array): DiscoMessage | undefined {
  const body = plain.subarray(2);
  switch (plain[0]) {
    case TYPE.ping: {
      if (body.length < TX_BYTES) return undefined;
      const hasKey = body.length >= TX_BYTES + KEY_BYTES;
      const nodeKey = hasKey ? body.slice(TX_BYTES, TX_BYTES + KEY_BYTES) : undefined;
      return { kind: "ping", tx: body.slice(0, TX_BYTES), nodeKey };
    }
    case TYPE.pong:
      if (body.length < TX_BYTES + ENDPOINT_BYTES) return undefined;
      return { kind: "pong", tx: body.slice(0, TX_BYTES), source: decodeEndpoint(body, TX_BYTES) };
    case TYPE.callMeMaybe: {
      const isWhole = body.length % ENDPOINT_BYTES === 0; // upstream reads any other length as an empty list
      const count = isWhole ? Math.min(body.length / ENDPOINT_BYTES, MOST_ENDPOINTS) : 0;
      return {
        kind: "callMeMaybe",
        endpoints: Array.from({ length: count }, (_, i) => decodeEndpoint(body, i * ENDPOINT_BYTES)),
      };
    }
    default:
      return undefined;
  }
}

export function encodeDiscoMessage(message: DiscoMessage): Uint8Array {
  switch (message.kind) {
    case "ping": {
      const plain = new Uint8Array(2 + TX_BYTES + (message.nodeKey === undefined ? 0 : KEY_BYTES));
      plain[0] = TYPE.ping;
      plain.set(message.tx, 2);
      if (message.nodeKey !== undefined) plain.set(message.nodeKey, 2 + TX_BYTES);
      return plain;
    }
    case "pong": {
      const plain = new Uint8Array(2 + TX_BYTES + ENDPOINT_BYTES);
      plain[0] = TYPE.pong;
      plain.set(message.tx, 2);
      encodeEndpoint(message.source, plain, 2 + TX_BYTES);
      return plain;
    }
    case "callMeMaybe": {
      const endpoints = message.endpoints.slice(0, MOST_ENDPOINTS);
      const plain = new Uint8Array(2 + endpoints.length * ENDPOINT_BYTES);
      plain[0] = TYPE.callMeMaybe;
      endpoints.forEach((endpoint, i) => void encodeEndpoint(endpoint, plain, 2 + i * ENDPOINT_BYTES));
      return plain;
    }
  }
}

/** 16 bytes of address (IPv4 as `::ffff:a.b.c.d`), then the port. */
function encodeEndpoint({ address, port }: AddressPort, into: Uint8Array, at: number): void {
  const bytes = parseAddress(address) ?? new Uint8Array(16);
  if (bytes.length === 4) {
    into.fill(0xff, at + 10, at + 12);
    into.set(bytes, at + 12);
  } else {
    into.set(bytes, at);
  }
  into[at + 16] = port >> 8;
  into[at + 17] = port;
}

function decodeEndpoint(from: Uint8Array, at: number): AddressPort {
  const isMapped =
    from.subarray(at, at + 10).every((byte) => byte === 0) && from[at + 10] === 255 && from[at + 11] === 255;
  const address = formatAddress(from.subarray(isMapped ? at + 12 : at, at + 16));
  return { address, port: (from[at + 16]! << 8) | from[at + 17]! };
}
