/** Long enough for the news of a member to come; whoever was not answered tries again after 5 s anyway. */
const HELD_MS = 4000;
const MOST_HELD = 16;

interface Held {
  readonly message: Uint8Array;
  readonly path: number;
  readonly at: number;
}

/**
 * First handshakes of keys that are no peer's yet. Who has just joined a mesh dials before the others have heard of it,
 * and would wait for `REKEY_TIMEOUT`: its message is kept until it is known. Strangers push out strangers.
 */
export class Strangers {
  readonly #held: Map<string, Held> = new Map();

  hold(keyHex: string, message: Uint8Array, path: number, now: number): void {
    this.#held.delete(keyHex);
    if (this.#held.size >= MOST_HELD) this.#held.delete(this.#held.keys().next().value!);
    this.#held.set(keyHex, { message: message.slice(), path, at: now });
  }

  /** What that key has sent a moment ago, once. */
  take(keyHex: string, now: number): Held | undefined {
    const held = this.#held.get(keyHex);
    this.#held.delete(keyHex);
    return held !== undefined && now - held.at <= HELD_MS ? held : undefined;
  }

  clear(): void {
    this.#held.clear();
  }
}
