import type { Certificate } from "../certificate.ts";
import type { ChallengeSolver } from "../challenges/challenge.ts";

/** What an order has come to; written down at every step, so that a process that is killed goes on where it was. */
export interface OrderProgress {
  /** PKCS #8 PEM of the key that the certificate will have. */
  readonly key: string;
  /** Written before the order is asked for: the CA may have one whose URL we have not heard. */
  readonly asked?: true;
  /** Of the order at the CA, once there is one. */
  readonly url?: string;
}

export interface OrderRequest {
  /** Lower case, without the trailing dot. */
  readonly names: readonly string[];
  /** In order of preference. */
  readonly solvers: readonly ChallengeSolver[];
  readonly progress: OrderProgress;
  /** Settles when the progress is on disk; the order does not go on before. */
  save(progress: OrderProgress): Promise<void>;
  /** The chain that is renewed, told to the CA so that limits do not apply (RFC 9773 section 5). */
  readonly replaces?: string;
  /** Of the certificate, such as `shortlived` (draft-aaron-acme-profiles); goes before the authority's own. */
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
  /**
   * Takes 15 minutes at most; an order that is not done by then goes on in the next call.
   * @throws {AuthorityFault} CERT_ORDER_…, with `retryAfter` where the CA said one
   * @throws {Fault} CERT_ACCOUNT_…, CERT_CHALLENGE_…
   */
  issue(request: OrderRequest, signal: AbortSignal): Promise<Certificate>;
  /** RFC 9773; undefined where the CA offers none or talks nonsense. */
  renewalWindow(chain: string, signal: AbortSignal): Promise<RenewalWindow | undefined>;
  revoke(chain: string, key: string, signal: AbortSignal): Promise<void>;
  /** Of our account, for a CAA record (RFC 8657); the account is made if there is none. */
  accountUrl(signal: AbortSignal): Promise<string>;
  rollAccountKey(signal: AbortSignal): Promise<void>;
}
