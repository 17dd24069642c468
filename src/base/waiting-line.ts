import type { Clock } from "./clock.ts";
import { type Link, LinkedList } from "./linked-list.ts";

/** Somebody who is waited for. */
export interface Awaited {
  /** The place is somebody else's now, or the time is over. */
  giveUp(why: "crowded" | "late"): void;
}

export interface WaitingLineOptions {
  /** Hears of each who has to go to make room, or cannot come. */
  readonly crowded?: () => void;
  /** How long somebody is waited for. @default without end */
  readonly patience?: { readonly clock: Clock; readonly limitMs: number };
}

export interface LineBounds {
  readonly inAll: number;
  readonly ofOwner: number;
}

/** All who are in, or those of one owner. */
interface Group {
  readonly owner: string;
  size: number;
  /** Who came last is last. */
  readonly waiting: LinkedList<Place>;
}

/** Owners who have nobody in the line and may have again in a moment. */
const MOST_EMPTY = 64;

const group = (owner: string): Group => ({ owner, size: 0, waiting: new LinkedList() });

/**
 * Those who are waited for, each of some owner: so many in all, and so many of one owner. When there is no room the one goes
 * that has been waited for longest, for it is the least likely to get anywhere; were it the newcomer, whoever fills the line
 * would shut out everybody else. An owner that has all that it may have makes room itself.
 */
export class WaitingLine {
  /** From the next newcomer on. */
  bounds: LineBounds;
  readonly #options: WaitingLineOptions;
  readonly #all: Group = group("");
  readonly #byOwner: Map<string, Group> = new Map();
  #isAlarmSet = false;

  constructor(bounds: LineBounds, options: WaitingLineOptions = {}) {
    this.bounds = bounds;
    this.#options = options;
  }

  get size(): number {
    return this.#all.size;
  }

  /** Undefined: nobody who could make room is waited for. */
  enter(owner: string, who: Awaited): Place | undefined {
    const known = this.#byOwner.get(owner);
    const own = known ?? group(owner);
    const { inAll, ofOwner } = this.bounds;
    if (!this.#hasRoom(own, ofOwner) || !this.#hasRoom(this.#all, inAll)) return undefined;
    if (known === undefined || known.size === 0) this.#byOwner.set(owner, own); // making room may have emptied it
    return new Place(who, this, own);
  }

  /** For its places alone. */
  add(place: Place): Link<Place> {
    const { patience } = this.#options;
    if (patience !== undefined) place.since = patience.clock.now();
    const link = this.#all.waiting.add(place);
    this.#setAlarm();
    return link;
  }

  remove(link: Link<Place>): void {
    this.#all.waiting.remove(link);
  }

  count(own: Group, step: 1 | -1): void {
    this.#all.size += step;
    own.size += step;
    if (own.size === 0 && this.#byOwner.size > MOST_EMPTY) this.#byOwner.delete(own.owner);
  }

  /** One alarm for all, as the first who came is the first whose time is over. */
  #setAlarm(): void {
    const first = this.#all.waiting.first;
    const { patience } = this.#options;
    if (patience === undefined || this.#isAlarmSet || first === undefined) return;
    const { clock, limitMs } = patience;
    this.#isAlarmSet = true;
    clock.at(first.since + limitMs, () => {
      this.#isAlarmSet = false;
      this.#dismissLate(clock.now() - limitMs);
      this.#setAlarm();
    });
  }

  #dismissLate(since: number): void {
    const { waiting } = this.#all;
    for (let first = waiting.first; first !== undefined && first.since <= since; first = waiting.first) {
      first.dismiss("late");
    }
  }

  #hasRoom(group: Group, most: number): boolean {
    while (group.size >= most) {
      this.#options.crowded?.();
      const oldest = group.waiting.first;
      if (oldest === undefined) return false;
      oldest.dismiss("crowded");
    }
    return true;
  }
}

/** One's place in the line. */
export class Place {
  readonly #who: Awaited;
  readonly #line: WaitingLine;
  readonly #own: Group;
  #inAll: Link<Place> | undefined;
  #inOwn: Link<Place> | undefined;
  #hasLeft = false;
  /** Monotonic ms, where there is a limit. */
  since = 0;

  constructor(who: Awaited, line: WaitingLine, own: Group) {
    this.#who = who;
    this.#line = line;
    this.#own = own;
    line.count(own, 1);
    this.wait();
  }

  /** Behind all others who wait; it may have to make room. So it is from the beginning. */
  wait(): void {
    if (this.#hasLeft || this.#inAll !== undefined) return;
    this.#inAll = this.#line.add(this);
    this.#inOwn = this.#own.waiting.add(this);
  }

  /** It does not wait for now, and keeps its place. */
  work(): void {
    if (this.#inAll === undefined || this.#inOwn === undefined) return;
    this.#line.remove(this.#inAll);
    this.#own.waiting.remove(this.#inOwn);
    this.#inAll = undefined;
    this.#inOwn = undefined;
  }

  leave(): void {
    if (this.#hasLeft) return;
    this.work();
    this.#hasLeft = true;
    this.#line.count(this.#own, -1);
  }

  dismiss(why: "crowded" | "late"): void {
    this.leave();
    this.#who.giveUp(why);
  }
}
