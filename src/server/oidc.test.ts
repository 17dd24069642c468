import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { openSignInProvider, PROVIDER_CLIENT, type SignInProvider } from "../../test/suites/sign-in-provider.ts";
import { memoryStore } from "../base/store.ts";
import { MemoryCoordinationStore } from "../coordination/store/memory-store.ts";
import { bothSaid, personOf } from "../identity/oidc-client.ts";
import type { RegisterResponse } from "../wire/tailcfg.ts";
import { Server } from "./server.ts";

/** What the provider says of each of its accounts. */
const ACCOUNTS = {
  alice: { email: "alice@example.com", email_verified: true, name: "Alice <b>" },
  impostor: { email: "alice@example.com", email_verified: true },
  unverified: { email: "mallory@example.com", email_verified: false },
  worded: { email: "mallory@example.com", email_verified: "true" },
  silent: { email: "mallory@example.com" },
  mailless: { name: "No Mail" },
  stranger: { email: "eve@elsewhere.example", email_verified: true },
  invited: { email: "bob@elsewhere.example", email_verified: true },
  lookalike: { email: "eve@example.com.elsewhere.example", email_verified: true },
};

let server: Server;
let provider: SignInProvider;
let machines = 0;

beforeAll(async () => {
  provider = await openSignInProvider(ACCOUNTS);
  const client = { clientId: PROVIDER_CLIENT.id, clientSecret: PROVIDER_CLIENT.secret };
  server = await Server.open({
    store: new MemoryCoordinationStore(),
    state: memoryStore(),
    baseDomain: "mesh.internal",
    oidc: { issuer: provider.issuer, ...client, domains: ["example.com"] },
  });
  await server.coordinator.createUser({ login: "bob@elsewhere.example" }, "test");
  provider.returnTo(`${server.url}/oidc/callback`);
});
afterAll(async () => {
  await server.close();
  provider.close();
});
beforeEach(() => {
  provider.account = "alice";
});

/** A browser: cookies by origin, redirects one at a time. */
class Browser {
  readonly #cookies: Map<string, Map<string, string>> = new Map();

  async get(
    address: string,
    init: RequestInit = {},
  ): Promise<{ status: number; body: string; next: string | undefined }> {
    const url = new URL(address);
    const jar = this.#cookies.get(url.origin) ?? new Map<string, string>();
    this.#cookies.set(url.origin, jar);
    const cookie = [...jar].map(([name, value]) => `${name}=${value}`).join("; ");
    const response = await fetch(url, { ...init, redirect: "manual", headers: { ...init.headers, cookie } });
    for (const line of response.headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(line)!;
      jar.set(name!, value!);
    }
    const location = response.headers.get("location");
    const next = location === null ? undefined : new URL(location, url).href;
    return { status: response.status, body: await response.text(), next };
  }

  /** Follows redirects until one leads to `stop`, or there is none. */
  async follow(address: string, stop: string = "never"): Promise<{ status: number; body: string; url: string }> {
    for (let url = address, steps = 0; ; steps++) {
      if (steps > 10 || url.startsWith(stop)) return { status: 0, body: "", url };
      const { status, body, next } = await this.get(url);
      if (next === undefined) return { status, body, url };
      url = next;
    }
  }
}

const hex = (seed: number): string => seed.toString(16).padStart(64, "0");

/** A device that asks to join, and what it will be told. */
async function device(hostname: string = "laptop") {
  const own = hex(++machines);
  const ask = (Followup?: string): Promise<RegisterResponse> =>
    server.coordinator.register(
      `mkey:${own}`,
      {
        Version: 142,
        NodeKey: `nodekey:${own}`,
        Hostinfo: { Hostname: hostname, OS: "linux" },
        ...(Followup && { Followup }),
      },
      AbortSignal.timeout(15_000),
    );
  const { AuthURL } = await ask();
  const start = `${server.url}/oidc/start?login=${AuthURL!.split("/").at(-1)}`;
  return { page: AuthURL!, start, key: own.slice(-16), joined: () => ask(AuthURL!) };
}

