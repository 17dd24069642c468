import type { Clock } from "../base/clock.ts";

/** Every client has tried to come back by then: its longest pause (upstream util/backoff). */
const RETURN_MS = 45_000;

/** Nodes that may have been here when the server ended, and have not come back since it began. */
export class ReturningNodes {
  readonly #clock: Clock;
  readonly #absent: Set<number>;
  readonly #until: number;
  readonly #cancel: () => void;

  /** `over`: those who have not come back in time. */
  constructor(ids: Iterable<number>, clock: Clock, over: (absent: Iterable<number>) => void) {
    this.#clock = clock;
    this.#absent = new Set(ids);
    this.#until = clock.now() + RETURN_MS;
    this.#cancel = this.#absent.size === 0 ? () => undefined : clock.at(this.#until, () => over(this.#absent));
  }

  /** It is here, or gone for good. */
  delete(id: number): void {
    this.#absent.delete(id);
  }

  has(id: number): boolean {
    return this.#absent.has(id) && this.#clock.now() < this.#until;
  }

  get isAny(): boolean {
    return this.#absent.size > 0 && this.#clock.now() < this.#until;
  }

  close(): void {
    this.#cancel();
  }
}
