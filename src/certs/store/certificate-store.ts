import { Fault } from "../../base/fault.ts";
import { plainName } from "../../wire/host-name.ts";

/** Where certificates, keys, accounts and the history of orders are, for one gateway or for several that share them. */
export interface CertificateStore {
  read(path: string): Promise<Uint8Array | undefined>;
  /**
   * Durable when it settles; a crash leaves the old or the new value. The value before is kept as `previous`.
   * @throws {Fault} CERT_LEASE_LOST when `lease` is given and somebody else may hold its lock by now
   */
  write(path: string, value: Uint8Array, lease?: Lease): Promise<void>;
  previous(path: string): Promise<Uint8Array | undefined>;
  /** The value and the one before it. */
  delete(path: string, lease?: Lease): Promise<void>;
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

/** A holder says so this often … */
export const HEARTBEAT_MS = 5_000;
/** … gives up by itself when it could not say so for this long … */
export const GIVE_UP_MS = 8_000;
/** … and is taken for dead by the others after this long. */
export const STALE_MS = 10_000;

const LARGEST_VALUE = 1 << 20;
const SEGMENT = /^(?!\.{1,2}$)[a-z0-9_][a-z0-9._+@-]{0,199}$/;

/** How a DNS name stands in a path: `*.example.com` is `_wildcard.example.com`. */
export function pathOfName(name: string): string {
  return plainName(name).replace(/^\*\./, "_wildcard.");
}

/**
 * Paths are made from names that strangers chose: only these characters, no way up, nothing that a store keeps for itself.
 * @throws {Fault} CERT_STORE_PATH
 */
export function checkedPath(path: string): string {
  const segments = path.split("/");
  const sound = segments.length <= 4 && segments.every((segment) => SEGMENT.test(segment));
  if (sound && segments[0] !== "locks" && !/\.(?:previous|new)$/.test(path)) return path;
  throw new Fault("CERT_STORE_PATH", `Cannot keep "${path}" in the certificate store: not a path of it`);
}

/** @throws {Fault} CERT_STORE_SIZE */
export function checkedValue(path: string, value: Uint8Array): Uint8Array {
  if (value.length <= LARGEST_VALUE) return value;
  throw new Fault(
    "CERT_STORE_SIZE",
    `Cannot keep "${path}" in the certificate store: ${value.length} bytes, at most ${LARGEST_VALUE} wanted`,
  );
}

export function leaseLost(name: string): Fault {
  return new Fault("CERT_LEASE_LOST", `Cannot go on with "${name}": another gateway may hold its lock now`, {
    hint: "This process was stopped for longer than 10 s, or the store could not be reached. The other one goes on.",
  });
}
