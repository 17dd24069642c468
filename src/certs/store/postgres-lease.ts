import type { Clock } from "../../base/clock.ts";
import { pause } from "../../base/pause.ts";
import type { Random } from "../../base/random.ts";
import { BeatingLease } from "./beating-lease.ts";
import { STALE_MS } from "./certificate-store.ts";
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

export class RowLease extends BeatingLease {
  /** Grows with each holder of the name. */
  readonly fence: string;
  readonly #database: Database;

  constructor(database: Database, name: string, fence: string, since: number, clock: Clock, end: () => void) {
    super(name, clock, since, end);
    this.fence = fence;
    this.#database = database;
    this.keep(since);
  }

  protected override async beat(): Promise<boolean> {
    const rows = await this.#database.rows(
      "keep the lock of",
      `update sallyport.certificate_leases set expires = clock_timestamp() + make_interval(secs => $3)
       where name = $1 and fence = $2 and expires > clock_timestamp() returning fence`,
      [this.name, this.fence, STALE_MS / 1000],
    );
    return rows.length > 0;
  }

  protected override async letGo(): Promise<void> {
    await this.#database.rows(
      "unlock",
      "update sallyport.certificate_leases set expires = '-infinity' where name = $1 and fence = $2",
      [this.name, this.fence],
    );
  }
}
