import type { Clock } from "../base/clock.ts";
import { messageOf } from "../base/fault.ts";
import type { Log } from "../base/log.ts";
import { isInRanges, type PortRange } from "../wire/claims.ts";

/** Each is a file, and a look at the port table for every map. */
const MOST_LISTENERS = 1024;
/** Who has the port may be an older process of ours that is ending. */
const RETRY_MS = 5000;

export interface LeaseListenersOptions {
  /** What may be let. */
  readonly ranges: readonly PortRange[];
  /** Opens the port; the answer closes it. */
  readonly open: (port: number) => Promise<() => void>;
  readonly clock: Clock;
  readonly log: Log;
}

/** The ports of an ingress that are let: open as long as somebody has the lease, and not a moment before. */
export class LeaseListeners {
  readonly #options: LeaseListenersOptions;
  #wanted: ReadonlySet<number> = new Set();
  /** `undefined`: being opened. */
  readonly #open: Map<number, (() => void) | undefined> = new Map();
  readonly #failed: Set<number> = new Set();
  #cancelRetry: (() => void) | undefined;
  #isClosed = false;

  constructor(options: LeaseListenersOptions) {
    this.#options = options;
  }

  /** Ports on which visitors are taken now. */
  get ports(): readonly number[] {
    return [...this.#open].flatMap(([port, close]) => (close === undefined ? [] : [port]));
  }

  /** Ports that are let and cannot be opened: another program has them, or this one may not. */
  get failed(): readonly number[] {
    return [...this.#failed];
  }

  /** These ports have somebody they lead to. */
  set(ports: Iterable<number>): void {
    const { ranges, log } = this.#options;
    const allowed = [...ports].filter((port) => isInRanges(ranges, port));
    if (allowed.length > MOST_LISTENERS) log.warn("lease.too_many", { wanted: allowed.length, most: MOST_LISTENERS });
    this.#wanted = new Set(allowed.slice(0, MOST_LISTENERS));
    for (const [port, close] of this.#open) {
      if (close === undefined || this.#wanted.has(port)) continue;
      this.#open.delete(port);
      close();
      log.info("lease.closed", { port });
    }
    for (const port of this.#failed) if (!this.#wanted.has(port)) this.#failed.delete(port);
    this.#openWanted();
  }

  #openWanted(): void {
    const { open, log } = this.#options;
    if (this.#isClosed) return;
    for (const port of this.#wanted) {
      if (this.#open.has(port)) continue;
      this.#open.set(port, undefined);
      open(port).then(
        (close) => {
          if (this.#isClosed || !this.#wanted.has(port)) {
            this.#open.delete(port);
            return close();
          }
          this.#open.set(port, close);
          this.#failed.delete(port);
          log.info("lease.opened", { port });
        },
        (thrown: unknown) => {
          this.#open.delete(port);
          if (!this.#failed.has(port)) log.warn("lease.failed", { port, error: messageOf(thrown) });
          this.#failed.add(port);
          this.#retryLater();
        },
      );
    }
  }

  #retryLater(): void {
    if (this.#isClosed) return;
    const { clock } = this.#options;
    this.#cancelRetry ??= clock.at(clock.now() + RETRY_MS, () => {
      this.#cancelRetry = undefined;
      this.#openWanted();
    });
  }

  close(): void {
    this.#isClosed = true;
    this.#cancelRetry?.();
    for (const close of this.#open.values()) close?.();
    this.#open.clear();
  }
}
