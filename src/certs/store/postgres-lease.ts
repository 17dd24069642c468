import type { Clock } from "../../base/clock.ts";
import { pause } from "../../base/pause.ts";
import type { Random } from "../../base/random.ts";
import { GIVE_UP_MS, HEARTBEAT_MS, type Lease, leaseLost, STALE_MS } from "./certificate-store.ts";
import type { Database } from "./postgres-database.ts";

const FIRST_POLL_MS = 100;
const LONGEST_POLL_MS = 1_600;

interface LeaseOptions {
  readonly clock: Clock;
  readonly random: Random;
}

/** Waits until the row of `name` has run out or was released, and makes it ours. */
export async function acquireRowLease(
  database: Database,
  name: string,
  options: LeaseOptions,
  end: () => void,
  signal: AbortSignal,
): Promise<RowLease> {
  const { clock, random } = options;
  const holder = Buffer.from(random(12)).toString("hex");
  for (let poll = FIRST_POLL_MS; ; poll = Math.min(poll * 2, LONGEST_POLL_MS)) {
    signal.throwIfAborted();
    const askedAt = clock.now();
    // `holder`: the answer to a statement that was already carried out may have been lost on its way.
    const [row] = await database.rows<{ fence: string }>(
      "lock",
      `insert into sallyport.certificate_leases as kept (name, holder, fence, expires)
       values ($1, $2, 1, clock_timestamp() + make_interval(secs => $3))
       on conflict (name) do update set holder = excluded.holder, fence = kept.fence + 1, expires = excluded.expires
       where kept.expires <= clock_timestamp() or kept.holder = excluded.holder
       returning fence`,
      [name, holder, STALE_MS / 1000],
    );
    if (row !== undefined) return new RowLease(database, name, row.fence, askedAt, clock, end);
    const wait = poll * (0.75 + (random(1)[0]! / 255) * 0.5);
    await pause(clock, wait, signal);
  }
}

export class RowLease implements Lease {
  readonly name: string;
  /** Grows with each holder of the name. */
  readonly fence: string;
  readonly #database: Database;
  readonly #clock: Clock;
  readonly #end: () => void;
  readonly #lost: AbortController = new AbortController();
  #lastBeat: number;
  #cancelBeat: () => void = () => {};
  #cancelGiveUp: () => void = () => {};
  #beating: Promise<void> = Promise.resolve();
  #released = false;

  constructor(database: Database, name: string, fence: string, since: number, clock: Clock, end: () => void) {
    this.name = name;
    this.fence = fence;
    this.#database = database;
    this.#clock = clock;
    this.#end = end;
    this.#lastBeat = since;
    this.#watch(since);
  }

  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  get over(): boolean {
    return this.#released || this.#lost.signal.aborted;
  }

  async release(): Promise<void> {
    if (this.#released) return;
    this.#released = true;
    this.#cancelBeat();
    this.#cancelGiveUp();
    await this.#beating;
    try {
      await this.#database.rows(
        "unlock",
        "update sallyport.certificate_leases set expires = '-infinity' where name = $1 and fence = $2",
        [this.name, this.fence],
      );
    } catch {
      // It runs out then.
    } finally {
      this.#end();
    }
  }

  #watch(beatAt: number): void {
    this.#lastBeat = beatAt;
    this.#cancelGiveUp();
    this.#cancelGiveUp = this.#clock.at(beatAt + GIVE_UP_MS, () => this.#giveUp());
    this.#cancelBeat = this.#clock.at(beatAt + HEARTBEAT_MS, () => {
      this.#beating = this.#beat();
    });
  }

  async #beat(): Promise<void> {
    const startedAt = this.#clock.now();
    try {
      const rows = await this.#database.rows(
        "keep the lock of",
        `update sallyport.certificate_leases set expires = clock_timestamp() + make_interval(secs => $3)
         where name = $1 and fence = $2 and expires > clock_timestamp() returning fence`,
        [this.name, this.fence, STALE_MS / 1000],
      );
      if (this.over) return;
      if (rows.length === 0 || this.#clock.now() - this.#lastBeat >= GIVE_UP_MS) return this.#giveUp();
      this.#watch(startedAt);
    } catch {
      if (!this.over)
        this.#cancelBeat = this.#clock.at(startedAt + 1_000, () => {
          this.#beating = this.#beat();
        });
    }
  }

  #giveUp(): void {
    this.#cancelBeat();
    this.#cancelGiveUp();
    if (!this.#lost.signal.aborted) this.#lost.abort(leaseLost(this.name));
  }
}
