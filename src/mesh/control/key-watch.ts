import type { Clock } from "../../base/clock.ts";
import { keyExpiryMs } from "../../wire/map-apply.ts";
import type { Node } from "../../wire/tailcfg.ts";

/** A smaller difference between the server's clock and ours is the network's (upstream `ipn/ipnlocal/expiry.go`). */
const LEAST_SKEW_MS = 60_000;

export interface KeyWatchEvents {
  readonly onValid: () => void;
  /** `wasCutShort`: its time was not over yet by what the server had said before. */
  readonly onExpired: (self: Node, wasCutShort: boolean) => void;
}

/** Knows whether our own node key is still good, and notices the instant at which it is not. */
export class KeyWatch {
  readonly #clock: Clock;
  readonly #events: KeyWatchEvents;
  #skewMs = 0;
  #knownExpiry = Infinity;
  #cancel: () => void = () => {};

  constructor(clock: Clock, events: KeyWatchEvents) {
    this.#clock = clock;
    this.#events = events;
  }

  /** The server's time in Unix ms: ours where the two differ by less than a minute. */
  wall(): number {
    return this.#clock.wall() + this.#skewMs;
  }

  /** The time that the server wrote into a message. */
  learnTime(text: string | null | undefined): void {
    const skew = Date.parse(text ?? "") - this.#clock.wall();
    if (!Number.isNaN(skew)) this.#skewMs = Math.abs(skew) < LEAST_SKEW_MS ? 0 : skew;
  }

  /** Our own node as the newest map has it. */
  watch(self: Node): void {
    this.stop();
    const expiry = keyExpiryMs(self);
    const left = expiry - this.wall();
    if (self.Expired === true || left <= 0) {
      this.#events.onExpired(self, this.#knownExpiry - this.wall() > LEAST_SKEW_MS);
      return;
    }
    this.#knownExpiry = expiry;
    this.#events.onValid();
    if (expiry !== Infinity) this.#cancel = this.#clock.at(this.#clock.now() + left, () => this.watch(self));
  }

  stop(): void {
    this.#cancel();
  }
}
