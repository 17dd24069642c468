import type { Clock } from "../../base/clock.ts";

/** Within that time, and for that time after the last one. */
const REMEMBERED_MS = 60_000;
const MOST_FLOODS = 3;
const MOST_CALLERS = 1000;

interface Floods {
  readonly count: number;
  readonly lastAt: number;
}

/**
 * Whose HTTP/2 connections were closed for what they cost, or broke its rules. Whoever comes again at once and goes on is given no more of them for a
 * while: by HTTP/1.1 a browser behind the same address still gets its pages, and a flood costs its sender as much as us (H2-2).
 */
export class Flooders {
  readonly #clock: Pick<Clock, "now">;
  /** Whoever flooded last comes last. */
  readonly #floods: Map<string, Floods> = new Map();

  constructor(clock: Pick<Clock, "now">) {
    this.#clock = clock;
  }

  add(caller: string): void {
    const lastAt = this.#clock.now();
    const count = (this.#recent(caller)?.count ?? 0) + 1;
    this.#floods.delete(caller);
    this.#floods.set(caller, { count, lastAt });
    for (const oldest of this.#floods.keys()) {
      if (this.#floods.size <= MOST_CALLERS) return;
      this.#floods.delete(oldest);
    }
  }

  has(caller: string): boolean {
    return this.#floods.size > 0 && (this.#recent(caller)?.count ?? 0) >= MOST_FLOODS;
  }

  #recent(caller: string): Floods | undefined {
    const floods = this.#floods.get(caller);
    if (floods === undefined || this.#clock.now() - floods.lastAt < REMEMBERED_MS) return floods;
    this.#floods.delete(caller);
    return undefined;
  }
}