const callback = () => `${server.url}/oidc/callback`;
const tokenIn = (html: string): string => /name="token" value="([^"]+)"/.exec(html)?.[1] ?? "";
const confirm = (browser: Browser, token: string, headers: Record<string, string> = {}) =>
  browser.get(`${server.url}/oidc/confirm`, { method: "POST", body: new URLSearchParams({ token }), headers });

describe("signing in at a provider lets a device in", () => {
  test("page, provider, confirmation; the second device of the same person is the same user's", async () => {
    for (const hostname of ["laptop", "tablet"]) {
      const { page, key, joined } = await device(hostname);
      const browser = new Browser();
      const first = await browser.get(page);
      expect(first.body).toContain(hostname);
      expect(first.body).toContain(`…${key}`);
      const link = /href="([^"]+)"/.exec(first.body)![1]!;
      const asked = await browser.follow(new URL(link, page).href);
      expect(asked.status).toBe(200);
      expect(asked.body).toContain("alice@example.com");
      expect(asked.body).toContain(hostname);
      const held = joined();
      expect((await confirm(browser, tokenIn(asked.body), { Origin: server.url })).body).toContain("is in");
      expect(await held).toMatchObject({ MachineAuthorized: true, Login: { LoginName: "alice@example.com" } });
    }
    const [alice, ...others] = server.coordinator.users().filter(({ login }) => login === "alice@example.com");
    expect(others).toEqual([]);
    expect(alice).toMatchObject({ displayName: "Alice <b>", identity: { subject: "alice" } });
  });

  test("where new devices need an approval, a sign-in alone lets none in, and the page says so", async () => {
    await server.coordinator.setDeviceApproval(true, "test");
    const { start, joined } = await device("phone");
    const browser = new Browser();
    const held = joined();
    const { body } = await confirm(browser, tokenIn((await browser.follow(start)).body));
    expect(body).toContain("has to approve it");
    expect(await held).toMatchObject({
      MachineAuthorized: false,
      Error: "",
      Login: { LoginName: "alice@example.com" },
    });
    await server.coordinator.setDeviceApproval(false, "test");
  });

  test("a user whom the owner has created is taken over by whoever proves that address first", async () => {
    provider.account = "invited";
    const { start, joined } = await device();
    const browser = new Browser();
    const { body } = await browser.follow(start);
    await confirm(browser, tokenIn(body));
    expect(await joined()).toMatchObject({ Login: { LoginName: "bob@elsewhere.example" } });
    expect(server.coordinator.users().filter(({ login }) => login === "bob@elsewhere.example")).toHaveLength(1);
  });
});

test("PR-7 without the provider the server starts, says what is wrong, and serves on", async () => {
  const lonely = await Server.open({
    store: new MemoryCoordinationStore(),
    state: memoryStore(),
    baseDomain: "mesh.internal",
    oidc: { issuer: "http://127.0.0.1:1", clientId: "sallyport", clientSecret: "secret" },
  });
  const request = { Version: 142, NodeKey: `nodekey:${hex(1)}`, Hostinfo: { Hostname: "h" } };
  const { AuthURL } = await lonely.coordinator.register(`mkey:${hex(1)}`, request, AbortSignal.timeout(5000));
  const start = await fetch(`${lonely.url}/oidc/start?login=${AuthURL!.split("/").at(-1)}`, { redirect: "manual" });
  expect([start.status, await start.text()]).toEqual([403, expect.stringContaining("Cannot ask the provider")]);
  expect((await fetch(AuthURL!)).status).toBe(200);
  await lonely.close();
});

