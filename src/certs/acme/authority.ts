import type { Certificate } from "../certificate.ts";
import type { ChallengeSolver } from "../challenges/challenge.ts";

/** What an order has come to; written down at every step, so that a process that is killed goes on where it was. */
export interface OrderProgress {
  /** Of the order at the CA, once there is one. */
  readonly url?: string;
  /** PKCS #8 PEM of the key that the certificate will have. */
  readonly key: string;
}

export interface OrderRequest {
  readonly names: readonly string[];
  /** In order of preference. */
  readonly solvers: readonly ChallengeSolver[];
  readonly progress: OrderProgress;
  /** Settles when the progress is on disk; the order does not go on before. */
  save(progress: OrderProgress): Promise<void>;
  /** The chain that is renewed, told to the CA so that limits do not apply (RFC 9773 section 5). */
  readonly replaces?: string;
  /** Of the certificate, such as `shortlived` (draft-aaron-acme-profiles). */
  readonly profile?: string;
}

export interface RenewalWindow {
  /** Unix time in ms. */
  readonly start: number;
  readonly end: number;
  /** Ask again after so many ms. */
  readonly retryAfter: number;
}

/** A CA that speaks ACME, with our account there. Nothing here knows when to order: that is the keeper's. */
export interface Authority {
  /** Short and stable; names its account and its budget in the store. */
  readonly id: string;
  /** @throws {Fault} CERT_ORDER_…, with `retryAfter` where the CA said one */
  issue(request: OrderRequest, signal: AbortSignal): Promise<Certificate>;
  /** RFC 9773; undefined where the CA offers none or talks nonsense. */
  renewalWindow(chain: string, signal: AbortSignal): Promise<RenewalWindow | undefined>;
  revoke(chain: string, key: string, signal: AbortSignal): Promise<void>;
  rollAccountKey(signal: AbortSignal): Promise<void>;
}
