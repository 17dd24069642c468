import type { Certificate } from "./certificate.ts";
import type { LifeRecord } from "./life-record.ts";
import { usualMoment } from "./renewal-time.ts";

const DAY_MS = 86_400_000;
/** A CA that gives certificates which are due at once does not get an order a second. */
const SHORTEST_RENEWAL_MS = 3_600_000;
/** A CA may want a certificate replaced before its time, but not twice in a day, time and again. */
const EARLY_RENEWALS_PER_DAY = 2;
/** The longest that a CA makes us wait with a question, and our jitter; what is later was written by a clock ahead. */
const LONGEST_ASK_MS = 1.1 * DAY_MS;

/** When a certificate is renewed: as was decided, but not before `turnAt` (back-off), and never in a storm. */
export function renewAt(
  { attempts, renewal }: LifeRecord,
  certificate: Certificate,
  turnAt: number,
  now: number,
): number {
  const issued = attempts.filter(({ outcome, at }) => outcome === "issued" && at <= now + DAY_MS);
  const last = issued.at(-1)?.at ?? -Infinity;
  const soonest = last + Math.min(SHORTEST_RENEWAL_MS, Math.max(0, certificate.notAfter - last) / 3);
  const at = Math.max(renewal!.at, turnAt, soonest);
  const isEarly = at <= now && at < usualMoment(certificate, (length) => new Uint8Array(length));
  const today = issued.filter((one) => one.at > now - DAY_MS);
  return isEarly && today.length >= EARLY_RENEWALS_PER_DAY ? today.at(-EARLY_RENEWALS_PER_DAY)!.at + DAY_MS : at;
}

/** When the CA is asked for the moment it suggests. */
export function askAt({ renewal }: LifeRecord, now: number): number {
  return renewal!.askAt > now + LONGEST_ASK_MS ? now : renewal!.askAt;
}
