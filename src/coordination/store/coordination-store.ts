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
  /**
   * Writes a consistent copy to `target`, a file that must not exist, with `files` in it. Absent: this store has none of
   * its own, its data has another way.
   */
  backup?(target: string, files: StateFiles): Promise<void>;
  close(): Promise<void>;
}

/** What belongs to a backup besides the store: keys and certificates by name. */
export type StateFiles = ReadonlyMap<string, Uint8Array>;
