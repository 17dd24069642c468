import type { SecureContext } from "node:tls";
import type { Clock } from "../../base/clock.ts";
import type { Certificate } from "../../certs/certificate.ts";
import { CONTEXT_LIFE_MS, serverContext } from "../../proxy/tls/tls-context.ts";

/** Below one wildcard there may be any number of names. */
const MOST_CONTEXTS = 1024;

interface Made {
  readonly certificate: Certificate;
  readonly context: SecureContext;
  readonly at: number;
}

/**
 * One TLS context for each name that is asked for, made anew with every new certificate and after twelve hours: names that
 * share a certificate share no session tickets, and the tickets' keys rotate (TL-5).
 */
export class CertificateContexts {
  readonly #clock: Clock;
  /** In the order of their making. */
  readonly #made: Map<string, Made> = new Map();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  of(name: string, certificate: Certificate, asksClients: boolean = false): SecureContext {
    const key = asksClients ? `${name} asks` : name; // no name has a blank
    const known = this.#made.get(key);
    if (known?.certificate === certificate && this.#clock.now() - known.at < CONTEXT_LIFE_MS) return known.context;
    this.#made.delete(key);
    if (this.#made.size >= MOST_CONTEXTS) this.#made.delete(this.#made.keys().next().value ?? "");
    const context = serverContext({ ...certificate, asksClients });
    this.#made.set(key, { certificate, context, at: this.#clock.now() });
    return context;
  }
}
