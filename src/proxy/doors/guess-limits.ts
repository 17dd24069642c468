import { parseAddress } from "../../base/address.ts";
import { toHex } from "../../base/bytes.ts";
import type { Clock } from "../../base/clock.ts";
import type { Store } from "../../base/store.ts";

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;

/** How often a secret may be guessed. */
interface Allowance {
  /** Wrong guesses of one visitor that cost nothing. */
  readonly free: number;
  /** The wait after the next one; it doubles each time, up to `longestMs`. */
  readonly firstMs: number;
  readonly longestMs: number;
  /** Wrong guesses at one door of all visitors together, and how long until one more is allowed. */
  readonly ofAll?: { readonly most: number; readonly eachMs: number };
}

export type GuessedWay = "password" | "pin" | "link" | "token";

/**
 * A PIN of six digits is guessed with a chance below 1 in 6,400 a day, by all addresses of the world together. Links and
 * tokens are too long to be guessed: there only noise is kept away, and no crowd can lock anybody out.
 */
const ALLOWANCES: Readonly<Record<GuessedWay, Allowance>> = {
  password: { free: 5, firstMs: SECOND, longestMs: 15 * MINUTE, ofAll: { most: 100, eachMs: 30 * SECOND } },
  pin: { free: 3, firstMs: MINUTE, longestMs: 24 * HOUR, ofAll: { most: 10, eachMs: 10 * MINUTE } },
  link: { free: 10, firstMs: SECOND, longestMs: 5 * MINUTE },
  token: { free: 10, firstMs: SECOND, longestMs: 5 * MINUTE },
};

const MOST_VISITORS = 8192;
/** Wrong guesses are forgotten this long after the last wait. */
const FORGET_MS = 24 * HOUR;
const SAVED_AS = "door-guesses.json";
/** A restart gives back at most what was guessed in this time. */
const SAVE_AFTER_MS = 5 * SECOND;

interface Visitor {
  wrong: number;
  /** Unix ms. */
  until: number;
}

interface Crowd {
  wrong: number;
  /** Unix ms: up to here `wrong` has been worked off. */
  at: number;
}

/** Counts wrong guesses by visitor and by door, on wall time: what is saved counts on after a restart. */
export class GuessLimits {
  readonly #clock: Clock;
  readonly #store: Store | undefined;
  readonly #visitors: Map<string, Visitor> = new Map();
  readonly #crowds: Map<string, Crowd> = new Map();
  #isSaving = false;

  private constructor(clock: Clock, store: Store | undefined) {
    this.#clock = clock;
    this.#store = store;
  }

  static async open(clock: Clock, store?: Store): Promise<GuessLimits> {
    const limits = new GuessLimits(clock, store);
    const saved = await store?.get(SAVED_AS);
    if (saved !== undefined) limits.#restore(Buffer.from(saved).toString("utf8"));
    return limits;
  }

