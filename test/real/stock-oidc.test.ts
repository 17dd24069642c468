import { createServer, type Server as HttpServer } from "node:http";
import type { AddressInfo } from "node:net";
import Provider from "oidc-provider";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { isRoot, peersOrSkip } from "../peers.ts";
import { ServerMesh } from "./server-mesh.ts";
import { type StockNode, until } from "./stock-mesh.ts";

const peers = peersOrSkip("tailscaled", "tailscale", "ip");
const CLIENT = { id: "sallyport", secret: "secret-of-the-client" };

/** A provider with one account, who is signed in there without being asked. */
async function openProvider(callback: string): Promise<{ issuer: string; http: HttpServer }> {
  const http = createServer();
  await new Promise<void>((resolve) => http.listen(0, "127.0.0.1", () => resolve()));
  const issuer = `http://127.0.0.1:${(http.address() as AddressInfo).port}`;
  const provider = new Provider(issuer, {
    clients: [{ client_id: CLIENT.id, client_secret: CLIENT.secret, redirect_uris: [callback] }],
    claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["name"] },
    pkce: { required: () => true },
    cookies: { keys: ["test"] },
    features: { devInteractions: { enabled: false } },
    interactions: { url: (_, { uid }) => `/interaction/${uid}` },
    findAccount: (_, id) => ({
      accountId: id,
      claims: async () => ({ sub: id, email: "carol@example.com", email_verified: true, name: "Carol" }),
    }),
    async loadExistingGrant({ oidc }) {
      const { clientId } = oidc.client!;
      const grant = new oidc.provider.Grant({ clientId, accountId: oidc.session!.accountId! });
      grant.addOIDCScope("openid email profile");
      await grant.save();
      return grant;
    },
  });
  const answer = provider.callback();
  http.on("request", (request, response) => {
    if (!request.url!.startsWith("/interaction/")) void answer(request, response);
    else void provider.interactionFinished(request, response, { login: { accountId: "carol" } });
  });
  return { issuer, http };
}

/** Opens a page as a browser does: redirects are followed, cookies kept. */
async function open(address: string, cookies: Map<string, string>, init: RequestInit = {}): Promise<string> {
  let [url, options] = [address, init];
  for (let steps = 0; steps < 12; steps++) {
    const cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join("; ");
    const response = await fetch(url, { ...options, redirect: "manual", headers: { cookie } });
    for (const line of response.headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(line)!;
      cookies.set(name!, value!);
    }
    const location = response.headers.get("location");
    if (location === null) return response.text();
    url = new URL(location, url).href;
    options = {};
  }
  throw new Error(`too many redirects at ${url}`);
}

describe.skipIf(!isRoot || peers.missing !== undefined)(
  `a stock client whose user signs in at a provider${peers.missing ? ` (${peers.missing})` : ""}`,
  () => {
    const lab = new ServerMesh();
    let node: StockNode;

    beforeAll(async () => {
      const { issuer, http } = await openProvider(`${lab.url}/oidc/callback`);
      lab.defer(() => {
        http.closeAllConnections();
        http.close();
      });
      await lab.openServer({
        oidc: { issuer, clientId: CLIENT.id, clientSecret: CLIENT.secret, domains: ["example.com"] },
      });
      node = await lab.stock("signer", "userspace", {});
    }, 60_000);

    afterAll(() => lab.close());

    test("`up` shows our page; who signs in there and confirms is let in, as a new user", async () => {
      const up = node.cli("up", "--timeout=60s", "--login-server", lab.url, "--hostname=signer", "--accept-dns=false");
      const status = async () => JSON.parse((await node.cli("status", "--json")).stdout) as { AuthURL: string };
      const { AuthURL } = await until("a URL", status, (found) => found.AuthURL !== "");
      const start = /href="([^"]*\/oidc\/start[^"]*)"/
        .exec(await open(AuthURL, new Map()))?.[1]
        ?.replaceAll("&amp;", "&");
      expect(start).toBeDefined();
      const cookies = new Map<string, string>();
      const page = await open(new URL(start!, lab.url).href, cookies);
      const token = /name="token" value="([^"]+)"/.exec(page)?.[1];
      expect(token, page).toBeDefined();
      await open(`${lab.url}/oidc/confirm`, cookies, { method: "POST", body: new URLSearchParams({ token: token! }) });
      expect((await up).code).toBe(0);
      const whois = await node.cli("whois", "--json", (await node.cli("ip", "-4")).stdout.trim());
      expect(JSON.parse(whois.stdout)).toMatchObject({
        UserProfile: { LoginName: "carol@example.com", DisplayName: "Carol" },
      });
    });
  },
);
