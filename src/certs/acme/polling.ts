import type { Clock } from "../../base/clock.ts";
import { pause } from "../../base/pause.ts";

const FIRST_MS = 250;
const SHORTEST_MS = 100;
const LONGEST_MS = 15_000;

/** Waits between two looks at the same thing: longer each time, or as long as the CA says, but never long. */
export class Polling {
  readonly #clock: Clock;
  #next: number = FIRST_MS;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  async wait(retryAfter: number | undefined, signal: AbortSignal): Promise<void> {
    const ms = Math.min(Math.max(retryAfter ?? this.#next, SHORTEST_MS), LONGEST_MS);
    this.#next = Math.min(this.#next * 2, LONGEST_MS);
    await pause(this.#clock, ms, signal);
  }
}
