import { Fault } from "../../base/fault.ts";
import type { LogPlace } from "./log-follower.ts";
import type { SeenCertificate } from "./seen-certificate.ts";

/** A certificate for a name of ours, with a key that is not. Times are Unix ms. */
export interface UnknownCertificate extends SeenCertificate {
  readonly log: string;
  /** Of the entry. */
  readonly index: number;
  readonly loggedAt: number;
  readonly seenAt: number;
}

/** What the watch knows over restarts. */
export interface Kept {
  /** By the log's address. */
  readonly logs: Readonly<Record<string, LogPlace>>;
  readonly alarms: readonly UnknownCertificate[];
  /** Not yet known to be somebody else's. */
  readonly waiting: readonly UnknownCertificate[];
  /** Digests of all keys that were ever seen to be ours. */
  readonly keys: readonly string[];
}

/** @throws {Fault} STATE_DAMAGED */
export function keptOf(saved: Uint8Array | undefined): Kept {
  if (saved === undefined) return { logs: {}, alarms: [], waiting: [], keys: [] };
  try {
    const { logs, alarms, waiting, keys } = JSON.parse(Buffer.from(saved).toString("utf8")) as Kept;
    if (Object(logs) === logs && [alarms, waiting, keys].every(Array.isArray)) return { logs, alarms, waiting, keys };
  } catch {} // said below
  throw new Fault("STATE_DAMAGED", "Cannot read what the watch over transparency logs has seen", {
    hint: "Remove transparency.json from the state folder: the watch begins anew with what is logged from now on.",
  });
}

export function alarmText({ names, issuer, serial, key, log, index }: UnknownCertificate): string {
  return `Somebody else has a certificate for ${names.join(", ")}: by ${issuer}, serial ${serial}, key sha256:${key}, entry ${index} of ${log}`;
}
