import type { Clock } from "../base/clock.ts";

const EVERY_MS = 5000;
/** Two looks without an answer. */
const WITHIN_MS = 10_000;

export interface RelayWatchOptions {
  readonly clock: Clock;
  /** Relays of now, by id. */
  readonly relays: () => Iterable<number>;
  /** Asks a relay's machine for a sign of life; false: it has no stream. */
  readonly echo: (id: number, heard: () => void) => boolean;
  readonly lost: (id: number) => void;
}

/**
 * A machine that loses its power says nothing, and TCP takes a quarter of an hour to notice. Nobody must be sent to a relay
 * for so long, nor must nodes keep its visitors (FN-13); other members are not worth waking for it.
 */
export class RelayWatch {
  readonly #options: RelayWatchOptions;
  /** When a relay was asked that has not answered yet. */
  readonly #asked: Map<number, number> = new Map();
  #cancel: (() => void) | undefined;

  constructor(options: RelayWatchOptions) {
    this.#options = options;
  }

  /** `id` came, who may be a relay: what its former stream owes does not count. */
  came(id: number): void {
    this.#asked.delete(id);
    if (this.#cancel === undefined) this.#look();
  }

  #look(): void {
    const { clock, relays, lost } = this.#options;
    const now = clock.now();
    let isNeeded = false;
    for (const id of relays()) {
      const since = this.#asked.get(id) ?? now;
      if (now - since >= WITHIN_MS) {
        this.#asked.delete(id);
        lost(id);
      } else if (this.#asked.has(id) || this.#ask(id, now)) isNeeded = true;
    }
    this.#cancel = isNeeded ? clock.at(now + EVERY_MS, () => this.#look()) : undefined;
    if (!isNeeded) this.#asked.clear();
  }

  #ask(id: number, now: number): boolean {
    this.#asked.set(id, now);
    const isAsked = this.#options.echo(id, () => void this.#asked.delete(id));
    if (!isAsked) this.#asked.delete(id);
    return isAsked;
  }

  close(): void {
    this.#cancel?.();
  }
}
