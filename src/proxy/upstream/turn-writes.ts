import type { Duplex } from "node:stream";

/**
 * Holds what is written in one turn of the event loop until its end, and then lets it go, connection after connection. A
 * write that wakes a sleeping process costs several times one to a process that is awake: after the first, all are cheap.
 */
export class TurnWrites {
  #held: Duplex[] = [];

  /** Before writing. The turn's end is after all that the kernel had to tell in it. */
  hold(stream: Duplex): void {
    if (stream.writableCorked > 0) return;
    if (this.#held.length === 0) setImmediate(this.#release);
    stream.cork();
    this.#held.push(stream);
  }

  readonly #release = (): void => {
    const held = this.#held;
    this.#held = [];
    for (const stream of held) stream.uncork();
  };
}
