import type tls from "node:tls";
import type { Clock } from "../../base/clock.ts";

const MOST_SESSIONS = 256;
/** By then a backend shows its certificate again, whatever it allows. */
const SESSION_MS = 10 * 60_000;

interface Kept {
  readonly session: Buffer;
  /** Of the handshake in which the certificate was seen. */
  readonly verifiedAt: number;
}

/**
 * Sessions with backends: to go on with one costs a fraction of a handshake, and a request with a body has a connection of its
 * own. A certificate is not shown again then, so a key must say all that its verification depends on.
 */
export class TlsSessions {
  readonly #clock: Clock;
  readonly #byKey: Map<string, Kept> = new Map();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  of(key: string): Buffer | undefined {
    const kept = this.#byKey.get(key);
    if (kept === undefined || this.#clock.now() - kept.verifiedAt < SESSION_MS) return kept?.session;
    this.#byKey.delete(key);
    return undefined;
  }

  /** Keeps what a new connection brings; none of a backend that was not verified as it had to be. */
  follow(secure: tls.TLSSocket, key: string): void {
    const before = this.#byKey.get(key);
    let isVerified = false;
    let latest: Buffer | undefined; // by TLS 1.2 it is there before the certificate was looked at
    let verifiedAt = this.#clock.now();
    const keep = (): void => {
      if (isVerified && latest !== undefined) this.#keep(key, { session: latest, verifiedAt });
    };
    secure.on("session", (session) => {
      latest = session;
      keep();
    });
    secure.once("secureConnect", () => {
      isVerified = true;
      if (secure.isSessionReused()) verifiedAt = before?.verifiedAt ?? Number.NEGATIVE_INFINITY;
      keep();
    });
    secure.once("error", () => {
      if (!isVerified) this.#byKey.delete(key);
    });
  }

  #keep(key: string, kept: Kept): void {
    const [oldest] = this.#byKey.keys();
    if (oldest !== undefined && this.#byKey.size >= MOST_SESSIONS && !this.#byKey.has(key)) this.#byKey.delete(oldest);
    this.#byKey.set(key, kept);
  }
}
