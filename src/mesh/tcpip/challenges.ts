const CHALLENGE_MS = 500;

/** A bounded number of answers to what may be forged (RFC 5961 section 7). */
export class Challenges {
  #at = -Infinity;

  allows(now: number): boolean {
    if (now - this.#at < CHALLENGE_MS) return false;
    this.#at = now;
    return true;
  }
}
