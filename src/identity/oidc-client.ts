import { isIP } from "node:net";
import type * as OpenId from "openid-client";
import { readAtMost } from "../base/bounded-read.ts";
import { Fault, messageOf } from "../base/fault.ts";

export interface OidcClientOptions {
  /** `https://id.example.com`. */
  readonly issuer: string;
  readonly clientId: string;
  readonly clientSecret: string;
  /** @default "openid email profile" */
  readonly scope?: string;
  /** A claim that is asked of userinfo when the ID token has it not, beside `email`. */
  readonly wantedClaim?: string;
}

/** What must come back with the answer, kept by us: none of it is ever sent to the browser but as a digest or nonce. */
export interface OidcAttempt {
  readonly url: URL;
  readonly redirectUri: string;
  readonly state: string;
  readonly nonce: string;
  readonly codeVerifier: string;
}

/** Whom a provider has proved. */
export interface OidcPerson {
  readonly issuer: string;
  readonly subject: string;
  /** A mail address that the provider has verified. */
  readonly mail: string | undefined;
  readonly displayName?: string;
  readonly profilePicture?: string;
  /** Everything that it says, of the ID token and, where that lacks what is wanted, of userinfo. */
  readonly claims: Readonly<Record<string, unknown>>;
}

/** Signing in at an OpenID Connect provider: code flow with PKCE, state and nonce (OpenID Connect Core §3.1). */
export class OidcClient {
  readonly #options: OidcClientOptions;
  #ready: Promise<{ readonly oidc: typeof OpenId; readonly configuration: OpenId.Configuration }> | undefined;

  constructor(options: OidcClientOptions) {
    this.#options = options;
  }

  /** @throws {Fault} OIDC_UNREACHABLE */
  async begin(redirectUri: string): Promise<OidcAttempt> {
    const { oidc, configuration } = await this.#discovered();
    const [state, nonce, codeVerifier] = [oidc.randomState(), oidc.randomNonce(), oidc.randomPKCECodeVerifier()];
    const url = oidc.buildAuthorizationUrl(configuration, {
      redirect_uri: redirectUri,
      scope: this.#options.scope ?? "openid email profile",
      code_challenge: await oidc.calculatePKCECodeChallenge(codeVerifier),
      code_challenge_method: "S256",
      state,
      nonce,
    });
    return { url, redirectUri, state, nonce, codeVerifier };
  }

  /** @throws {Fault} OIDC_REFUSED when the answer is not the one to `attempt`, or proves nobody */
  async finish(query: string, { redirectUri, state, nonce, codeVerifier }: OidcAttempt): Promise<OidcPerson> {
    const { oidc, configuration } = await this.#discovered();
    try {
      const answer = new URL(redirectUri);
      answer.search = query;
      const tokens = await oidc.authorizationCodeGrant(configuration, answer, {
        pkceCodeVerifier: codeVerifier,
        expectedState: state,
        expectedNonce: nonce,
        idTokenExpected: true,
      });
      const proved = tokens.claims()!;
      const { wantedClaim = "email" } = this.#options;
      const isEnough = proved["email"] !== undefined && proved[wantedClaim] !== undefined;
      // Whoever has no such place has said all in the token.
      const hasMore = configuration.serverMetadata().userinfo_endpoint !== undefined;
      const told =
        isEnough || !hasMore
          ? proved
          : bothSaid(proved, await oidc.fetchUserInfo(configuration, tokens.access_token, proved.sub));
      if (proved.sub.length > LONGEST_SUBJECT) throw new Error(`the subject has ${proved.sub.length} characters`);
      return personOf(proved.iss, proved.sub, told);
    } catch (thrown) {
      this.#ready = undefined; // what it says of itself may be another thing by now
      throw new Fault("OIDC_REFUSED", `Cannot sign in at "${this.#options.issuer}": ${messageOf(thrown)}`, {
        cause: thrown,
        hint: "Start again.",
      });
    }
  }

