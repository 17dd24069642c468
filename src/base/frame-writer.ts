import type { Duplex } from "node:stream";

/** Upstream's depth of a DERP queue; below, kernel buffers that Node does not use as Go does are made up for. */
const QUEUE_FRAMES = 32;
const QUEUE_BYTES = 256 * 1024;

/** Frames that wait for room. Bounded by both limits together: over them the oldest is dropped. */
export class FrameQueue {
  readonly #frames: Uint8Array[] = [];
  #bytes = 0;
  /** Frames lost because the queue was full. */
  dropped = 0;

  get length(): number {
    return this.#frames.length;
  }

  push(frame: Uint8Array): void {
    while (this.#frames.length >= QUEUE_FRAMES && this.#bytes + frame.length > QUEUE_BYTES) {
      this.shift();
      this.dropped++;
    }
    this.#frames.push(frame);
    this.#bytes += frame.length;
  }

  shift(): Uint8Array | undefined {
    const frame = this.#frames.shift();
    this.#bytes -= frame?.length ?? 0;
    return frame;
  }

  clear(): void {
    this.#frames.length = 0;
    this.#bytes = 0;
  }
}

/**
 * Writes many small frames to a stream. Those of one turn leave together: one write, and over TLS one record, instead of
 * one for each.
 */
export class FrameWriter {
  readonly #stream: Duplex;
  #isCorked = false;

  constructor(stream: Duplex) {
    this.#stream = stream;
  }

  /** False: nothing more before the stream's `drain`. */
  write(frame: Uint8Array): boolean {
    const stream = this.#stream;
    if (stream.destroyed || stream.writableEnded) return true;
    if (!this.#isCorked) {
      this.#isCorked = true;
      stream.cork();
      process.nextTick(() => {
        this.#isCorked = false;
        stream.uncork();
      });
    }
    return stream.write(frame);
  }
}
