import type { Random } from "../base/random.ts";

const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;
/** Let's Encrypt's integration guide: 1, 10, 100 minutes, then once a day. */
const DELAYS_MS: readonly number[] = [MINUTE_MS, 10 * MINUTE_MS, 100 * MINUTE_MS, DAY_MS];
/** Of one CA, before the next is asked. */
const FAILURES_PER_AUTHORITY = 3;
const HISTORY_MS = 7 * DAY_MS;
const MOST_ATTEMPTS = 200;
/** Of gateways that share a store. */
const CLOCK_SKEW_MS = 10 * MINUTE_MS;
const LONGEST_RETRY_AFTER_MS = HISTORY_MS;

/** One attempt to get one certificate; times are Unix ms. */
export interface Attempt {
  readonly at: number;
  readonly authority: string;
  /** `issued`, the code of the fault, or `begun`: written before the CA is asked, so that a crash counts too. */
  readonly outcome: string;
  readonly message?: string | undefined;
  /** No attempt before that. */
  readonly retryAt?: number | undefined;
  /** None at this CA before that: it said so. */
  readonly blockedUntil?: number | undefined;
  /** The CA was told which certificate it replaces, and does not count it (RFC 9773 section 5). */
  readonly replaces?: true | undefined;
}

export interface Turn {
  readonly authority: string;
  /** Not before; 0: at once. */
  readonly at: number;
}

/** Attempts since the last one that brought a certificate. */
export function failuresOf(attempts: readonly Attempt[]): readonly Attempt[] {
  return attempts.slice(attempts.findLastIndex(({ outcome }) => outcome === "issued") + 1);
}

/**
 * When the next attempt is, and at which CA: the first in order that has not failed three times in a row, else the one
 * whose last failure is longest ago. `resting` ones come after the others.
 */
export function nextTurn(
  attempts: readonly Attempt[],
  authorities: readonly string[],
  resting: ReadonlySet<string>,
  now: number,
): Turn {
  const failures = failuresOf(attempts).filter(({ authority }) => authorities.includes(authority));
  const last = failures.at(-1);
  if (last === undefined) return { authority: choose([], authorities, resting, now), at: 0 };
  // A process that ended in the middle of an attempt goes on at once; the second time it waits as after a failure.
  const isInterrupted = (attempt: Attempt): boolean => attempt.outcome === "begun";
  if (isInterrupted(last) && failures.filter(isInterrupted).length === 1) return { authority: last.authority, at: 0 };
  const authority = choose(failures, authorities, resting, now);
  const blocked = blockedUntil(failures, authority);
  return { authority, at: Math.max(last.retryAt ?? last.at + delayAfter(failures, authorities), blocked) };
}

/** The attempt that `begun` came to. */
export function failed(
  attempts: readonly Attempt[],
  authorities: readonly string[],
  outcome: { readonly code: string; readonly message: string; readonly retryAfter: number | undefined },
  now: number,
  random: Random,
): Attempt {
  const last = attempts.at(-1)!;
  const { code, message, retryAfter } = outcome;
  const delay = delayAfter(failuresOf(attempts), authorities);
  const jitter = (random(1)[0]! / 255) * 0.05 * delay; // a CA that was down is not greeted by all names in one second
  return {
    at: last.at,
    authority: last.authority,
    outcome: code,
    message,
    retryAt: now + delay + jitter,
    ...(retryAfter === undefined ? {} : { blockedUntil: now + Math.min(retryAfter, LONGEST_RETRY_AFTER_MS) }),
    ...(last.replaces === undefined ? {} : { replaces: last.replaces }),
  };
}

/** What is worth keeping: the longest period that a limit counts. */
export function recent(attempts: readonly Attempt[], now: number): readonly Attempt[] {
  return attempts.filter(({ at }) => at > now - HISTORY_MS).slice(-MOST_ATTEMPTS);
}

function choose(
  failures: readonly Attempt[],
  authorities: readonly string[],
  resting: ReadonlySet<string>,
  now: number,
): string {
  const awake = authorities.filter((id) => !resting.has(id) && blockedUntil(failures, id) <= now);
  const able = awake.length > 0 ? awake : authorities;
  const of = (id: string): readonly Attempt[] => failures.filter(({ authority }) => authority === id);
  const lastAt = (id: string): number => of(id).at(-1)?.at ?? 0;
  return (
    able.find((id) => of(id).length < FAILURES_PER_AUTHORITY) ??
    able.reduce((oldest, id) => (lastAt(id) < lastAt(oldest) ? id : oldest))
  );
}

/** The move to another CA is no reason to wait long: it has not refused anything yet. */
function delayAfter(failures: readonly Attempt[], authorities: readonly string[]): number {
  const tried = new Set(failures.map(({ authority }) => authority));
  const atLast = failures.filter(({ authority }) => authority === failures.at(-1)!.authority).length;
  const isFresh = authorities.some((id) => !tried.has(id));
  if (isFresh && atLast >= FAILURES_PER_AUTHORITY) return DELAYS_MS[0]!;
  const step = failures.length - (tried.size - 1);
  return DELAYS_MS[Math.min(Math.max(step, 1), DELAYS_MS.length) - 1]!;
}

/** 0 when the CA did not ask to be left alone. */
export function blockedUntil(failures: readonly Attempt[], authority: string): number {
  const times = failures
    .filter((failure) => failure.authority === authority && failure.blockedUntil !== undefined)
    .map((failure) => failure.blockedUntil!);
  return Math.max(0, ...times);
}

/**
 * What a clock wrote that was ahead, as if it were of now: a wait of a minute must not become one of a month. The same
 * attempts when there is nothing of the kind.
 */
export function broughtBack(attempts: readonly Attempt[], now: number): readonly Attempt[] {
  if (!attempts.some(({ at }) => at > now + CLOCK_SKEW_MS)) return attempts;
  return attempts.map((attempt) => {
    const ahead = attempt.at - now;
    if (ahead <= CLOCK_SKEW_MS) return attempt;
    const { retryAt, blockedUntil: blocked } = attempt;
    return {
      ...attempt,
      at: now,
      ...(retryAt === undefined ? {} : { retryAt: retryAt - ahead }),
      ...(blocked === undefined ? {} : { blockedUntil: blocked - ahead }),
    };
  });
}
