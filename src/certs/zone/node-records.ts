import type { ChallengeRecords } from "./challenge-records.ts";
import { namesAbove, type RecordSource, textRecord } from "./records.ts";

const CHALLENGE = "_acme-challenge.";
/** `NEGATIVE_TTL_S` of zone.ts says why. */
export const CHALLENGE_TTL_S = 0;

export interface NodeRecordsOptions {
  readonly zone: string;
  /** The zone or below it. */
  readonly baseDomain: string;
  /** Of a node that may have a certificate. The names of the others are nobody's business outside. */
  readonly isPublic: (name: string) => boolean;
  readonly challenges: ChallengeRecords;
}

/** The nodes of the network in public DNS: that they are there, and what proves them to a CA. */
export function nodeRecords({ zone, baseDomain, isPublic, challenges }: NodeRecordsOptions): RecordSource {
  const between = new Set([baseDomain, ...namesAbove(baseDomain)].filter((name) => name.length >= zone.length));
  return (name) => {
    if (between.has(name)) return [];
    if (!name.startsWith(CHALLENGE)) return isPublic(name) ? [] : undefined;
    if (!isPublic(name.slice(CHALLENGE.length))) return undefined;
    return challenges.values(name).map((value) => textRecord(value, CHALLENGE_TTL_S));
  };
}
