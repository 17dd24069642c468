import { z } from "zod";

const MOST_NAMES = 100;
const MOST_CHALLENGES = 20;
const MOST_LISTED = 1000;

/** RFC 8555 section 7.1.1, RFC 9773 section 4, draft-aaron-acme-profiles section 3. */
export interface DirectoryDocument {
  readonly newNonce: string;
  readonly newAccount: string;
  readonly newOrder: string;
  readonly revokeCert?: string | undefined;
  readonly keyChange?: string | undefined;
  readonly renewalInfo?: string | undefined;
  readonly meta?:
    | {
        readonly termsOfService?: string | undefined;
        readonly externalAccountRequired?: boolean | undefined;
        readonly profiles?: Readonly<Record<string, unknown>> | undefined;
      }
    | undefined;
}

/** RFC 8555 section 7.1.2. */
export interface AccountDocument {
  readonly status: string;
  readonly orders?: string | undefined;
}

/** RFC 8555 section 7.1.2.1. */
export interface OrderList {
  readonly orders: readonly string[];
}

interface Problem {
  readonly type?: string | undefined;
  readonly detail?: string | undefined;
}

interface Identifier {
  readonly type: string;
  readonly value: string;
}

/** RFC 8555 section 7.1.3. */
export interface OrderDocument {
  readonly url: string;
  readonly status: string;
  readonly expires?: string | undefined;
  readonly identifiers: readonly Identifier[];
  readonly authorizations: readonly string[];
  readonly finalize: string;
  readonly certificate?: string | undefined;
  readonly error?: Problem | undefined;
}

/** RFC 8555 section 8. */
export interface ChallengeDocument {
  readonly type: string;
  readonly url?: string | undefined;
  readonly status?: string | undefined;
  readonly token?: string | undefined;
  readonly error?: Problem | undefined;
}

/** RFC 8555 section 7.1.4. */
export interface AuthorizationDocument {
  readonly status: string;
  readonly identifier: Identifier;
  readonly wildcard?: boolean | undefined;
  readonly challenges: readonly ChallengeDocument[];
}

const url = z.string().max(2048);
const state = z.string().max(64);
const problem = z.object({ type: z.string().optional(), detail: z.string().optional() });
const identifier = z.object({ type: z.string(), value: z.string().max(255) });

export const directoryDocument: z.ZodType<DirectoryDocument> = z.object({
  newNonce: url,
  newAccount: url,
  newOrder: url,
  revokeCert: url.optional(),
  keyChange: url.optional(),
  renewalInfo: url.optional(),
  meta: z
    .object({
      termsOfService: url.optional(),
      externalAccountRequired: z.boolean().optional(),
      profiles: z.record(z.string(), z.unknown()).optional(),
    })
    .optional(),
});

export const accountDocument: z.ZodType<AccountDocument> = z.object({ status: state, orders: url.optional() });

export const orderList: z.ZodType<OrderList> = z.object({ orders: z.array(url).max(MOST_LISTED) });

export const orderDocument: z.ZodType<OrderDocument> = z.object({
  url,
  status: state,
  expires: z.string().optional(),
  identifiers: z.array(identifier).max(MOST_NAMES),
  authorizations: z.array(url).max(MOST_NAMES),
  finalize: url,
  certificate: url.optional(),
  error: problem.optional(),
});

const challenge = z.object({
  type: z.string(),
  url: url.optional(),
  status: state.optional(),
  token: z.string().max(512).optional(),
  error: problem.optional(),
});

export const authorizationDocument: z.ZodType<AuthorizationDocument> = z.object({
  status: state,
  identifier,
  wildcard: z.boolean().optional(),
  challenges: z.array(challenge).max(MOST_CHALLENGES),
});
