import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import Provider from "oidc-provider";

/** An OpenID Connect provider (the npm package `oidc-provider`) that signs in whom the test says, without asking. */
export interface GuestProvider extends AsyncDisposable {
  readonly issuer: string;
  /** Who sits before the browser. */
  account: string;
}

export const GUEST_CLIENT = { id: "gate", secret: "secret-of-the-client" } as const;

/** `accounts`: what it says of each. `redirect`: where it may send browsers back to. */
export async function openGuestProvider(
  redirect: string,
  accounts: Readonly<Record<string, Readonly<Record<string, unknown>>>>,
): Promise<GuestProvider> {
  const http = createServer();
  await new Promise<void>((resolve) => http.listen(0, "127.0.0.1", () => resolve()));
  const issuer = `http://127.0.0.1:${(http.address() as AddressInfo).port}`;
  const provider = new Provider(issuer, {
    clients: [{ client_id: GUEST_CLIENT.id, client_secret: GUEST_CLIENT.secret, redirect_uris: [redirect] }],
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
  const answer = provider.callback();
  const opened: GuestProvider = {
    issuer,
    account: Object.keys(accounts)[0]!,
    async [Symbol.asyncDispose]() {
      http.closeAllConnections();
      http.close();
    },
  };
  http.on("request", (request, response) => {
    if (!request.url!.startsWith("/interaction/")) void answer(request, response);
    else void provider.interactionFinished(request, response, { login: { accountId: opened.account } });
  });
  return opened;
}
