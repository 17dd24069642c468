/** Framing of map streams: u32 little-endian length, then one zstd frame or JSON (control-protocol 4.3). */
import { zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { concatBytes } from "../base/bytes.ts";
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

/** Reads one side of a map stream; each `push` gives the messages that it completed. Throws a `Fault` at nonsense. */
export class MapFrameReader {
  #parts: Uint8Array[] = [];
  #buffered = 0;
  #wanted = LENGTH;

  /** Bytes of an unfinished frame: not 0 at the end of a stream means that it was cut. */
  get pending(): number {
    return this.#buffered;
  }

  *push(chunk: Uint8Array): Generator<MapResponse> {
    this.#parts.push(chunk);
    this.#buffered += chunk.length;
    while (this.#buffered >= this.#wanted) {
      const bytes = this.#parts.length === 1 ? this.#parts[0]! : concatBytes(...this.#parts);
      const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
      if (length === 0 || length > LARGEST_FRAME) {
        throw new Fault(
          "CONTROL_BAD_MAP",
          `Cannot read the map stream: found a frame of ${length} bytes, wanted 1 to ${LARGEST_FRAME}`,
        );
      }
      this.#wanted = LENGTH + length;
      if (bytes.length < this.#wanted) {
        this.#parts = [bytes];
        return;
      }
      const rest = bytes.slice(this.#wanted);
      const body = bytes.subarray(LENGTH, this.#wanted);
      this.#parts = rest.length === 0 ? [] : [rest];
      this.#buffered = rest.length;
      this.#wanted = LENGTH;
      yield decodeMapBody(body);
    }
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
