import { type Link, LinkedList } from "./linked-list.ts";

/** Somebody who is waited for. */
export interface Awaited {
  /** The place is somebody else's now. */
  giveUp(): void;
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

const group = (owner: string): Group => ({ owner, size: 0, waiting: new LinkedList() });

/**
 * Those who are waited for, each of some owner: so many in all, and so many of one owner. When there is no room the one goes
 * that has been waited for longest, for it is the least likely to get anywhere; were it the newcomer, whoever fills the line
 * would shut out everybody else. An owner that has all that it may have makes room itself.
 */
export class WaitingLine {
  /** From the next newcomer on. */
  bounds: LineBounds;
  readonly #crowded: () => void;
  readonly #all: Group = group("");
  readonly #byOwner: Map<string, Group> = new Map();

  /** `crowded` hears of each who has to go, or cannot come. */
  constructor(bounds: LineBounds, crowded: () => void = () => {}) {
    this.bounds = bounds;
    this.#crowded = crowded;
  }

  get size(): number {
    return this.#all.size;
  }

  /** Undefined: nobody who could make room is waited for. */
  enter(owner: string, who: Awaited): Place | undefined {
    const own = this.#byOwner.get(owner) ?? group(owner);
    const { inAll, ofOwner } = this.bounds;
    if (!this.#hasRoom(own, ofOwner) || !this.#hasRoom(this.#all, inAll)) return undefined;
    this.#byOwner.set(owner, own);
    return new Place(who, this.#all, own, this.#byOwner);
  }

  #hasRoom(group: Group, most: number): boolean {
    while (group.size >= most) {
      this.#crowded();
      const oldest = group.waiting.first;
      if (oldest === undefined) return false;
      oldest.makeRoom();
    }
    return true;
  }
}

/** One's place in the line. */
export class Place {
  readonly #who: Awaited;
  readonly #all: Group;
  readonly #own: Group;
  readonly #byOwner: Map<string, Group>;
  #inAll: Link<Place> | undefined;
  #inOwn: Link<Place> | undefined;
  #hasLeft = false;

  constructor(who: Awaited, all: Group, own: Group, byOwner: Map<string, Group>) {
    this.#who = who;
    this.#all = all;
    this.#own = own;
    this.#byOwner = byOwner;
    all.size++;
    own.size++;
    this.wait();
  }

  /** Behind all others who wait; it may have to make room. So it is from the beginning. */
  wait(): void {
    if (this.#hasLeft || this.#inAll !== undefined) return;
    this.#inAll = this.#all.waiting.add(this);
    this.#inOwn = this.#own.waiting.add(this);
  }

  /** It does not wait for now, and keeps its place. */
  work(): void {
    if (this.#inAll === undefined || this.#inOwn === undefined) return;
    this.#all.waiting.remove(this.#inAll);
    this.#own.waiting.remove(this.#inOwn);
    this.#inAll = undefined;
    this.#inOwn = undefined;
  }

  leave(): void {
    if (this.#hasLeft) return;
    this.work();
    this.#hasLeft = true;
    this.#all.size--;
    if (--this.#own.size === 0) this.#byOwner.delete(this.#own.owner);
  }

  makeRoom(): void {
    this.leave();
    this.#who.giveUp();
  }
}
