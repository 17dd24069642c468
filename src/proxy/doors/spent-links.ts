import type { Clock } from "../../base/clock.ts";
import type { GuestPass } from "./guest-passes.ts";
import { tokenDigest } from "./secret-hash.ts";

const LIFE_MS = 2 * 60_000;
const MOST = 256;

interface Kept {
  readonly link: Promise<GuestPass | undefined>;
  readonly until: number;
}

/**
 * Links for once that were used a moment ago, each with the page whose button did it. A button that is pressed twice, or whose answer
 * was lost on its way, sends its form again: the browser has given up the first answer, and with it the cookie.
 */
export class SpentLinks {
  readonly #clock: Clock;
  readonly #kept: Map<string, Kept> = new Map();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** `page` was made for one showing of the link, and nobody else has seen it. */
  add(token: string, page: string | null, link: Promise<GuestPass | undefined>): void {
    if (page === null) return;
    this.#prune();
    if (this.#kept.size >= MOST) this.#kept.delete(this.#kept.keys().next().value!);
    this.#kept.set(keyOf(token, page), { link, until: this.#clock.now() + LIFE_MS });
  }

  async find(token: string, page: string | null): Promise<GuestPass | undefined> {
    this.#prune();
    return page === null ? undefined : await this.#kept.get(keyOf(token, page))?.link;
  }

  #prune(): void {
    const now = this.#clock.now();
    for (const [key, { until }] of this.#kept) {
      if (until > now) break; // in order of time
      this.#kept.delete(key);
    }
  }
}

const keyOf = (token: string, page: string): string => tokenDigest(`${token} ${page}`);
