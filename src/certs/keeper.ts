import type { Clock } from "../base/clock.ts";
import type { Fault } from "../base/fault.ts";
import type { Log } from "../base/log.ts";
import type { Random } from "../base/random.ts";
import type { Authority } from "./acme/authority.ts";
import type { BudgetLine, RateLimits } from "./budget.ts";
import type { Certificate } from "./certificate.ts";
import type { KeyType } from "./certificate-key.ts";
import type { CertificateStatus } from "./certificate-status.ts";
import type { ChallengeSolver } from "./challenges/challenge.ts";
import type { CertificateStore } from "./store/certificate-store.ts";

export type { BudgetLine, RateLimits } from "./budget.ts";
export type { CertificateState, CertificateStatus } from "./certificate-status.ts";

/** One certificate that is to exist. */
export interface WantedCertificate {
  /** The first one names it. Lower case, `*.` only in front. */
  readonly names: readonly string[];
  /** `ahead`: ordered as soon as it is wanted. `needed`: when `obtain` is first called for one of its names. */
  readonly when: "ahead" | "needed";
  /** Of the key. */
  readonly keyType?: KeyType;
  /** Of the certificate at the CA, such as `shortlived`. */
  readonly profile?: string;
}

export interface KeeperOptions {
  readonly store: CertificateStore;
  /** In order of preference: the next is used once the one before has failed three times. */
  readonly authorities: readonly Authority[];
  /** In order of preference. */
  readonly solvers: readonly ChallengeSolver[];
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** PEM of the roots that a chain must end at; absent: any. */
  readonly roots?: readonly string[];
  /** What a CA allows, by its `id`; undefined: not known, nothing is counted. Absent: those of Let's Encrypt for every CA. */
  readonly limits?: (authority: string) => RateLimits | undefined;
}

export interface KeeperCounts {
  /** Orders by CA and by how they ended: `issued`, or the code of the fault. */
  readonly orders: readonly { readonly authority: string; readonly outcome: string; readonly count: number }[];
  readonly renewalQueries: number;
}

export type KeeperEvent =
  | { readonly kind: "asked"; readonly names: readonly string[]; readonly renewAt: number }
  | { readonly kind: "ordering"; readonly names: readonly string[]; readonly authority: string }
  | { readonly kind: "issued"; readonly names: readonly string[]; readonly authority: string }
  /** Served from now on: a new one, or what was in the store. */
  | { readonly kind: "installed"; readonly names: readonly string[]; readonly certificate: Certificate }
  | { readonly kind: "failed"; readonly names: readonly string[]; readonly authority: string; readonly fault: Fault };

export interface ObtainOptions {
  /** Renew now when less than so many ms of life are left (`tailscale cert --min-validity`). */
  readonly minValidity?: number;
  readonly signal?: AbortSignal;
}

/**
 * Looks after certificates for as long as it is open: obtains, renews, checks and shares them. It orders for the wanted
 * names and for no others, whoever asks.
 */
export interface CertificateKeeper {
  /**
   * Replaces what is wanted. What is in the store is loaded when the promise settles; orders go on behind it. Names that
   * are no longer wanted are not served and not renewed; their certificates stay in the store.
   * @throws {Fault} CERT_NAME
   */
  want(wanted: readonly WantedCertificate[]): Promise<void>;

  /**
   * What to present for a server name: an exact match, else the wildcard above it. Synchronous, from memory, for every
   * hello of every stranger: it never orders. Key and chain are of one object that is never changed, so a swap cannot
   * mix them.
   */
  certificate(serverName: string): Certificate | undefined;

  /**
   * The certificate for a wanted name, ordered first when there is none (callers of one name share the order). A valid one
   * is returned at once, also when it is due for renewal.
   * @throws {Fault} CERT_NAME_UNKNOWN, CERT_WAITING (back-off; says until when), CERT_ORDER_…, CERT_REJECTED
   */
  obtain(name: string, options?: ObtainOptions): Promise<Certificate>;

  /** By hand: a new certificate now, whatever the back-off says; only a CA's own Retry-After is obeyed. */
  renew(name: string, options?: { readonly signal?: AbortSignal }): Promise<Certificate>;

  /** Tells the CA that issued it, forgets it, and orders another if it is wanted ahead. */
  revoke(name: string, options?: { readonly signal?: AbortSignal }): Promise<void>;

  /** Wanted ones, in the order of their names. */
  list(): readonly CertificateStatus[];

  /** Of every CA, from the history in the store: what was used and what is left. */
  budget(): Promise<readonly BudgetLine[]>;

  counts(): KeeperCounts;

  /** Settles when nothing is under way; more may begin at any time. */
  idle(): Promise<void>;

  /** The result stops it. A listener that throws is logged and goes on. */
  subscribe(listener: (event: KeeperEvent) => void): () => void;

  /** Ends orders in flight (they are taken up by the next process); the store stays open. */
  close(): Promise<void>;
}
