/** First byte of a message; the next three are zero. WireGuard paper section 5.4. */
export const MESSAGE = { initiation: 1, response: 2, cookieReply: 3, data: 4 } as const;

export const INITIATION = {
  sender: 4,
  ephemeral: 8,
  static: 40,
  timestamp: 88,
  mac1: 116,
  mac2: 132,
  end: 148,
} as const;

export const RESPONSE = {
  sender: 4,
  receiver: 8,
  ephemeral: 12,
  empty: 44,
  mac1: 60,
  mac2: 76,
  end: 92,
} as const;

export const COOKIE_REPLY = { receiver: 4, nonce: 8, cookie: 32, end: 64 } as const;

/** `content` is the encrypted packet and its 16-byte tag, so an empty packet (keepalive) makes 32 bytes. */
export const DATA = { receiver: 4, counter: 8, content: 16, smallest: 32 } as const;

export const TIMESTAMP_BYTES = 12;

/** The type of a datagram whose length and reserved bytes are right for it; `undefined` for anything else. */
export function messageType(slab: Uint8Array, offset: number, length: number): 1 | 2 | 3 | 4 | undefined {
  if (length < DATA.smallest || (slab[offset + 1]! | slab[offset + 2]! | slab[offset + 3]!) !== 0) return undefined;
  switch (slab[offset]) {
    case MESSAGE.data:
      return MESSAGE.data;
    case MESSAGE.initiation:
      return length === INITIATION.end ? MESSAGE.initiation : undefined;
    case MESSAGE.response:
      return length === RESPONSE.end ? MESSAGE.response : undefined;
    case MESSAGE.cookieReply:
      return length === COOKIE_REPLY.end ? MESSAGE.cookieReply : undefined;
    default:
      return undefined;
  }
}

/** Unsigned, little-endian, as all numbers of WireGuard. */
export function readU32(slab: Uint8Array, at: number): number {
  return (slab[at]! | (slab[at + 1]! << 8) | (slab[at + 2]! << 16) | (slab[at + 3]! << 24)) >>> 0;
}

export function writeU32(slab: Uint8Array, at: number, value: number): void {
  slab[at] = value;
  slab[at + 1] = value >>> 8;
  slab[at + 2] = value >>> 16;
  slab[at + 3] = value >>> 24;
}

/** TAI64N (https://cr.yp.to/libtai/tai64.html): compares as bytes in the order of time. */
export function encodeTimestamp(wallMs: number, extraNanoseconds = 0): Uint8Array {
  const bytes = new Uint8Array(TIMESTAMP_BYTES);
  const view = new DataView(bytes.buffer);
  const seconds = Math.floor(wallMs / 1000);
  view.setBigUint64(0, 0x400000000000000an + BigInt(seconds));
  view.setUint32(8, Math.floor(wallMs - seconds * 1000) * 1_000_000 + extraNanoseconds);
  return bytes;
}
