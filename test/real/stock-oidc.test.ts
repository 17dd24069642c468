import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { isRoot, peersOrSkip } from "../peers.ts";
import { openSignInProvider, PROVIDER_CLIENT } from "../suites/sign-in-provider.ts";
import { ServerMesh } from "./server-mesh.ts";
import { type StockNode, until } from "./stock-mesh.ts";

const peers = peersOrSkip("tailscaled", "tailscale", "ip");
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
      const carol = { email: "carol@example.com", email_verified: true, name: "Carol" };
      const provider = await openSignInProvider({ carol });
      lab.defer(() => provider.close());
      provider.returnTo(`${lab.url}/oidc/callback`);
      await lab.openServer({
        oidc: {
          issuer: provider.issuer,
          clientId: PROVIDER_CLIENT.id,
          clientSecret: PROVIDER_CLIENT.secret,
          domains: ["example.com"],
        },
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
