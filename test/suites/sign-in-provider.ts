import { createServer } from "node:http";
import Provider from "oidc-provider";
import { listening } from "./listening.ts";

/** An OpenID Connect provider (the npm package `oidc-provider`) that signs in whom the test says, without asking. */
export interface SignInProvider {
  readonly issuer: string;
  /** Who sits before the browser. */
  account: string;
  /** Where it may send browsers back to; nobody is answered before that is said. */
  returnTo(redirect: string): void;
  close(): void;
}

export const PROVIDER_CLIENT = { id: "gate", secret: "secret-of-the-client" } as const;

/** `accounts`: what it says of each; the first one sits there. */
export async function openSignInProvider(
  accounts: Readonly<Record<string, Readonly<Record<string, unknown>>>>,
): Promise<SignInProvider> {
  const http = createServer();
  const issuer = `http://127.0.0.1:${await listening(http)}`;
  const opened: SignInProvider = {
    issuer,
    account: Object.keys(accounts)[0]!,
    returnTo(redirect) {
      const provider = providerOf(issuer, redirect, accounts);
      const answer = provider.callback();
      http.on("request", (request, response) => {
        if (!request.url!.startsWith("/interaction/")) void answer(request, response);
        else void provider.interactionFinished(request, response, { login: { accountId: opened.account } });
      });
    },
    close() {
      http.closeAllConnections();
      http.close();
    },
  };
  return opened;
}

function providerOf(
  issuer: string,
  redirect: string,
  accounts: Readonly<Record<string, Readonly<Record<string, unknown>>>>,
): Provider {
  return new Provider(issuer, {
    clients: [{ client_id: PROVIDER_CLIENT.id, client_secret: PROVIDER_CLIENT.secret, redirect_uris: [redirect] }],
    claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["name", "groups"] },
    pkce: { required: () => true },
    cookies: { keys: ["test"] },
    features: { devInteractions: { enabled: false } },
    interactions: { url: (_, { uid }) => `/interaction/${uid}` },
    findAccount: (_, id) => ({ accountId: id, claims: async () => ({ sub: id, ...accounts[id] }) }),
    async loadExistingGrant(ctx) {
      const { client, session } = ctx.oidc;
      const grant = new ctx.oidc.provider.Grant({ clientId: client!.clientId, accountId: session!.accountId! });
      grant.addOIDCScope("openid email profile");
      await grant.save();
      return grant;
    },
  });
}
