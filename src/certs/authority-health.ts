const FAILURES_UNTIL_REST = 3;
const REST_MS = 3_600_000;
/** What says something about the CA, not about the name. */
const OF_THE_AUTHORITY = /^CERT_(?:ACCOUNT_\w+|ORDER_(?:UNREACHABLE|RATE_LIMITED|NONSENSE|TIMEOUT))$/;

/** Which CAs are better left alone for now, learnt from orders for all names: the thousandth need not fail three times too. */
export class AuthorityHealth {
  readonly #failures: Map<string, { count: number; restUntil: number }> = new Map();

  /** `now` is monotonic. */
  failed(authority: string, code: string, retryAfter: number | undefined, now: number): void {
    if (!OF_THE_AUTHORITY.test(code)) {
      this.worked(authority);
      return;
    }
    const count = (this.#failures.get(authority)?.count ?? 0) + 1;
    const restUntil = count >= FAILURES_UNTIL_REST ? now + Math.max(retryAfter ?? 0, REST_MS) : 0;
    this.#failures.set(authority, { count, restUntil });
  }

  /** It answered, if only to refuse a name. */
  worked(authority: string): void {
    this.#failures.delete(authority);
  }

  resting(now: number): ReadonlySet<string> {
    const found = [...this.#failures].filter(([, { restUntil }]) => restUntil > now);
    return new Set(found.map(([authority]) => authority));
  }
}
