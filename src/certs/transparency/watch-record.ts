import type { SavedForm } from "../../base/saved-json.ts";
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

export const NOTHING_KEPT: Kept = { logs: {}, alarms: [], waiting: [], keys: [] };

export const KEPT: SavedForm<Kept> = {
  file: "transparency.json",
  what: "what the watch over transparency logs has seen",
  remedy: "the watch begins anew with what is logged from then on",
  read: (json) => {
    const { logs, alarms, waiting, keys } = Object(json) as Kept;
    const isWhole = Object(logs) === logs && [alarms, waiting, keys].every(Array.isArray);
    return isWhole ? { logs, alarms, waiting, keys } : undefined;
  },
};

export function alarmText({ names, issuer, serial, key, log, index }: UnknownCertificate): string {
  return `Somebody else has a certificate for ${names.join(", ")}: by ${issuer}, serial ${serial}, key sha256:${key}, entry ${index} of ${log}`;
}
