import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { type Browser, chromium } from "playwright-core";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { findPeer } from "../peers.ts";
import { type DoorMesh, PUBLIC_NAME as NAME, openDoorMesh } from "../suites/door-mesh.ts";
import { openSignInProvider, PROVIDER_CLIENT, type SignInProvider } from "../suites/sign-in-provider.ts";

const binary = findPeer("chromium");
let provider: SignInProvider;
let mesh: DoorMesh;
let browser: Browser;

beforeAll(async () => {
  if (binary === undefined) return;
  provider = await openSignInProvider({
    carol: { email: "carol@example.com", email_verified: true, name: "Carol" },
    eve: { email: "eve@else.where", email_verified: true },
  });
  provider.returnTo(`https://${NAME}/.sallyport/callback`);
  const { issuer } = provider;
  const oidc = {
    issuer,
    clientId: PROVIDER_CLIENT.id,
    clientSecret: "env:OIDC",
    domains: ["example.com"],
    label: "our provider",
  };
  mesh = await openDoorMesh({ oidc }, { OIDC: PROVIDER_CLIENT.secret });
  browser = await chromium.launch({
    executablePath: binary,
    args: ["--no-sandbox", `--host-resolver-rules=MAP ${NAME}:443 127.0.0.1:${mesh.port}`],
  });
}, 120_000);

afterAll(async () => {
  await browser?.close();
  await mesh?.[Symbol.asyncDispose]();
  provider?.close();
});

const visitor = () => browser.newContext({ ignoreHTTPSErrors: true, javaScriptEnabled: false });

test.skipIf(binary === undefined)(
  "Chromium passes the password's form, comes back to where it was, and leaves",
  async () => {
    const page = await (await visitor()).newPage();
    await expect
      .poll(async () => (await page.goto(`https://${NAME}/page?q=1`))?.status(), { timeout: 60_000 })
      .toBe(401);
    await page.getByLabel("Password").fill("wrong password");
    await page.getByRole("button", { name: "Enter" }).click();
    await expect.poll(() => page.getByRole("alert").textContent()).toContain("not the password");
    await page.getByLabel("Password").fill("correct horse");
    await page.getByRole("button", { name: "Enter" }).click();
    await expect.poll(() => page.textContent("body")).toContain("inside");
    expect(page.url()).toBe(`https://${NAME}/page?q=1`);
    const [cookie] = await page.context().cookies();
    expect(cookie).toMatchObject({ name: "__Host-sallyport-friends", httpOnly: true, secure: true, sameSite: "Lax" });
    await page.goto(`https://${NAME}/.sallyport/door/friends/leave`);
    await page.getByRole("button", { name: "Leave" }).click();
    expect((await page.goto(`https://${NAME}/`))?.status()).toBe(401);
  },
);

test.skipIf(binary === undefined)("Chromium uses a guest's link by its button", async () => {
  const { url } = await mesh.admin.invite({ door: "friends", name: "Carol", lifeMs: 600_000, isOnce: true });
  const page = await (await visitor()).newPage();
  for (let i = 0; i < 2; i++) expect((await page.goto(url))?.status()).toBe(200);
  await page.getByRole("button", { name: "Enter" }).click();
  await expect.poll(() => page.textContent("body")).toContain("inside");
  expect(mesh.heard.at(-1)!["sallyport-guest"]).toContain('"sub":"link:Carol"');
  await page.goto(url);
  expect(await page.textContent("body"), "he keeps it, and comes by it again").toContain("inside");
  expect((await (await (await visitor()).newPage()).goto(url))?.status()).toBe(404);
});

test.skipIf(binary === undefined)(
  "a guest with a long name had to move the page of his link sideways on a phone",
  async () => {
    const { url } = await mesh.admin.invite({ door: "friends", name: "W".repeat(100), lifeMs: 600_000, isOnce: true });
    const phone = { ignoreHTTPSErrors: true, viewport: { width: 320, height: 640 }, isMobile: true };
    const page = await (await browser.newContext(phone)).newPage();
    for (const address of [url, `https://${NAME}/`]) {
      await page.goto(address);
      expect(await page.evaluate("document.documentElement.scrollWidth")).toBe(320);
    }
  },
);

test.skipIf(binary === undefined)(
  "Chromium signs in at a provider; whom the door does not know stays outside",
  async () => {
    provider.account = "eve";
    const outside = await (await visitor()).newPage();
    await outside.goto(`https://${NAME}/page?q=2`);
    await outside.getByRole("link", { name: "our provider" }).click();
    await expect.poll(() => outside.textContent("body")).toContain("not among those who may enter here");
    expect((await outside.goto(`https://${NAME}/page?q=2`))?.status()).toBe(401);
    provider.account = "carol";
    const page = await (await visitor()).newPage();
    await page.goto(`https://${NAME}/page?q=2`);
    await page.getByRole("link", { name: "our provider" }).click();
    await expect.poll(() => page.textContent("body")).toContain("inside");
    expect(page.url()).toBe(`https://${NAME}/page?q=2`);
    const { iss, sub } = JSON.parse(String(mesh.heard.at(-1)!["sallyport-guest"]));
    expect([iss, sub]).toEqual([provider.issuer, "carol"]);
    expect(Object.keys(mesh.heard.at(-1)!).filter((name) => name.startsWith("tailscale-user"))).toEqual([]);
  },
);

test.skipIf(binary === undefined)(
  "Chromium shows a request and sends it again, and the programs of this machine are not sent the inspector's cookie",
  async () => {
    const cookies: (string | undefined)[] = [];
    const program = createServer(({ headers }, answer) => {
      cookies.push(headers.cookie);
      answer.end("program");
    });
    program.listen(0, "127.0.0.1");
    await once(program, "listening");
    onTestFinished(() => void program.close());
    const page = await (await visitor()).newPage();
    await page.goto(await mesh.gateway.inspection.invite());
    onTestFinished(() => mesh.gateway.inspection.close());
    await page.goto(`https://${NAME}/seen?token=x`);
    await page.goto(await mesh.gateway.inspection.invite());
    await page.getByRole("link", { name: "GET /seen?token=REDACTED" }).click();
    await page.getByRole("button", { name: "Send it again" }).click();
    await expect.poll(() => page.textContent("body")).toContain("again, #");
    expect(await page.textContent("body")).toContain("401 Unauthorized");
    const { port } = program.address() as AddressInfo;
    await page.goto(`http://127.0.0.1:${port}/`);
    expect(await page.textContent("body")).toBe("program");
    expect(cookies.filter((cookie) => cookie !== undefined)).toEqual([]);
  },
);