  /**
   * Milliseconds to wait before the next guess; 0 = guess now. Then it counts as wrong until `right` says otherwise, so
   * that guesses side by side are no more than one after the other.
   */
  take(door: string, way: GuessedWay, address: string): number {
    const now = this.#clock.wall();
    const { ofAll } = ALLOWANCES[way];
    const key = `${door} ${way} ${visitorNetwork(address)}`;
    const visitor = this.#visitors.get(key) ?? { wrong: 0, until: 0 };
    // A wall clock that was set back must not lock anybody out for longer than the rule says.
    visitor.until = Math.min(visitor.until, now + waitAfter(visitor.wrong, ALLOWANCES[way]));
    const wait = visitor.until - now;
    if (wait > 0) return wait;
    if (ofAll !== undefined) {
      const crowd = this.#crowdAt(`${door} ${way}`, ofAll.eachMs, now);
      if (crowd.wrong >= ofAll.most) return Math.max(1, crowd.at + ofAll.eachMs - now);
      crowd.wrong++;
    }
    if (now - visitor.until > FORGET_MS) visitor.wrong = 0;
    visitor.wrong++;
    visitor.until = now + waitAfter(visitor.wrong, ALLOWANCES[way]);
    this.#visitors.delete(key); // the newest stand last
    this.#visitors.set(key, visitor);
    if (this.#visitors.size > MOST_VISITORS) this.#visitors.delete(this.#visitors.keys().next().value!);
    this.#saveSoon();
    return 0;
  }

  /** The guess that was just taken was right: this visitor has no wrong ones any more. */
  right(door: string, way: GuessedWay, address: string): void {
    this.#visitors.delete(`${door} ${way} ${visitorNetwork(address)}`);
    this.#uncount(door, way);
  }

  /** The guess that was just taken was not looked at: those before it were. */
  giveBack(door: string, way: GuessedWay, address: string): void {
    const visitor = this.#visitors.get(`${door} ${way} ${visitorNetwork(address)}`);
    if (visitor !== undefined) {
      visitor.wrong = Math.max(0, visitor.wrong - 1);
      visitor.until = Math.min(visitor.until, this.#clock.wall());
    }
    this.#uncount(door, way);
  }

  #uncount(door: string, way: GuessedWay): void {
    const crowd = this.#crowds.get(`${door} ${way}`);
    if (crowd !== undefined && crowd.wrong > 0) crowd.wrong--;
    this.#saveSoon();
  }

  #crowdAt(key: string, eachMs: number, now: number): Crowd {
    let crowd = this.#crowds.get(key);
    if (crowd === undefined) {
      crowd = { wrong: 0, at: now };
      this.#crowds.set(key, crowd); // as many as doors have ways
    }
    if (crowd.at > now) crowd.at = now;
    const worked = Math.floor((now - crowd.at) / eachMs);
    crowd.wrong = Math.max(0, crowd.wrong - worked);
    crowd.at = crowd.wrong === 0 ? now : crowd.at + worked * eachMs;
    return crowd;
  }

  #saveSoon(): void {
    if (this.#isSaving || this.#store === undefined) return;
    this.#isSaving = true;
    this.#clock.at(this.#clock.now() + SAVE_AFTER_MS, () => {
      this.#isSaving = false;
      // Lost, it is as if we had not been asked; the next guess saves again.
      this.save().catch(() => undefined);
    });
  }

  async save(): Promise<void> {
    const text = JSON.stringify({ visitors: [...this.#visitors], crowds: [...this.#crowds] });
    await this.#store?.set(SAVED_AS, Buffer.from(text));
  }

  #restore(text: string): void {
    let saved: { visitors?: unknown; crowds?: unknown };
    try {
      saved = Object(JSON.parse(text)) as typeof saved;
    } catch {
      return; // of another version; counting begins anew
    }
    for (const [key, value] of entriesOf(saved.visitors)) {
      const { wrong, until } = value as Partial<Visitor>;
      if (Number.isFinite(wrong) && Number.isFinite(until))
        this.#visitors.set(key, { wrong: Number(wrong), until: Number(until) });
    }
    for (const [key, value] of entriesOf(saved.crowds)) {
      const { wrong, at } = value as Partial<Crowd>;
      if (Number.isFinite(wrong) && Number.isFinite(at))
        this.#crowds.set(key, { wrong: Number(wrong), at: Number(at) });
    }
  }
}

/** What so many wrong guesses cost. */
function waitAfter(wrong: number, { free, firstMs, longestMs }: Allowance): number {
  return wrong < free ? 0 : Math.min(longestMs, firstMs * 2 ** Math.min(wrong - free, 30));
}

function entriesOf(value: unknown): [string, object][] {
  if (!Array.isArray(value)) return [];
  return value
    .slice(0, MOST_VISITORS)
    .filter(
      (one): one is [string, object] => Array.isArray(one) && typeof one[0] === "string" && Object(one[1]) === one[1],
    );
}

/** One household or one server: an IPv4 address, or the /64 of an IPv6 one. */
export function visitorNetwork(address: string): string {
  const bytes = parseAddress(address);
  return bytes === undefined ? "unknown" : toHex(bytes.subarray(0, 8));
}
