import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { ask, cookieOf, type DoorScene, doorScene, ORIGIN } from "../../../test/suites/door-scene.ts";
import { closeScenes } from "../../../test/suites/proxy-scene.ts";
import { fieldLines } from "../../../test/suites/recording-backend.ts";
import { openSignInProvider, PROVIDER_CLIENT, type SignInProvider } from "../../../test/suites/sign-in-provider.ts";
import { OidcClient } from "../../identity/oidc-client.ts";
import { mayEnter, type OidcGuests } from "./door.ts";

afterEach(closeScenes);

/** What the provider says of each of its accounts. */
const ACCOUNTS: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  carol: { email: "Carol@Example.com", email_verified: true, name: "Carol", groups: ["family"] },
  dave: { email: "dave@else.where", email_verified: true, groups: ["staff", "family"] },
  kelvin: { email: "\u212acarol@example.com", email_verified: true },
  kelvins: { email: "carol@\u212aexample.com", email_verified: true },
  plus: { email: "carol+shop@example.com", email_verified: true },
  unverified: { email: "carol@example.com", email_verified: false },
  worded: { email: "carol@example.com", email_verified: "true" },
  lookalike: { email: "eve@example.com.else.where", email_verified: true },
  stranger: { email: "eve@else.where", email_verified: true, groups: "family" },
};

let provider: SignInProvider;
let issuer: string;

beforeAll(async () => {
  provider = await openSignInProvider(ACCOUNTS);
  provider.returnTo(`${ORIGIN}/.sallyport/callback`);
  issuer = provider.issuer;
});
afterAll(() => provider.close());

const FAMILY: OidcGuests = { addresses: [], domains: ["example.com"], groups: ["staff"], groupsClaim: "groups" };

function scene(who: OidcGuests = FAMILY): Promise<DoorScene> {
  const client = new OidcClient({
    issuer,
    clientId: PROVIDER_CLIENT.id,
    clientSecret: PROVIDER_CLIENT.secret,
    wantedClaim: "groups",
  });
  return doorScene({ door: { oidc: { client, label: "id.test", who } }, rules: { guestsAsUsers: issuer } });
}

interface Begun {
  /** At the provider. */
  readonly url: string;
  /** What this browser brings back. */
  readonly cookie: string;
}

async function begin(at: DoorScene, to: string, cookie?: string): Promise<Begun> {
  const own = cookie === undefined ? {} : { headers: { cookie } };
  const { status, headers } = await ask(at, `/.sallyport/door/friends/oidc?to=${encodeURIComponent(to)}`, own);
  expect(status).toBe(303);
  const line = headers["set-cookie"]![0]!;
  expect(line).toMatch(/^__Host-sallyport-oidc-state=[\w-]{43}; Path=\/; Max-Age=600; HttpOnly; Secure; SameSite=Lax$/);
  return { url: headers.location!, cookie: line.slice(0, line.indexOf(";")) };
}

/** At the provider, until it sends the browser back; the path and query of that. */
async function signedIn({ url }: Begun): Promise<string> {
  const jar = new Map<string, string>();
  for (let next = url, steps = 0; steps < 10; steps++) {
    const cookie = [...jar].map(([name, value]) => `${name}=${value}`).join("; ");
    const response = await fetch(next, { redirect: "manual", headers: { cookie } });
    for (const line of response.headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(line)!;
      jar.set(name!, value!);
    }
    next = new URL(response.headers.get("location")!, next).href;
    if (next.startsWith(ORIGIN)) return next.slice(ORIGIN.length);
  }
  throw new Error("Cannot come back from the provider");
}

test("ID-12 a guest signs in at a provider, comes back to where it was, and is the provider's subject", async () => {
  provider.account = "carol";
  const at = await scene();
  const begun = await begin(at, "/photos?of=me");
  const back = await ask(at, await signedIn(begun), { headers: { cookie: begun.cookie } });
  expect([back.status, back.headers.location]).toEqual([303, "/photos?of=me"]);
  await ask(at, "/", { headers: { cookie: cookieOf(back) } });
  const fields = new Map(fieldLines(at.backend.requests.at(-1)!));
  expect(JSON.parse(fields.get("Sallyport-Guest")!)).toEqual({ iss: issuer, sub: "carol" });
  expect(fields.get("Tailscale-User-Login"), "this route takes its guests for users").toBe("Carol@Example.com");
  expect(at.backend.requests.at(-1)).not.toMatch(/__Host|oidc-state/);
});

