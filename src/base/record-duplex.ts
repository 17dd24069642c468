import type { Duplex } from "node:stream";
import { concatBytes } from "./bytes.ts";
import { Fault } from "./fault.ts";
import { SocketDuplex } from "./socket-duplex.ts";

/** Bounded records on a byte stream: a header that tells the body's length, then the body. */
export interface RecordCodec {
  readonly headerBytes: number;
  readonly largestPlaintext: number;
  /** Length of the body that a whole header announces. Throws a `Fault` for a header that is none. */
  bodyLength(header: Uint8Array): number;
  /** A whole record, header included. Throws a `Fault` when no more can be sealed. */
  seal(plaintext: Uint8Array): Uint8Array;
  /** Throws a `Fault` for a body that does not open. An empty result is skipped. */
  open(body: Uint8Array): Uint8Array;
}

/**
 * A byte stream inside records of another byte stream. Any trouble with a record ends it in both directions, for good:
 * counters would be out of step. The end of one direction ends both (as http2 on a
 * half-closed JavaScript stream fails an assertion of Node's, js_stream_socket); inside a record it is a fault.
 */
export class RecordDuplex extends SocketDuplex {
  readonly #inner: Duplex;
  readonly #codec: RecordCodec;
  #pending: Uint8Array = new Uint8Array(0);

  /** `head`: bytes of `inner` that somebody has read already. */
  constructor(inner: Duplex, codec: RecordCodec, head: Uint8Array = new Uint8Array(0)) {
    super({ allowHalfOpen: true });
    this.#inner = inner;
    this.#codec = codec;
    inner.on("data", (chunk: Buffer) => this.#receive(chunk));
    inner.on("end", () => this.#ended());
    inner.on("error", (error) => this.destroy(error));
    inner.on("close", () => this.destroy());
    if (head.length > 0) queueMicrotask(() => this.#receive(head));
  }

  #receive(chunk: Uint8Array): void {
    if (this.destroyed) return;
    this.#pending = this.#pending.length === 0 ? chunk : concatBytes(this.#pending, chunk);
    this.#inner.pause(); // before any push: a reader may ask for more from inside it
    try {
      if (this.#drainRecords()) this.#inner.resume();
    } catch (error) {
      this.destroy(error instanceof Error ? error : new Error(String(error)));
    }
  }

  /** Delivers every whole record; `false` when the reader has enough for now. */
  #drainRecords(): boolean {
    const { headerBytes } = this.#codec;
    let offset = 0;
    let isWanted = true;
    while (this.#pending.length - offset >= headerBytes) {
      const bodyStart = offset + headerBytes;
      const bodyEnd = bodyStart + this.#codec.bodyLength(this.#pending.subarray(offset, bodyStart));
      if (this.#pending.length < bodyEnd) break;
      const plaintext = this.#codec.open(this.#pending.subarray(bodyStart, bodyEnd));
      if (plaintext.length > 0) isWanted = this.push(plaintext);
      offset = bodyEnd;
    }
    this.#pending = this.#pending.slice(offset);
    return isWanted;
  }

  #ended(): void {
    if (this.#pending.length === 0) this.destroy();
    else this.destroy(new Fault("RECORD_CUT", "Cannot read the record: the stream ended inside it, wanted all of it"));
  }

  override _read(): void {
    this.#inner.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    const { largestPlaintext } = this.#codec;
    const records: Uint8Array[] = [];
    try {
      for (let offset = 0; offset < chunk.length; offset += largestPlaintext) {
        records.push(this.#codec.seal(chunk.subarray(offset, offset + largestPlaintext)));
      }
    } catch (error) {
      done(error instanceof Error ? error : new Error(String(error)));
      return;
    }
    this.#inner.write(concatBytes(...records), done);
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#inner.end();
    done();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#pending = new Uint8Array(0);
    this.#inner.destroy();
    done(error);
  }
}
