import type { Duplex } from "node:stream";
import type { Clock } from "../base/clock.ts";
import { FrameWriter } from "../base/frame-writer.ts";

/** Upstream's depth, for ordinary packets and for disco each. */
const QUEUE_FRAMES = 32;
/** Written, but not yet taken by the system. A burst of one turn has to fit: what does not is lost. */
const WRITTEN_BYTES = 64 * 1024;
const WRITE_TIMEOUT_MS = 2000;

/**
 * Frames on their way to one client. Bounded: the oldest is dropped, so a client that does not read costs nobody else
 * anything. A client that takes nothing for 2 s is given up.
 */
export class ClientQueue {
  readonly #stream: Duplex;
  readonly #writer: FrameWriter;
  readonly #clock: Clock;
  readonly #onStalled: () => void;
  readonly #packets: Uint8Array[] = [];
  readonly #urgent: Uint8Array[] = [];
  #isBlocked = false;
  #cancelTimer: () => void = () => {};
  /** Frames lost to a full queue. */
  dropped = 0;

  constructor(stream: Duplex, clock: Clock, onStalled: () => void) {
    this.#stream = stream;
    this.#writer = new FrameWriter(stream, WRITTEN_BYTES);
    this.#clock = clock;
    this.#onStalled = onStalled;
    stream.on("drain", () => this.#drained());
  }

  /** `isUrgent`: disco and control frames have a queue of their own, so data cannot push them out. */
  push(frame: Uint8Array, isUrgent: boolean): void {
    if (!this.#isBlocked) {
      this.#write(frame);
      return;
    }
    const queue = isUrgent ? this.#urgent : this.#packets;
    if (queue.length >= QUEUE_FRAMES) {
      queue.shift();
      this.dropped++;
    }
    queue.push(frame);
  }

  close(): void {
    this.#cancelTimer();
    this.#isBlocked = true;
    this.#packets.length = 0;
    this.#urgent.length = 0;
  }

  #write(frame: Uint8Array): void {
    this.#writer.write(frame);
    if (!this.#writer.isFull) return;
    this.#isBlocked = true;
    this.#giveUpLater();
  }

  #giveUpLater(): void {
    const waiting = this.#stream.writableLength;
    this.#cancelTimer();
    this.#cancelTimer = this.#clock.at(this.#clock.now() + WRITE_TIMEOUT_MS, () => {
      if (this.#stream.writableLength < waiting) this.#giveUpLater();
      else this.#onStalled();
    });
  }

  #drained(): void {
    this.#cancelTimer();
    this.#isBlocked = false;
    while (!this.#isBlocked) {
      const frame = this.#urgent.shift() ?? this.#packets.shift();
      if (frame === undefined) return;
      this.#write(frame);
    }
  }
}
