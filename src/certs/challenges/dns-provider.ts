/** Who can change the TXT records of a zone. Records are names without the trailing dot. */
export interface DnsProvider {
  /** Other values of the record stay. Setting what is there already is no error. */
  set(record: string, value: string, signal: AbortSignal): Promise<void>;
  /** Removing what is not there is no error. */
  remove(record: string, value: string, signal: AbortSignal): Promise<void>;
  /** It takes the record under its own name only: CNAME records are not followed. */
  readonly ownsName?: true;
  /** Settled means served: there is nothing to wait for. */
  readonly isServedAtOnce?: true;
}

/** Read anew at each use, so that one may be changed while we run. */
export type Secret = () => Promise<string>;
