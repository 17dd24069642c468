import { Fault } from "../base/fault.ts";

/** Frame types of upstream `derp/derp.go`, protocol version 2. */
export const DERP = {
  serverKey: 0x01,
  clientInfo: 0x02,
  serverInfo: 0x03,
  sendPacket: 0x04,
  receivePacket: 0x05,
  keepAlive: 0x06,
  notePreferred: 0x07,
  peerGone: 0x08,
  peerPresent: 0x09,
  forwardPacket: 0x0a,
  watchConnections: 0x10,
  closePeer: 0x11,
  ping: 0x12,
  pong: 0x13,
  health: 0x14,
  restarting: 0x15,
} as const;

export const DERP_VERSION = 2;
export const DERP_KEY_BYTES = 32;
/** The largest packet that a server relays. */
export const DERP_PACKET_BYTES = 65_536;
/** The largest frame that a client takes. */
export const DERP_FRAME_BYTES: number = 1 << 20;
/** `PeerGone` reasons. */
export const DERP_GONE = { disconnected: 0, notHere: 1 } as const;

const HEADER_BYTES = 5;
const MAGIC: Uint8Array = Uint8Array.of(0x44, 0x45, 0x52, 0x50, 0xf0, 0x9f, 0x94, 0x91);

/** One frame of `parts`, in a buffer of its own. */
export function encodeDerpFrame(type: number, ...parts: readonly Uint8Array[]): Uint8Array {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  const frame = new Uint8Array(HEADER_BYTES + length);
  frame[0] = type;
  new DataView(frame.buffer).setUint32(1, length);
  let at = HEADER_BYTES;
  for (const part of parts) {
    frame.set(part, at);
    at += part.length;
  }
  return frame;
}

export function encodeDerpServerKey(publicKey: Uint8Array): Uint8Array {
  return encodeDerpFrame(DERP.serverKey, MAGIC, publicKey);
}

/** The server's key; bytes after it are for the future. */
export function decodeDerpServerKey(payload: Uint8Array): Uint8Array | undefined {
  if (payload.length < MAGIC.length + DERP_KEY_BYTES) return undefined;
  if (!MAGIC.every((byte, i) => payload[i] === byte)) return undefined;
  return payload.slice(MAGIC.length, MAGIC.length + DERP_KEY_BYTES);
}

/** Members of ClientInfo and ServerInfo that mean something to us. */
export interface DerpInfo {
  readonly version: number;
  readonly CanAckPings?: boolean;
  readonly IsProber?: boolean;
  readonly TokenBucketBytesPerSecond?: number;
  readonly TokenBucketBytesBurst?: number;
}

export function decodeDerpInfo(plain: Uint8Array): DerpInfo | undefined {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(plain));
  } catch {
    return undefined; // neither UTF-8 nor JSON
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
  const members = value as Readonly<Record<string, unknown>>;
  // Go reads member names without regard to case; upstream writes `version`.
  const version = members["version"] ?? members["Version"];
  const count = (name: string): number | undefined => {
    const member = members[name];
    return typeof member === "number" && Number.isFinite(member) && member > 0 ? member : undefined;
  };
  const rate = count("TokenBucketBytesPerSecond");
  const burst = count("TokenBucketBytesBurst");
  return {
    version: typeof version === "number" ? version : 0,
    CanAckPings: members["CanAckPings"] === true,
    IsProber: members["IsProber"] === true,
    ...(rate === undefined ? {} : { TokenBucketBytesPerSecond: rate }),
    ...(burst === undefined ? {} : { TokenBucketBytesBurst: burst }),
  };
}

/** Cuts a byte stream into frames. Holds at most one frame of `most` bytes. */
export class DerpFrameReader {
  readonly #most: number;
  #held: Uint8Array = new Uint8Array(0);
  #length = 0;

  constructor(most: number) {
    this.#most = most;
  }

  /** `onFrame` gets views that die on return. Throws a `Fault` as soon as a header promises too much. */
  push(bytes: Uint8Array, onFrame: (type: number, payload: Uint8Array) => void): void {
    // Streams give Buffers, whose slice() is no copy: callers shall get plain arrays.
    const chunk = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (this.#length === 0) {
      const taken = this.#cut(chunk, onFrame);
      if (taken < chunk.length) this.#append(chunk.subarray(taken));
      return;
    }
    this.#append(chunk);
    const taken = this.#cut(this.#held.subarray(0, this.#length), onFrame);
    if (taken === 0) return; // nothing is moved for a frame that grows byte by byte
    this.#held.copyWithin(0, taken, this.#length);
    this.#length -= taken;
  }

  #cut(bytes: Uint8Array, onFrame: (type: number, payload: Uint8Array) => void): number {
    let at = 0;
    while (bytes.length - at >= HEADER_BYTES) {
      const length = new DataView(bytes.buffer, bytes.byteOffset + at + 1, 4).getUint32(0);
      if (length > this.#most) {
        throw new Fault(
          "DERP_FRAME_TOO_LONG",
          `Cannot read DERP frame type ${bytes[at]}: ${length} bytes, wanted at most ${this.#most}`,
        );
      }
      if (bytes.length - at - HEADER_BYTES < length) break;
      const start = at + HEADER_BYTES;

      at = start + length;
      onFrame(bytes[start - HEADER_BYTES]!, bytes.subarray(start, at));
    }
    return at;
  }

  #append(bytes: Uint8Array): void {
    const needed = this.#length + bytes.length;
    if (needed > this.#held.length) {
      const grown = new Uint8Array(Math.max(needed, 2 * this.#held.length, 4096));
      grown.set(this.#held.subarray(0, this.#length));
      this.#held = grown;
    }
    this.#held.set(bytes, this.#length);
    this.#length = needed;
  }
}
