import { isIP } from "node:net";
import type * as OpenId from "openid-client";
import { Fault, messageOf } from "../base/fault.ts";
import type { SignIn } from "../coordination/sign-in.ts";

export interface OidcOptions {
  /** `https://id.example.com`. */
  readonly issuer: string;
  readonly clientId: string;
  readonly clientSecret: string;
  /** People with a verified mail address there may join; users that exist may always. */
  readonly domains?: readonly string[];
}

/** What must come back with the answer, kept by us: none of it is ever sent to the browser but as a digest or nonce. */
export interface OidcAttempt {
  readonly url: URL;
  readonly state: string;
  readonly nonce: string;
  readonly codeVerifier: string;
}

/** Signing in at an OpenID Connect provider: code flow with PKCE, state and nonce (OpenID Connect Core §3.1). */
export class OidcProvider {
  readonly options: OidcOptions;
  readonly #redirectUri: string;
  #ready: Promise<{ readonly oidc: typeof OpenId; readonly configuration: OpenId.Configuration }> | undefined;

  constructor(options: OidcOptions, redirectUri: string) {
    this.options = options;
    this.#redirectUri = redirectUri;
  }

  mayJoin(mail: string): boolean {
    const domain = mail.slice(mail.lastIndexOf("@") + 1).toLowerCase();
    return mail.includes("@") && (this.options.domains ?? []).some((allowed) => allowed.toLowerCase() === domain);
  }

  async begin(): Promise<OidcAttempt> {
    const { oidc, configuration } = await this.#discovered();
    const [state, nonce, codeVerifier] = [oidc.randomState(), oidc.randomNonce(), oidc.randomPKCECodeVerifier()];
    const url = oidc.buildAuthorizationUrl(configuration, {
      redirect_uri: this.#redirectUri,
      scope: "openid email profile",
      code_challenge: await oidc.calculatePKCECodeChallenge(codeVerifier),
      code_challenge_method: "S256",
      state,
      nonce,
    });
    return { url, state, nonce, codeVerifier };
  }

  /** @throws {Fault} OIDC_REFUSED when the answer is not the one to `attempt`, or proves nobody */
  async finish(query: string, { state, nonce, codeVerifier }: OidcAttempt): Promise<SignIn> {
    const { oidc, configuration } = await this.#discovered();
    try {
      const answer = new URL(this.#redirectUri);
      answer.search = query;
      const tokens = await oidc.authorizationCodeGrant(configuration, answer, {
        pkceCodeVerifier: codeVerifier,
        expectedState: state,
        expectedNonce: nonce,
        idTokenExpected: true,
      });
      const proved = tokens.claims()!;
      const told =
        proved["email"] === undefined
          ? await oidc.fetchUserInfo(configuration, tokens.access_token, proved.sub)
          : proved;
      return signInOf(proved.iss, proved.sub, told);
    } catch (thrown) {
      throw new Fault("OIDC_REFUSED", `Cannot sign in at "${this.options.issuer}": ${messageOf(thrown)}`, {
        cause: thrown,
        hint: "Start again from the device.",
      });
    }
  }

  /** Asked for when it is first needed, and again after a failure: the server starts without the provider. */
  async #discovered(): Promise<{ readonly oidc: typeof OpenId; readonly configuration: OpenId.Configuration }> {
    const { issuer, clientId, clientSecret } = this.options;
    this.#ready ??= (async () => {
      const oidc = await import("openid-client");
      const url = new URL(issuer);
      const isLocal = isLoopback(url.hostname);
      const options = isLocal ? { execute: [oidc.allowInsecureRequests] } : {};
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

function isLoopback(host: string): boolean {
  return host === "localhost" || host === "[::1]" || (isIP(host) === 4 && host.startsWith("127."));
}

/** `email_verified` counts only as the boolean: some providers send text, and "false" is a true text (matrix CS-5). */
export function signInOf(issuer: string, subject: string, claims: Readonly<Record<string, unknown>>): SignIn {
  const { email, email_verified: isVerified, name, picture } = claims;
  return {
    issuer,
    subject,
    mail: typeof email === "string" && isVerified === true ? email : undefined,
    ...(typeof name === "string" && name !== "" ? { displayName: name } : {}),
    ...(typeof picture === "string" && /^https:\/\/[^\s"'<>]{1,1000}$/.test(picture)
      ? { profilePicture: picture }
      : {}),
  };
}
