import { LinkedList } from "../../base/linked-list.ts";

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
  readonly #open: LinkedList<Closable> = new LinkedList();
  readonly #held: Map<string, number> = new Map();

  constructor(most: number) {
    this.#most = most;
  }

  get size(): number {
    return this.#open.size;
  }

  hasRoomFor(caller: string): boolean {
    return this.heldBy(caller) < this.#most - this.#open.size;
  }

  heldBy(caller: string): number {
    return this.#held.get(caller) ?? 0;
  }

  /** What is to be called when it is closed. */
  add(connection: Closable, caller: string): () => void {
    const place = this.#open.add(connection);
    this.#held.set(caller, (this.#held.get(caller) ?? 0) + 1);
    return () => {
      if (!this.#open.remove(place)) return;
      const left = this.#held.get(caller)! - 1;
      if (left > 0) this.#held.set(caller, left);
      else this.#held.delete(caller);
    };
  }

  destroy(): void {
    for (const connection of this.#open.toArray()) connection.destroy();
  }
}
