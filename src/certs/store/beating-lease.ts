import type { Clock } from "../../base/clock.ts";
import { GIVE_UP_MS, HEARTBEAT_MS, type Lease, leaseLost } from "./certificate-store.ts";

/** After a beat that failed; the store may come back before the lease must be given up. */
const RETRY_MS = 1_000;

/**
 * A lease that is kept by a beat every 5 s, and given up by its holder before anybody else may take it for dead: what every
 * store's leases have in common. A subclass ends its constructor with `keep`, where the lease is in the store already, or
 * with `begin`.
 */
export abstract class BeatingLease implements Lease {
  readonly name: string;
  readonly #clock: Clock;
  readonly #end: () => void;
  readonly #lost: AbortController = new AbortController();
  #lastBeat: number;
  #cancelBeat: () => void = () => {};
  #cancelGiveUp: () => void = () => {};
  #beating: Promise<void> = Promise.resolve();
  #isReleased = false;

  /** `since`: when it was asked for. `end`: of this process's turn. */
  constructor(name: string, clock: Clock, since: number, end: () => void) {
    this.name = name;
    this.#clock = clock;
    this.#end = end;
    this.#lastBeat = since;
  }

  /** Says in the store that this holder lives; false: the lease is somebody else's. */
  protected abstract beat(): Promise<boolean>;

  protected abstract letGo(): Promise<void>;

  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  get isOver(): boolean {
    return this.#isReleased || this.#lost.signal.aborted;
  }

  /** The last beat that arrived is so old that others may take over. */
  protected get isLate(): boolean {
    return this.#clock.now() - this.#lastBeat >= GIVE_UP_MS;
  }

  /** The first beat, now. */
  protected begin(): void {
    this.#giveUpAt(this.#lastBeat + GIVE_UP_MS);
    this.#beating = this.#beat();
  }

  /** The beat at `beatAt` arrived: until the next. */
  protected keep(beatAt: number): void {
    this.#lastBeat = beatAt;
    this.#giveUpAt(beatAt + GIVE_UP_MS);
    this.#beatAt(beatAt + HEARTBEAT_MS);
  }

  #giveUpAt(time: number): void {
    this.#cancelGiveUp();
    this.#cancelGiveUp = this.#clock.at(time, () => this.giveUp());
  }

  #beatAt(time: number): void {
    this.#cancelBeat();
    this.#cancelBeat = this.#clock.at(time, () => {
      this.#beating = this.#beat();
    });
  }

  async #beat(): Promise<void> {
    const startedAt = this.#clock.now();
    try {
      const isOurs = !this.isLate && (await this.beat());
      if (this.isOver) return;
      if (!isOurs || this.isLate) this.giveUp();
      else this.keep(startedAt);
    } catch {
      if (!this.isOver) this.#beatAt(startedAt + RETRY_MS);
    }
  }

  protected giveUp(): void {
    this.#cancelBeat();
    this.#cancelGiveUp();
    if (!this.#lost.signal.aborted) this.#lost.abort(leaseLost(this.name));
  }

  async release(): Promise<void> {
    if (this.#isReleased) return;
    this.#isReleased = true;
    this.#cancelBeat();
    this.#cancelGiveUp();
    await this.#beating;
    try {
      await this.letGo();
    } catch {
      // It runs out then.
    } finally {
      this.#end();
    }
  }
}
