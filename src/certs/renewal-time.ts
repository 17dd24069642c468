import type { Random } from "../base/random.ts";
import type { RenewalWindow } from "./acme/authority.ts";
import type { Certificate } from "./certificate.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const SHORT_LIFE_MS = 10 * DAY_MS;
const SHORTEST_ASK_MS = 60_000;
const LONGEST_ASK_MS = DAY_MS;
/** RFC 9773 section 4.3.3: where the CA says nothing. Twice a day at least. */
const USUAL_ASK_MS = 6 * HOUR_MS;
const LONGEST_JITTER_MS = DAY_MS;

/** When a certificate is renewed; decided once and kept in the store, so that restarts do not draw lots again. */
export interface Renewal {
  /** Unix time in ms. */
  readonly at: number;
  /** That the CA suggested; absent: our own rule. */
  readonly window?: { readonly start: number; readonly end: number };
  /** When the CA is asked (again) whether it suggests one. */
  readonly askAt: number;
}

type Life = Pick<Certificate, "notBefore" | "notAfter">;

/**
 * Where a CA suggests nothing: when a third of the life is left, half of one shorter than ten days (Let's Encrypt's
 * integration guide), and up to a fiftieth of it later, to the second, so that many do not come at once.
 */
export function usualMoment({ notBefore, notAfter }: Life, random: Random): number {
  const life = notAfter - notBefore;
  const left = life < SHORT_LIFE_MS ? life / 2 : life / 3;
  return notAfter - left + wholeSeconds(Math.min(life / 50, LONGEST_JITTER_MS), random);
}

/** Before the CA was asked. */
export function firstRenewal(life: Life, now: number, random: Random): Renewal {
  return { at: usualMoment(life, random), askAt: now };
}

/**
 * What follows from the CA's answer (RFC 9773 section 4.2): any moment of its window, a window that is past means now. The
 * moment stays while it lies in what is suggested. A window that ends after the certificate, or is none, is not followed.
 */
export function renewalAfter(
  current: Renewal,
  life: Life,
  answer: RenewalWindow | undefined,
  now: number,
  random: Random,
): Renewal {
  const asked = Math.min(Math.max(answer?.retryAfter ?? USUAL_ASK_MS, SHORTEST_ASK_MS), LONGEST_ASK_MS);
  const askAt = now + asked + wholeSeconds(asked / 20, random);
  const isSound = answer !== undefined && answer.end > answer.start && answer.end < life.notAfter;
  if (!isSound) {
    return current.window === undefined ? { at: current.at, askAt } : { at: usualMoment(life, random), askAt };
  }
  const window = { start: answer.start, end: answer.end };
  const stays = current.window !== undefined && current.at >= window.start && current.at <= window.end;
  return { at: stays ? current.at : window.start + wholeSeconds(window.end - window.start, random), window, askAt };
}

/** 0 to `limit` ms, in steps of a second. */
function wholeSeconds(limit: number, random: Random): number {
  const draw = Buffer.from(random(6)).readUIntBE(0, 6) / 2 ** 48;
  return Math.floor((draw * limit) / 1000) * 1000;
}
