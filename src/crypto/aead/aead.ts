/**
 * ChaCha20-Poly1305 (RFC 8439) without associated data, in place, as WireGuard's transport packets need it.
 * The nonce is 4 zero bytes and the counter, little-endian, given as two unsigned 32-bit halves: exact up to 2^64.
 */
export interface Aead {
  readonly name: string;
  /** Encrypts `length` bytes at `offset` and writes the tag behind them: `length + TAG_BYTES` bytes are touched. */
  seal(key: Uint8Array, low: number, high: number, slab: Uint8Array, offset: number, length: number): void;
  /** Decrypts `length` bytes, tag included. False: not authentic, and the bytes there are now undefined. */
  open(key: Uint8Array, low: number, high: number, slab: Uint8Array, offset: number, length: number): boolean;
}

export const TAG_BYTES = 16;
export const NONCE_BYTES = 12;

export function writeNonce(nonce: Uint8Array, low: number, high: number): void {
  nonce[4] = low;
  nonce[5] = low >>> 8;
  nonce[6] = low >>> 16;
  nonce[7] = low >>> 24;
  nonce[8] = high;
  nonce[9] = high >>> 8;
  nonce[10] = high >>> 16;
  nonce[11] = high >>> 24;
}
