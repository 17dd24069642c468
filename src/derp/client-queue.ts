import type { Duplex } from "node:stream";
import type { Clock } from "../base/clock.ts";
import { FrameQueue, FrameWriter } from "../base/frame-writer.ts";

const WRITE_TIMEOUT_MS = 2000;

/**
 * Frames on their way to one client. Bounded: the oldest is dropped, so a client that does not read costs nobody else
 * anything. A client that takes nothing for 2 s is given up.
 */
export class ClientQueue {
  readonly #clock: Clock;
  readonly #writer: FrameWriter;
  readonly #onStalled: () => void;
  readonly #packets: FrameQueue = new FrameQueue();
  readonly #urgent: FrameQueue = new FrameQueue();
  #isBlocked = false;
  #cancelTimer: () => void = () => {};

  constructor(stream: Duplex, clock: Clock, onStalled: () => void) {
    this.#clock = clock;
    this.#writer = new FrameWriter(stream);
    this.#onStalled = onStalled;
    stream.on("drain", () => this.#drained());
  }

  /** `isUrgent`: disco and control frames have a queue of their own, so data cannot push them out. */
  push(frame: Uint8Array, isUrgent: boolean): void {
    if (!this.#isBlocked) this.#write(frame);
    else if (isUrgent) this.#urgent.push(frame);
    else this.#packets.push(frame);
  }

  close(): void {
    this.#cancelTimer();
    this.#isBlocked = true;
    this.#packets.clear();
    this.#urgent.clear();
  }

  #write(frame: Uint8Array): void {
    if (this.#writer.write(frame)) return;
    this.#isBlocked = true;
    this.#cancelTimer();
    this.#cancelTimer = this.#clock.at(this.#clock.now() + WRITE_TIMEOUT_MS, this.#onStalled);
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
