/** Where certificates, keys, accounts and the history of orders are, for one gateway or for several that share them. */
export interface CertificateStore {
  read(path: string): Promise<Uint8Array | undefined>;
  /** Durable when it settles; a crash leaves the old or the new value. The value before is kept as `previous`. */
  write(path: string, value: Uint8Array): Promise<void>;
  previous(path: string): Promise<Uint8Array | undefined>;
  delete(path: string): Promise<void>;
  /** The paths that begin with `prefix`, in order. */
  list(prefix: string): Promise<readonly string[]>;
  /** Only one of all who share the store holds `name`; waits for it. */
  lock(name: string, signal: AbortSignal): Promise<Lease>;
  close(): Promise<void>;
}

export interface Lease {
  /** Aborts when somebody else may hold it now: stop writing. */
  readonly lost: AbortSignal;
  release(): Promise<void>;
}
