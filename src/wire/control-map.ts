/** Framing of map streams: u32 little-endian length, then one zstd frame or JSON (control-protocol 4.3). */
import { zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { Fault, messageOf } from "../base/fault.ts";
import type { MapResponse } from "./tailcfg.ts";

const LENGTH = 4;
const ZSTD_MAGIC = 0xfd2fb528;
/** Of one frame as it travels, and of one message unpacked: a whole map of 100,000 peers fits, a bomb does not. */
const LARGEST_FRAME = 16 * 1024 * 1024;
const LARGEST_MESSAGE = 64 * 1024 * 1024;

/** Clients of upstream recognise a keep-alive by these exact bytes. */
const KEEP_ALIVE = '{"KeepAlive":true}';

export function encodeMapFrame(response: MapResponse, compression: "zstd" | "none"): Uint8Array {
  const isKeepAlive = response.KeepAlive === true && Object.keys(response).length === 1;
  const text = Buffer.from(isKeepAlive ? KEEP_ALIVE : JSON.stringify(response));
  const body = compression === "zstd" ? zstdCompressSync(text) : text;
  const frame = new Uint8Array(LENGTH + body.length);
  new DataView(frame.buffer).setUint32(0, body.length, true);
  frame.set(body, LENGTH);
  return frame;
}

/**
 * Reads one side of a map stream; each `push` gives the messages that it completed. Throws a `Fault` at nonsense. Holds
 * what has come of one frame, however small the pieces: never what a length promises.
 */
export class MapFrameReader {
  #held: Uint8Array = new Uint8Array(0);
  #length = 0;

  /** Bytes of an unfinished frame: not 0 at the end of a stream means that it was cut. */
  get pending(): number {
    return this.#length;
  }

  *push(chunk: Uint8Array): Generator<MapResponse> {
    this.#append(chunk);
    let at = 0;
    try {
      while (this.#length - at >= LENGTH) {
        const start = at + LENGTH;
        const length = new DataView(this.#held.buffer, at).getUint32(0, true);
        if (length === 0 || length > LARGEST_FRAME) {
          throw new Fault(
            "CONTROL_BAD_MAP",
            `Cannot read the map stream: found a frame of ${length} bytes, wanted 1 to ${LARGEST_FRAME}`,
          );
        }
        if (this.#length - start < length) return;
        at = start + length;
        yield decodeMapBody(this.#held.subarray(start, at));
      }
    } finally {
      this.#drop(at);
    }
  }

  #append(chunk: Uint8Array): void {
    const needed = this.#length + chunk.length;
    if (needed > this.#held.length) {
      const grown = new Uint8Array(Math.max(needed, 2 * this.#length));
      grown.set(this.#held.subarray(0, this.#length));
      this.#held = grown;
    }
    this.#held.set(chunk, this.#length);
    this.#length = needed;
  }

  #drop(taken: number): void {
    this.#length -= taken;
    if (this.#length === 0) this.#held = new Uint8Array(0);
    else this.#held.copyWithin(0, taken, taken + this.#length);
  }
}

function decodeMapBody(body: Uint8Array): MapResponse {
  const isZstd = body.length >= 4 && new DataView(body.buffer, body.byteOffset).getUint32(0, true) === ZSTD_MAGIC;
  let value: unknown;
  try {
    const text = isZstd ? zstdDecompressSync(body, { maxOutputLength: LARGEST_MESSAGE }) : Buffer.from(body);
    value = JSON.parse(text.toString("utf8"));
  } catch (error) {
    throw new Fault("CONTROL_BAD_MAP", `Cannot read the map message: ${messageOf(error)}, wanted JSON`, {
      cause: error,
    });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new Fault("CONTROL_BAD_MAP", `Cannot read the map message: found ${typeof value}, wanted an object`);
  }
  return value;
}
