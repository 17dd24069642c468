import type { Clock } from "../../base/clock.ts";
import type { Http1Connection } from "./http1-connection.ts";

/** A connection that its backend keeps for n seconds is not used in the last of them. */
const KEEP_MARGIN_MS = 1000;

/** Connections that wait for another request: bounded in number and in time, the newest used first. */
export class IdleConnections {
  readonly #clock: Clock;
  readonly #most: number;
  readonly #idleMs: number;
  readonly #byKey: Map<string, Http1Connection[]> = new Map();
  /** Since when, the longest idle first. */
  readonly #since: Map<Http1Connection, number> = new Map();
  #cancelSweep: (() => void) | undefined;

  constructor(clock: Clock, most: number, idleMs: number) {
    this.#clock = clock;
    this.#most = most;
    this.#idleMs = idleMs;
  }

  get size(): number {
    return this.#since.size;
  }

  add(connection: Http1Connection): void {
    for (const oldest of this.#since.keys()) {
      if (this.#since.size < this.#most) break;
      this.#drop(oldest);
    }
    const now = this.#clock.now();
    const same = this.#byKey.get(connection.key);
    if (same === undefined) this.#byKey.set(connection.key, [connection]);
    else same.push(connection);
    this.#since.set(connection, now);
    this.#cancelSweep ??= this.#clock.at(now + this.#idleMs, () => this.#sweep());
  }

  take(key: string): Http1Connection | undefined {
    for (;;) {
      const connection = this.#byKey.get(key)?.at(-1);
      if (connection === undefined) return undefined;
      const idleMs = this.#clock.now() - this.#since.get(connection)!;
      const keepMs = (connection.keepSeconds ?? Number.POSITIVE_INFINITY) * 1000 - KEEP_MARGIN_MS;
      if (connection.isUsable && idleMs < keepMs) {
        this.remove(connection);
        return connection;
      }
      this.#drop(connection);
    }
  }

  remove(connection: Http1Connection): void {
    if (!this.#since.delete(connection)) return;
    const same = this.#byKey.get(connection.key)!;
    if (same.at(-1) === connection) same.pop();
    else same.splice(same.indexOf(connection), 1);
    if (same.length === 0) this.#byKey.delete(connection.key);
  }

  close(): void {
    this.#cancelSweep?.();
    for (const connection of this.#since.keys()) this.#drop(connection);
  }

  #drop(connection: Http1Connection): void {
    this.remove(connection);
    connection.destroy();
  }

  #sweep(): void {
    this.#cancelSweep = undefined;
    for (const [connection, since] of this.#since) {
      const end = since + this.#idleMs;
      if (end > this.#clock.now()) {
        this.#cancelSweep = this.#clock.at(end, () => this.#sweep());
        return;
      }
      this.#drop(connection);
    }
  }
}
