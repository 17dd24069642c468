import type { Attempt } from "./attempts.ts";

const HOUR_MS = 3_600_000;
const WEEK_MS = 7 * 24 * HOUR_MS;

/** What a CA lets an account do. */
export interface RateLimits {
  readonly certificatesPerDomainWeek: number;
  readonly identicalWeek: number;
  readonly failuresPerNameHour: number;
  readonly ordersPerThreeHours: number;
}

/** https://letsencrypt.org/docs/rate-limits/ */
export const letsEncryptLimits: RateLimits = {
  certificatesPerDomainWeek: 50,
  identicalWeek: 5,
  failuresPerNameHour: 5,
  ordersPerThreeHours: 300,
};

/** Written by a clock that was wrong by more than that: nobody knows when it was. */
const CLOCK_AHEAD_MS = 24 * HOUR_MS;

const WINDOW_MS: Record<keyof RateLimits, number> = {
  certificatesPerDomainWeek: WEEK_MS,
  identicalWeek: WEEK_MS,
  failuresPerNameHour: HOUR_MS,
  ordersPerThreeHours: 3 * HOUR_MS,
};

/** What is left at one CA of one limit. */
export interface BudgetLine {
  readonly authority: string;
  readonly limit: keyof RateLimits;
  /** The domain, name or name set that is counted; absent: the account. */
  readonly subject?: string;
  readonly used: number;
  readonly allowed: number;
  /** Unix ms at which one more is free; only where nothing is left. */
  readonly freeAt?: number;
}

/** The attempts that were made for one set of names, by all who share the store. */
export interface NameHistory {
  readonly names: readonly string[];
  readonly attempts: readonly Attempt[];
}

/** What was used of each limit of `authority`, the fullest first. */
export function budgetOf(
  authority: string,
  limits: RateLimits,
  histories: readonly NameHistory[],
  now: number,
): readonly BudgetLine[] {
  const used = new Map<string, { limit: keyof RateLimits; subject?: string; at: number[] }>();
  const count = (limit: keyof RateLimits, subject: string | undefined, at: number): void => {
    if (at <= now - WINDOW_MS[limit] || at > now + CLOCK_AHEAD_MS) return;
    const key = `${limit} ${subject ?? ""}`;
    const line = used.get(key) ?? { limit, ...(subject === undefined ? {} : { subject }), at: [] };
    line.at.push(at);
    used.set(key, line);
  };
  for (const { names, attempts } of histories) {
    for (const attempt of attempts) {
      if (attempt.authority !== authority) continue;
      for (const { limit, subject } of usesOf(names, attempt)) count(limit, subject, attempt.at);
    }
  }
  const lines = [...used.values()].map(({ limit, subject, at }): BudgetLine => {
    const allowed = limits[limit];
    const freeAt = at.sort((a, b) => a - b)[at.length - allowed];
    return {
      authority,
      limit,
      ...(subject === undefined ? {} : { subject }),
      used: at.length,
      allowed,
      ...(freeAt === undefined ? {} : { freeAt: freeAt + WINDOW_MS[limit] }),
    };
  });
  return lines.sort((a, b) => a.allowed - a.used - (b.allowed - b.used));
}

/** The line that leaves no room for an order of `names`, the one that is full for the longest. */
export function fullLine(lines: readonly BudgetLine[], names: readonly string[]): BudgetLine | undefined {
  const subjects: Record<keyof RateLimits, readonly (string | undefined)[]> = {
    certificatesPerDomainWeek: names.map(registeredDomain),
    identicalWeek: [setOf(names)],
    failuresPerNameHour: names,
    ordersPerThreeHours: [undefined],
  };
  return lines
    .filter(({ limit, freeAt, subject }) => freeAt !== undefined && subjects[limit].includes(subject))
    .reduce<BudgetLine | undefined>(
      (latest, line) => (line.freeAt! > (latest?.freeAt ?? 0) ? line : latest),
      undefined,
    );
}

/**
 * The domain that limits count by: what somebody registered below a public suffix. The public suffix list is too large to
 * carry along; where this takes a wrong guess it counts too many certificates together, and orders too late, not too often.
 */
export function registeredDomain(name: string): string {
  const labels = name.replace(/^\*\./, "").split(".");
  const isSuffixOfTwo = /^(?:(?:ac|co|com|edu|gov|net|or|org)\.[a-z]{2}|ts\.net)$/.test(labels.slice(-2).join("."));
  return labels.slice(isSuffixOfTwo ? -3 : -2).join(".");
}

function usesOf(
  names: readonly string[],
  { outcome, replaces }: Attempt,
): readonly { limit: keyof RateLimits; subject?: string }[] {
  // RFC 9773 section 5: an order that names what it replaces is not counted.
  // What is under way may become a certificate.
  if (outcome === "issued" || outcome === "begun") {
    if (replaces) return [];
    const domains = [...new Set(names.map(registeredDomain))];
    return [
      { limit: "ordersPerThreeHours" },
      { limit: "identicalWeek", subject: setOf(names) },
      ...domains.map((subject) => ({ limit: "certificatesPerDomainWeek", subject }) as const),
    ];
  }
  const isRefusal = /^CERT_ORDER_(?:INVALID|UNPROVED)$/.test(outcome);
  const failures = isRefusal ? names.map((subject) => ({ limit: "failuresPerNameHour", subject }) as const) : [];
  return replaces ? failures : [{ limit: "ordersPerThreeHours" }, ...failures];
}

function setOf(names: readonly string[]): string {
  return [...names].sort().join(",");
}