describe("CS-5 nobody is taken for another", () => {
  test.each([
    ["impostor", "somebody else signs in as alice@example.com"],
    ["unverified", "has not verified"],
    ["worded", "has not verified"],
    ["silent", "has not verified"],
    ["mailless", "has not verified"],
    ["stranger", "may not join"],
    ["lookalike", "may not join"],
  ])("%s is refused: %s", async (who, why) => {
    provider.account = who;
    const before = server.coordinator.users();
    const { start } = await device();
    const { status, body } = await new Browser().follow(start);
    expect([status, tokenIn(body)]).toEqual([403, ""]);
    expect(body).toContain(why);
    expect(server.coordinator.users()).toEqual(before);
  });

  test("the state of another attempt, another browser's answer, a used code, and an answer out of nothing are refused", async () => {
    const [mine, yours] = [new Browser(), new Browser()];
    const [one, two] = [await device(), await device()];
    const answer = await mine.follow(one.start, callback());
    const foreign = await yours.follow(two.start, callback());
    expect((await mine.get(foreign.url)).status, "another browser's answer").toBe(403);
    expect((await mine.get(answer.url)).status, "an attempt has one answer").toBe(403);
    const url = new URL(foreign.url);
    url.searchParams.set("state", "x".repeat(43));
    expect((await yours.get(url.href)).status, "another state").toBe(403);
    expect((await new Browser().get(answer.url)).status, "no cookie").toBe(403);
    expect((await new Browser().get(callback())).status).toBe(403);
    expect(server.coordinator.pendingLogins().length).toBeGreaterThanOrEqual(2);
  });

  test("personOf: a mail address counts only where the provider says the boolean true", () => {
    const mailOf = (verified: unknown) => personOf("i", "s", { email: "a@b.c", email_verified: verified }).mail;
    expect(mailOf(true)).toBe("a@b.c");
    for (const wrong of [false, "true", "false", 1, null, undefined, {}]) expect(mailOf(wrong)).toBeUndefined();
    expect(personOf("i", "s", { email: ["a@b.c"], email_verified: true }).mail).toBeUndefined();
    // An empty one made a guest a user without a name; the others are of one domain to us and of another to who reads them.
    const odd = [
      "",
      "@b.c",
      "a@",
      "a",
      "a b@b.c",
      "a@b.c\n",
      "a@b.c@d.e",
      '"a@b.c"@d.e',
      "a@b.c,x@d.e",
      "<a@b.c>",
      "a@b.c\u200b",
    ];
    for (const email of odd) expect(personOf("i", "s", { email, email_verified: true }).mail, email).toBeUndefined();
    for (const email of ["a+b@b.c", "A.B@B.C", "ä@bücher.example", "o'neil@b.c"])
      expect(personOf("i", "s", { email, email_verified: true }).mail).toBe(email);
    const two = { email: "mine@a.b", email_verified: true };
    const mixed = [bothSaid(two, { email: "yours@a.b" }), bothSaid({ email: "yours@a.b" }, { email_verified: true })];
    for (const claims of mixed) expect(personOf("i", "s", claims).mail, "said of another address").toBeUndefined();
    expect(personOf("i", "s", bothSaid(two, { groups: ["staff"] })).mail).toBe("mine@a.b");
    expect(personOf("i", "s", { picture: "javascript:alert(1)" })).not.toHaveProperty("profilePicture");
  });
});

describe("CS-6 the registration page", () => {
  test("is not framed, runs no script, and shows what a device calls itself as text", async () => {
    const { page } = await device('<script>alert("x")</script>\u202e');
    const response = await fetch(page);
    expect(response.headers.get("x-frame-options")).toBe("DENY");
    expect(response.headers.get("content-security-policy")).toContain("default-src 'none'");
    const html = await response.text();
    expect(html).not.toMatch(/<script|\u202e/);
  });

  test("a made-up or answered id shows nothing; ids have 192 random bits", async () => {
    const { page } = await device();
    expect(page.split("/").at(-1)).toMatch(/^[0-9a-f]{48}$/);
    expect((await fetch(`${server.url}/register/${"0".repeat(48)}`)).status).toBe(404);
    expect((await fetch(`${server.url}/oidc/start?login=${"0".repeat(48)}`, { redirect: "manual" })).status).toBe(404);
    expect((await fetch(`${server.url}/nothing`)).status).toBe(404);
  });

  test("the form works once, from this page, in this browser: not with a guessed token or from another site", async () => {
    const { start, joined } = await device();
    const browser = new Browser();
    const token = tokenIn((await browser.follow(start)).body);
    expect((await confirm(browser, "guess")).status).toBe(403);
    expect((await confirm(browser, "")).status).toBe(403);
    expect((await confirm(new Browser(), token)).status).toBe(403);
    expect((await confirm(browser, token, { Origin: "https://evil.example" })).status).toBe(403);
    expect((await confirm(browser, token)).status).toBe(200);
    expect((await confirm(browser, token)).status, "only once").toBe(403);
    expect(await joined()).toMatchObject({ MachineAuthorized: true });
  });
});
