import type { SignIn } from "../coordination/sign-in.ts";
import { isInDomains, type OidcAttempt, OidcClient, type OidcClientOptions } from "../identity/oidc-client.ts";

export interface OidcOptions extends Omit<OidcClientOptions, "scope"> {
  /** People with a verified mail address there may join; users that exist may always. */
  readonly domains?: readonly string[];
}

/** Signing in at an OpenID Connect provider to let a device in. */
export class OidcProvider {
  readonly options: OidcOptions;
  readonly #redirectUri: string;
  readonly #client: OidcClient;

  constructor(options: OidcOptions, redirectUri: string) {
    this.options = options;
    this.#redirectUri = redirectUri;
    this.#client = new OidcClient(options);
  }

  mayJoin(mail: string): boolean {
    return isInDomains(mail, this.options.domains ?? []);
  }

  begin(): Promise<OidcAttempt> {
    return this.#client.begin(this.#redirectUri);
  }

  /** @throws {Fault} OIDC_REFUSED when the answer is not the one to `attempt`, or proves nobody */
  async finish(query: string, attempt: OidcAttempt): Promise<SignIn> {
    const { claims: _, ...person } = await this.#client.finish(query, attempt);
    return person;
  }
}
