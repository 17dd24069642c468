import type { Duplex } from "node:stream";

/**
 * Writes many small frames to a stream. Those of one turn leave together: one write, and over TLS one record, instead of
 * one for each.
 */
export class FrameWriter {
  readonly #stream: Duplex;
  readonly #mostBytes: number;
  #isCorked = false;

  constructor(stream: Duplex, mostBytes: number) {
    this.#stream = stream;
    this.#mostBytes = mostBytes;
  }

  /** So much waits that nothing should come before the stream's `drain`. */
  get isFull(): boolean {
    // A stream that asks for no drain will not tell of one.
    return this.#stream.writableLength >= this.#mostBytes && this.#stream.writableNeedDrain;
  }

  write(frame: Uint8Array): void {
    if (this.#stream.destroyed || this.#stream.writableEnded) return;
    if (!this.#isCorked) {
      this.#isCorked = true;
      this.#stream.cork();
      process.nextTick(() => {
        this.#isCorked = false;
        this.#stream.uncork();
      });
    }
    this.#stream.write(frame);
  }
}
