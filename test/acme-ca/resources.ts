import type { ServerResponse } from "node:http";
import type { Pkcs10CertificateRequest } from "@peculiar/x509";
import type { Issued } from "./issuer.ts";
import type { Jwk } from "./jws.ts";

export interface TestCaOptions {
  /** Unix time in ms by which certificates are dated. */
  readonly wall?: () => number;
  /** Of certificates, in ms. */
  readonly lifetime?: number;
  /** Lifetimes by profile. */
  readonly profiles?: Readonly<Record<string, number>>;
  /** HMAC keys (base64url) by key id; an account must be bound to one of them. */
  readonly externalAccounts?: Readonly<Record<string, string>>;
  /** What the CA sees when it looks; without it, it believes everything. */
  readonly validate?: (challenge: SeenChallenge) => boolean | Promise<boolean>;
}

export interface SeenChallenge {
  readonly type: string;
  /** Without `*.`. */
  readonly name: string;
  readonly token: string;
  readonly keyAuthorization: string;
}

export interface CaRequest {
  readonly method: string;
  /** Kind of resource, as the directory names it, or `order`, `authz`, `challenge`, `finalize`, `certificate`, `orders`. */
  readonly resource: string;
  readonly payload: Readonly<Record<string, unknown>> | undefined;
}

export interface CaAnswer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** An object is sent as JSON; a function writes what it likes. */
  readonly body?: string | object | ((response: ServerResponse) => unknown);
}

export interface CaAccount {
  readonly url: string;
  key: Jwk;
  status: "valid" | "deactivated" | "revoked";
  contact: unknown;
}

export interface CaAuthorization {
  readonly name: string;
  readonly isWildcard: boolean;
  status: string;
  error?: object;
  readonly token: string;
}

export interface CaOrder {
  readonly url: string;
  readonly account: CaAccount;
  readonly names: readonly string[];
  readonly profile: string | undefined;
  readonly replaces: string | undefined;
  status: string;
  readonly authorizations: readonly CaAuthorization[];
  request?: Pkcs10CertificateRequest;
  issued?: Issued;
}

export interface SuggestedWindow {
  readonly start: number;
  readonly end: number;
  /** Seconds. */
  readonly retryAfter?: number;
}