describe("CS-5 nobody is taken for another", () => {
  test.each([
    ["dave", 303],
    ["unverified", 403],
    ["worded", 403],
    ["lookalike", 403],
    ["stranger", 403],
  ])("%s: %i", async (who, status) => {
    provider.account = who;
    const at = await scene();
    const begun = await begin(at, "/");
    const back = await ask(at, await signedIn(begun), { headers: { cookie: begun.cookie } });
    expect([back.status, cookieOf(back) !== ""]).toEqual([status, status === 303]);
  });

  test("another browser's answer, a used one, another state and an answer out of nothing are refused", async () => {
    provider.account = "carol";
    const at = await scene();
    const [mine, yours] = [await begin(at, "/"), await begin(at, "/")];
    const [answer, foreign] = [await signedIn(mine), await signedIn(yours)];
    const statusOf = async (path: string, cookie: string) => (await ask(at, path, { headers: { cookie } })).status;
    expect(await statusOf(foreign, mine.cookie), "another browser's answer").toBe(403);
    expect(await statusOf(foreign.replace(/state=[^&]+/, "state=xxx"), yours.cookie)).toBe(403);
    expect(await statusOf("/.sallyport/callback", "")).toBe(403);
    expect(await statusOf("/.sallyport/callback?code=x&state=y", `__Host-sallyport-oidc-state=${"x".repeat(43)}`)).toBe(
      403,
    );
    expect(at.keeper.sessions.list()).toEqual([]);
    expect(await statusOf(answer, mine.cookie)).toBe(303);
    expect(await statusOf(answer, mine.cookie), "an attempt has one answer").toBe(403);
  });

  test.each<[Partial<OidcGuests>, string, boolean]>([
    [{ addresses: ["CAROL@example.com"] }, "carol", true],
    [{ addresses: ["carol@example.com"] }, "unverified", false],
    [{ addresses: ["kcarol@example.com"] }, "kelvin", false],
    [{ domains: ["kexample.com"] }, "kelvins", false],
    [{ addresses: ["carol@example.com"] }, "plus", false],
    [{ domains: ["EXAMPLE.com"] }, "carol", true],
    [{ domains: ["com"] }, "carol", false],
    [{ groups: ["family"] }, "carol", true],
    [{ groups: ["family"] }, "stranger", false],
    [{ groups: ["family"], groupsClaim: "roles" }, "carol", false],
    [{}, "carol", false],
  ])("who may enter: %o, %s: %s", (who, name, is) => {
    const claims = ACCOUNTS[name]!;
    const mail = claims["email_verified"] === true ? String(claims["email"]) : undefined;
    const lists = { addresses: [], domains: [], groups: [], groupsClaim: "groups", ...who };
    expect(mayEnter(lists, { issuer, subject: name, mail, claims })).toBe(is);
  });
});

test("PR-7 a provider that cannot be asked closes its own way in, and no other", async () => {
  const client = new OidcClient({ issuer: "http://127.0.0.1:1", clientId: "gate", clientSecret: "s" });
  const at = await doorScene({ door: { oidc: { client, label: "id.test", who: FAMILY } } });
  const page = await ask(at, "/", { headers: { accept: "text/html" } });
  expect(page.body).toContain('href="/.sallyport/door/friends/oidc?to=%2F"');
  expect((await ask(at, "/.sallyport/door/friends/oidc?to=/")).status).toBe(502);
  const form = { way: "pin", secret: "482913" };
  expect((await ask(at, "/.sallyport/door/friends/enter", { form })).status).toBe(303);
});

test("two tabs in which one signs in at a time: the first that came back was refused, and the second with it", async () => {
  provider.account = "carol";
  const at = await scene();
  const first = await begin(at, "/first");
  const second = await begin(at, "/second", first.cookie);
  const locations: (string | undefined)[] = [];
  for (const one of [first, second]) {
    const back = await ask(at, await signedIn(one), { headers: { cookie: second.cookie } });
    locations.push(back.headers.location);
  }
  expect(locations).toEqual(["/first", "/second"]);
});

test("another site that made the browser open the callback ended the attempt that was under way", async () => {
  provider.account = "carol";
  const at = await scene();
  const { cookie, url } = await begin(at, "/");
  const forged = await ask(at, "/.sallyport/callback?code=x&state=y", { headers: { cookie } });
  expect([forged.status, forged.body]).toEqual([403, expect.stringContaining('href="/"')]);
  expect((await ask(at, await signedIn({ cookie, url }), { headers: { cookie } })).status).toBe(303);
});

test("FN-15 a visitor has 64 attempts at a time: another one ends its oldest, and nobody else's", async () => {
  provider.account = "carol";
  const at = await scene();
  const first = await begin(at, "/");
  at.caller = { kind: "anonymous", address: "203.0.113.9" };
  const other = await begin(at, "/");
  at.caller = { kind: "anonymous", address: "198.51.100.7" };
  const second = await begin(at, "/");
  for (let i = 0; i < 63; i++) await begin(at, "/");
  expect((await ask(at, await signedIn(first), { headers: { cookie: first.cookie } })).status).toBe(403);
  expect((await ask(at, await signedIn(second), { headers: { cookie: second.cookie } })).status).toBe(303);
  expect((await ask(at, await signedIn(other), { headers: { cookie: other.cookie } })).status).toBe(303);
});