  /** Asked for when it is first needed, and again after a failure: we start without the provider. */
  async #discovered(): Promise<{ readonly oidc: typeof OpenId; readonly configuration: OpenId.Configuration }> {
    const { issuer, clientId, clientSecret } = this.#options;
    this.#ready ??= (async () => {
      const oidc = await import("openid-client");
      const url = new URL(issuer);
      const isLocal = isLoopback(url.hostname);
      const options = {
        [oidc.customFetch]: boundedFetch,
        ...(isLocal ? { execute: [oidc.allowInsecureRequests] } : {}),
      };
      return { oidc, configuration: await oidc.discovery(url, clientId, clientSecret, undefined, options) };
    })();
    try {
      return await this.#ready;
    } catch (thrown) {
      this.#ready = undefined;
      throw new Fault("OIDC_UNREACHABLE", `Cannot ask the provider "${issuer}": ${messageOf(thrown)}`, {
        cause: thrown,
        hint: "Look whether its /.well-known/openid-configuration can be read from here.",
      });
    }
  }
}

const LARGEST_ANSWER_BYTES = 1024 * 1024;
/** OpenID Connect Core §2. */
const LONGEST_SUBJECT = 255;
const LONGEST_NAME = 256;

/** What a provider says of itself and of a person is some KiB; whoever says more is not listened to. `openid-client` hands on only a `TypeError` with its words. */
const boundedFetch: OpenId.CustomFetch = async (url, options) => {
  const response = await fetch(url, options as RequestInit).catch((thrown: unknown) => {
    const { cause } = Object(thrown) as { readonly cause?: unknown };
    throw cause instanceof Error ? new TypeError(cause.message, { cause: thrown }) : thrown; // "fetch failed" says nothing
  });
  if (response.body === null) return response;
  const body = await readAtMost(response.body, LARGEST_ANSWER_BYTES);
  if (body === undefined) throw new TypeError(`it answered with more than ${LARGEST_ANSWER_BYTES} bytes`);
  const { status, statusText, headers } = response;
  return new Response(new Uint8Array(body), { status, statusText, headers });
};

function isLoopback(host: string): boolean {
  return host === "localhost" || host === "[::1]" || (isIP(host) === 4 && host.startsWith("127."));
}

type Claims = Readonly<Record<string, unknown>>;

/** `email_verified` is of the address that it stands beside: that of the token says nothing of another one in userinfo. */
export function bothSaid(proved: Claims, more: Claims): Claims {
  const { email, email_verified: isVerified } = more["email"] === undefined ? proved : more;
  return { ...proved, ...more, email, email_verified: isVerified };
}

/** One plain address: what programs read in two ways (quotes, comments, blanks, two `@`) names nobody. */
const MAIL = /^[^\s\p{C}@"(),:;<>[\]\\]{1,64}@[^\s\p{C}@"(),:;<>[\]\\]{1,255}$/u;

/** `email_verified` counts only as the boolean: some providers send text, and "false" is a true text (matrix CS-5). */
export function personOf(issuer: string, subject: string, claims: Readonly<Record<string, unknown>>): OidcPerson {
  const { email, email_verified: isVerified, name, picture } = claims;
  return {
    issuer,
    subject,
    mail: typeof email === "string" && isVerified === true && MAIL.test(email) ? email : undefined,
    ...(typeof name === "string" && name !== "" && name.length <= LONGEST_NAME ? { displayName: name } : {}),
    ...(typeof picture === "string" && /^https:\/\/[^\s"'<>]{1,1000}$/.test(picture)
      ? { profilePicture: picture }
      : {}),
    claims,
  };
}

/** Is this mail address in one of these domains? Compared whole: `example.com` is not in `com`. */
export function isInDomains(mail: string, domains: readonly string[]): boolean {
  const at = mail.lastIndexOf("@");
  const domain = foldMail(mail.slice(at + 1));
  return at > 0 && domains.some((allowed) => foldMail(allowed) === domain);
}

/** For comparing. ASCII letters alone have two cases here: the small letter of U+212A, Kelvin's sign, is `k`. */
export function foldMail(mail: string): string {
  return mail.replace(/[A-Z]/g, (letter) => letter.toLowerCase());
}
