import { crc32 } from "node:zlib";
import { type AddressPort, formatAddress, parseAddress } from "../base/address.ts";

/** RFC 8489 §5: type 2, length 2, magic cookie 4, transaction 12. */
const OFFSET = { type: 0, length: 2, cookie: 4, tx: 8, attributes: 20 } as const;
const COOKIE: readonly number[] = [0x21, 0x12, 0xa4, 0x42];
const BINDING_REQUEST = 0x0001;
const BINDING_SUCCESS = 0x0101;
const ATTRIBUTE = {
  mapped: 0x0001,
  xorMapped: 0x0020,
  xorMappedOld: 0x8020,
  software: 0x8022,
  fingerprint: 0x8028,
} as const;
const FINGERPRINT_MASK = 0x5354554e;
/** Stock servers answer only requests that say so (upstream `net/stun/stun.go`). */
const SOFTWARE = "tailnode";
const REQUEST_BYTES = 40;

export const STUN_TX_BYTES = 12;

function isStun(datagram: Uint8Array): boolean {
  if (datagram.length < OFFSET.attributes || (datagram[0]! & 0xc0) !== 0) return false;
  return COOKIE.every((byte, i) => datagram[OFFSET.cookie + i] === byte);
}

/** Whether the `length` bytes at `offset` are a STUN answer, so neither disco nor WireGuard. */
export function looksLikeStunAnswer(slab: Uint8Array, offset: number, length: number): boolean {
  if (length < OFFSET.attributes || (slab[offset]! & 0xc0) !== 0 || slab[offset + 1] !== 0x01) return false;
  for (let i = 0; i < COOKIE.length; i++) if (slab[offset + OFFSET.cookie + i] !== COOKIE[i]) return false;
  return slab[offset] === 0x01;
}

export function encodeStunRequest(tx: Uint8Array): Uint8Array {
  const datagram = new Uint8Array(REQUEST_BYTES);
  const view = new DataView(datagram.buffer);
  view.setUint16(OFFSET.type, BINDING_REQUEST);
  view.setUint16(OFFSET.length, REQUEST_BYTES - OFFSET.attributes);
  datagram.set(COOKIE, OFFSET.cookie);
  datagram.set(tx, OFFSET.tx);
  view.setUint16(20, ATTRIBUTE.software);
  view.setUint16(22, SOFTWARE.length);
  datagram.set(new TextEncoder().encode(SOFTWARE), 24);
  view.setUint16(32, ATTRIBUTE.fingerprint);
  view.setUint16(34, 4);
  view.setUint32(36, (crc32(datagram.subarray(0, 32)) ^ FINGERPRINT_MASK) >>> 0);
  return datagram;
}

/** The transaction of a binding request whose last attribute is a right fingerprint; else `undefined`: no answer. */
export function decodeStunRequest(datagram: Uint8Array): Uint8Array | undefined {
  if (!isStun(datagram)) return undefined;
  const view = new DataView(datagram.buffer, datagram.byteOffset, datagram.length);
  if (view.getUint16(OFFSET.type) !== BINDING_REQUEST) return undefined;
  if (view.getUint16(OFFSET.length) !== datagram.length - OFFSET.attributes) return undefined;
  let last: { type: number; at: number } | undefined;
  for (const attribute of attributes(datagram)) last = attribute;
  if (last?.type !== ATTRIBUTE.fingerprint || last.at + 8 !== datagram.length) return undefined;
  const wanted = (crc32(datagram.subarray(0, last.at)) ^ FINGERPRINT_MASK) >>> 0;
  if (view.getUint16(last.at + 2) !== 4 || view.getUint32(last.at + 4) !== wanted) return undefined;
  return datagram.slice(OFFSET.tx, OFFSET.attributes);
}

/** The answer to a request that came from `source`: one XOR-MAPPED-ADDRESS. */
export function encodeStunAnswer(tx: Uint8Array, source: AddressPort): Uint8Array | undefined {
  const address = parseAddress(source.address);
  if (address === undefined) return undefined;
  const datagram = new Uint8Array(OFFSET.attributes + 8 + address.length);
  const view = new DataView(datagram.buffer);
  view.setUint16(OFFSET.type, BINDING_SUCCESS);
  view.setUint16(OFFSET.length, 8 + address.length);
  datagram.set(COOKIE, OFFSET.cookie);
  datagram.set(tx, OFFSET.tx);
  view.setUint16(20, ATTRIBUTE.xorMapped);
  view.setUint16(22, 4 + address.length);
  datagram[25] = address.length === 4 ? 1 : 2;
  view.setUint16(26, source.port ^ 0x2112);
  address.forEach((byte, i) => {
    datagram[28 + i] = byte ^ datagram[OFFSET.cookie + i]!; // cookie, then transaction: they stand side by side
  });
  return datagram;
}

export interface StunAnswer {
  readonly tx: Uint8Array;
  /** Where the server saw us. */
  readonly mapped: AddressPort;
}

export function decodeStunAnswer(datagram: Uint8Array): StunAnswer | undefined {
  if (!isStun(datagram)) return undefined;
  const view = new DataView(datagram.buffer, datagram.byteOffset, datagram.length);
  if (view.getUint16(OFFSET.type) !== BINDING_SUCCESS) return undefined;
  let plain: AddressPort | undefined;
  for (const { type, at, length } of attributes(datagram)) {
    const isXored = type === ATTRIBUTE.xorMapped || type === ATTRIBUTE.xorMappedOld;
    if (!isXored && type !== ATTRIBUTE.mapped) continue;
    const mapped = decodeMapped(datagram, at + 4, length, isXored);
    if (mapped === undefined) continue;
    if (isXored) return { tx: datagram.slice(OFFSET.tx, OFFSET.attributes), mapped };
    plain ??= mapped;
  }
  return plain === undefined ? undefined : { tx: datagram.slice(OFFSET.tx, OFFSET.attributes), mapped: plain };
}

function decodeMapped(datagram: Uint8Array, at: number, length: number, isXored: boolean): AddressPort | undefined {
  const family = datagram[at + 1];
  const bytes = family === 1 ? 4 : family === 2 ? 16 : 0;
  if (bytes === 0 || length !== 4 + bytes) return undefined;
  const address = datagram.slice(at + 4, at + 4 + bytes);
  let port = (datagram[at + 2]! << 8) | datagram[at + 3]!;
  if (isXored) {
    port ^= 0x2112;
    address.forEach((byte, i) => {
      address[i] = byte ^ datagram[OFFSET.cookie + i]!;
    });
  }
  return { address: formatAddress(parseAddress(formatAddress(address))!), port };
}

/** Attributes that lie whole within the datagram; values are padded to 4 bytes. */
function* attributes(datagram: Uint8Array): Generator<{ type: number; at: number; length: number }> {
  const view = new DataView(datagram.buffer, datagram.byteOffset, datagram.length);
  for (let at: number = OFFSET.attributes; at + 4 <= datagram.length; ) {
    const length = view.getUint16(at + 2);
    if (at + 4 + length > datagram.length) return;
    yield { type: view.getUint16(at), at, length };
    at += 4 + ((length + 3) & ~3);
  }
}
