import type { Change, CoordinationState, LogEntry } from "../records.ts";

export interface LogQuery {
  readonly limit: number;
  /** Only entries older than this one's sequence number. */
  readonly before?: number;
}

export interface StoredLogEntry extends LogEntry {
  readonly sequence: number;
}

/**
 * Durable state. One writer: opening a store that another process holds fails with `COORDINATION_STORE_LOCKED`.
 * A commit is all or nothing, and on disk when its promise settles. It fails with `COORDINATION_CONFLICT` when it would
 * break uniqueness (login, node key, name, address) and with `COORDINATION_KEY_USED` as said at `Change`.
 */
export interface CoordinationStore {
  load(): Promise<CoordinationState>;
  commit(changes: readonly Change[]): Promise<void>;
  /** Newest first. */
  log(query: LogQuery): Promise<readonly StoredLogEntry[]>;
  close(): Promise<void>;
}
