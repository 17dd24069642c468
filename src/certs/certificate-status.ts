import { failuresOf } from "./attempts.ts";
import type { Certificate } from "./certificate.ts";
import type { LifeRecord } from "./life-record.ts";

export type CertificateState =
  /** Not ordered yet. */
  | "none"
  | "ordering"
  /** There, and valid by our clock; it may be in renewal. */
  | "valid"
  /** Not there; the last attempt failed and the next is at `nextAttempt`. */
  | "waiting"
  /** There, past its end, and nothing newer could be had. */
  | "expired";

/** What was observed of one wanted certificate; times are Unix ms. */
export interface CertificateStatus {
  readonly id: string;
  readonly names: readonly string[];
  readonly state: CertificateState;
  readonly notBefore?: number;
  readonly notAfter?: number;
  /** Hex, as the CA's pages show it. */
  readonly serial?: string;
  /** Which CA issued it. */
  readonly authority?: string;
  readonly renewAt?: number;
  /** Only after a failure. */
  readonly nextAttempt?: number;
  readonly lastFailure?: {
    readonly at: number;
    readonly authority: string;
    readonly code: string;
    readonly message: string;
  };
  /** When all of this was last looked at. */
  readonly observed: number;
}

export interface Observation {
  readonly id: string;
  readonly life: LifeRecord;
  readonly certificate: Certificate | undefined;
  readonly isOrdering: boolean;
  readonly nextAttempt: number;
  readonly observed: number;
  readonly now: number;
}

export function statusOf(seen: Observation): CertificateStatus {
  const { id, life, certificate, observed } = seen;
  const failure = failuresOf(life.attempts).findLast(({ outcome }) => outcome !== "begun");
  const { serial, authority, renewal } = life;
  return {
    id,
    names: life.names,
    state: stateOf(seen, failure !== undefined),
    ...(certificate && { notBefore: certificate.notBefore, notAfter: certificate.notAfter }),
    ...(certificate && serial !== undefined && { serial }),
    ...(certificate && authority !== undefined && { authority }),
    ...(certificate && renewal && { renewAt: renewal.at }),
    ...(failure && {
      nextAttempt: seen.nextAttempt,
      lastFailure: {
        at: failure.at,
        authority: failure.authority,
        code: failure.outcome,
        message: failure.message ?? "",
      },
    }),
    observed,
  };
}

function stateOf({ certificate, isOrdering, now }: Observation, hasFailed: boolean): CertificateState {
  if (certificate !== undefined && certificate.notAfter > now) return "valid";
  if (isOrdering) return "ordering";
  if (certificate !== undefined) return "expired";
  return hasFailed ? "waiting" : "none";
}
