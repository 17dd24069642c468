import type { ProxyLimits, ProxyOptions } from "../options.ts";

export type CrowdLimits = Pick<ProxyLimits, "connections" | "connectionsPerCaller">;

/** One connection's place among the others. */
export class Place {
  readonly #groups: readonly Group[];
  /** Ends the connection. */
  readonly #end: () => void;

  constructor(groups: readonly Group[], end: () => void) {
    this.#groups = groups;
    this.#end = end;
    for (const group of groups) group.open.add(this);
  }

  /** Nothing is asked on it, or not yet: the one that is so for longest goes when others need its place. */
  idle(): void {
    for (const { open, idle } of this.#groups) if (open.has(this)) idle.add(this);
  }

  busy(): void {
    for (const { idle } of this.#groups) idle.delete(this);
  }

  leave(): void {
    this.busy();
    for (const { open } of this.#groups) open.delete(this);
  }

  makeRoom(): void {
    this.leave();
    this.#end();
  }
}

interface Group {
  readonly open: Set<Place>;
  /** The longest first. */
  readonly idle: Set<Place>;
}

const group = (): Group => ({ open: new Set(), idle: new Set() });

/**
 * Connections on plain ports: so many of one caller, and so many in all. There is no handshake that would bound them, and each
 * takes memory of ours for as long as its caller keeps to the deadlines.
 */
export class Crowd {
  readonly #all: Group = group();
  readonly #byCaller: Map<string, Group> = new Map();
  readonly #count: ProxyOptions["count"];
  #limits: CrowdLimits;

  constructor(limits: CrowdLimits, count: ProxyOptions["count"]) {
    this.#limits = limits;
    this.#count = count;
  }

  limit(limits: CrowdLimits): void {
    this.#limits = limits;
  }

  /** Undefined: all that could make room is at work. */
  enter(caller: string, end: () => void): Place | undefined {
    const own = this.#byCaller.get(caller) ?? group();
    const { connections, connectionsPerCaller } = this.#limits;
    if (!this.#hasRoom(own, connectionsPerCaller) || !this.#hasRoom(this.#all, connections)) return undefined;
    this.#byCaller.set(caller, own);
    return new Place([this.#all, own], end);
  }

  leave(caller: string, place: Place): void {
    place.leave();
    if (this.#byCaller.get(caller)?.open.size === 0) this.#byCaller.delete(caller);
  }

  #hasRoom({ open, idle }: Group, most: number): boolean {
    if (open.size < most) return true;
    this.#count?.("connections_crowded");
    idle.values().next().value?.makeRoom();
    return open.size < most;
  }
}
