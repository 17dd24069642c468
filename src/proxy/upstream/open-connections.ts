interface Closable {
  destroy(): void;
}

/**
 * The open connections to backends, and for whom they are. Each caller may hold as many as are left free: whoever takes all
 * that it can get leaves as much to each that comes after it, however many do so together (Choudhury and Hahne's dynamic
 * threshold for shared buffers).
 */
export class OpenConnections {
  readonly #most: number;
  readonly #callers: Map<Closable, string> = new Map();
  readonly #held: Map<string, number> = new Map();

  constructor(most: number) {
    this.#most = most;
  }

  get size(): number {
    return this.#callers.size;
  }

  hasRoomFor(caller: string): boolean {
    return (this.#held.get(caller) ?? 0) < this.#most - this.#callers.size;
  }

  add(connection: Closable, caller: string): void {
    this.#callers.set(connection, caller);
    this.#held.set(caller, (this.#held.get(caller) ?? 0) + 1);
  }

  delete(connection: Closable): void {
    const caller = this.#callers.get(connection);
    if (caller === undefined) return;
    this.#callers.delete(connection);
    const left = this.#held.get(caller)! - 1;
    if (left > 0) this.#held.set(caller, left);
    else this.#held.delete(caller);
  }

  destroy(): void {
    for (const connection of this.#callers.keys()) connection.destroy();
  }
}
