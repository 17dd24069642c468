import type { Clock } from "../../base/clock.ts";
import type { Http1Connection } from "./http1-connection.ts";

/** A connection that its backend keeps for n seconds is not used in the last of them. */
const KEEP_MARGIN_MS = 1000;

/** Connections that wait for another request: bounded in number and in time, the newest used first. */
export class IdleConnections {
  readonly #clock: Clock;
  readonly #most: number;
  readonly #idleMs: number;
  /** The longest idle first. A list that became empty waits for the next sweep. */
  readonly #byKey: Map<string, Http1Connection[]> = new Map();
  #size = 0;
  #cancelSweep: (() => void) | undefined;

  constructor(clock: Clock, most: number, idleMs: number) {
    this.#clock = clock;
    this.#most = most;
    this.#idleMs = idleMs;
  }

  get size(): number {
    return this.#size;
  }

  add(connection: Http1Connection): void {
    if (this.#size >= this.#most) this.#dropOldest();
    connection.idleSince = this.#clock.now();
    const same = this.#byKey.get(connection.key);
    if (same === undefined) this.#byKey.set(connection.key, [connection]);
    else same.push(connection);
    this.#size++;
    this.#cancelSweep ??= this.#clock.at(connection.idleSince + this.#idleMs, () => this.#sweep());
  }

  take(key: string): Http1Connection | undefined {
    const same = this.#byKey.get(key);
    for (let connection = same?.pop(); connection !== undefined; connection = same?.pop()) {
      this.#size--;
      const idleMs = this.#clock.now() - connection.idleSince;
      const keepMs = (connection.keepSeconds ?? Number.POSITIVE_INFINITY) * 1000 - KEEP_MARGIN_MS;
      if (connection.isUsable && idleMs < keepMs) return connection;
      connection.destroy();
    }
    return undefined;
  }

  remove(connection: Http1Connection): void {
    const same = this.#byKey.get(connection.key) ?? [];
    const index = same.indexOf(connection);
    if (index < 0) return;
    same.splice(index, 1);
    this.#size--;
  }

  close(): void {
    this.#cancelSweep?.();
    for (const same of this.#byKey.values()) for (const connection of same) connection.destroy();
    this.#byKey.clear();
    this.#size = 0;
  }

  #dropOldest(): void {
    let oldest: Http1Connection | undefined;
    for (const [first] of this.#byKey.values()) {
      if (first !== undefined && (oldest === undefined || first.idleSince < oldest.idleSince)) oldest = first;
    }
    if (oldest === undefined) return;
    this.remove(oldest);
    oldest.destroy();
  }

  #sweep(): void {
    const now = this.#clock.now();
    let next = Number.POSITIVE_INFINITY;
    for (const [key, same] of this.#byKey) {
      const fresh = same.findIndex(({ idleSince }) => idleSince + this.#idleMs > now);
      const expired = same.splice(0, fresh < 0 ? same.length : fresh);
      this.#size -= expired.length;
      for (const connection of expired) connection.destroy();
      if (same.length === 0) this.#byKey.delete(key);
      else next = Math.min(next, same[0]!.idleSince + this.#idleMs);
    }
    this.#cancelSweep = next === Number.POSITIVE_INFINITY ? undefined : this.#clock.at(next, () => this.#sweep());
  }
}
