import { randomBytes } from "node:crypto";
import type { Clock } from "../../base/clock.ts";
import type { OidcAttempt } from "../../identity/oidc-client.ts";
import { visitorNetwork } from "./guess-limits.ts";
import { tokenDigest } from "./secret-hash.ts";

const LIFE_MS = 10 * 60_000;
const MOST = 4096;
/** Behind one address may sit a whole office, all of whom begin their day. */
const MOST_OF_A_VISITOR = 64;

/** A visitor on the way to a provider and back. */
export interface SignIn {
  readonly door: string;
  readonly to: string;
  readonly attempt: OidcAttempt;
}

interface Kept extends SignIn {
  readonly network: string;
  readonly until: number;
}

/** By the secret in the visitor's cookie and the state that the provider gives back; an answer counts once. */
export class SignIns {
  readonly #clock: Clock;
  readonly #kept: Map<string, Kept> = new Map();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** `before`: what the browser has of another attempt, perhaps in another tab; both go on. */
  begin(signIn: SignIn, address: string, before?: string): string {
    this.#prune();
    const network = visitorNetwork(address);
    const own = [...this.#kept].filter(([, kept]) => kept.network === network);
    if (own.length >= MOST_OF_A_VISITOR) this.#kept.delete(own[0]![0]); // the oldest
    // Many visitors at once must lock nobody out: who began longest ago makes room.
    if (this.#kept.size >= MOST) this.#kept.delete(this.#kept.keys().next().value!);
    const secret = before ?? randomBytes(32).toString("base64url");
    const until = this.#clock.now() + LIFE_MS;
    this.#kept.set(keyOf(secret, signIn.attempt.state), { ...signIn, network, until });
    return secret;
  }

  take(secret: string, state: string): SignIn | undefined {
    this.#prune();
    const key = keyOf(secret, state);
    const found = this.#kept.get(key);
    this.#kept.delete(key);
    return found;
  }

  #prune(): void {
    const now = this.#clock.now();
    for (const [digest, { until }] of this.#kept) {
      if (until > now) break; // in order of time
      this.#kept.delete(digest);
    }
  }
}

const keyOf = (secret: string, state: string): string => tokenDigest(`${secret} ${state}`);
