import { createPrivateKey, X509Certificate } from "node:crypto";
import { describe, expect, onTestFinished, test } from "vitest";
import { systemClock } from "../../src/base/clock.ts";
import { silentLog } from "../../src/base/log.ts";
import { type AuthorityOptions, openAuthority } from "../../src/certs/acme/acme-authority.ts";
import type { Authority, OrderProgress, OrderRequest } from "../../src/certs/acme/authority.ts";
import { newCertificateKey } from "../../src/certs/certificate-key.ts";
import type { ChallengeSolver } from "../../src/certs/challenges/challenge.ts";
import { memoryCertificateStore } from "../../src/certs/store/memory-store.ts";
import { peersOrSkip } from "../peers.ts";
import { type Pebble, type PebbleOptions, startPebble } from "./pebble.ts";

const peers = peersOrSkip("pebble", "pebble-challtestsrv", "setpriv");
const never = new AbortController().signal;
async function pebbleWith(options: PebbleOptions = {}): Promise<Pebble> {
  const pebble = await startPebble(options);
  onTestFinished(() => pebble.close());
  return pebble;
}

function authorityAt({ directory, caBundle }: Pebble, options: Partial<AuthorityOptions> = {}): Authority {
  const store = memoryCertificateStore();
  const usual = { id: "pebble", directory, caBundle, store, clock: systemClock, log: silentLog, agreeToTerms: true };
  return openAuthority({ ...usual, ...options });
}

async function orderOf(names: readonly string[], solvers: readonly ChallengeSolver[]): Promise<OrderRequest> {
  return { names, solvers, progress: { key: await newCertificateKey() }, save: async () => {} };
}

/** The certificates of a chain that is what was ordered. */
async function issue(
  authority: Authority,
  names: readonly string[],
  solver: ChallengeSolver,
  ...more: readonly ChallengeSolver[]
): Promise<X509Certificate[]> {
  const order = await orderOf(names, [solver, ...more]);
  const { chain } = await authority.issue(order, never);
  const certificates = certificatesOf(chain);
  expect(certificates[0]!.checkPrivateKey(createPrivateKey(order.progress.key))).toBe(true);
  expect(certificates[0]!.subjectAltName!.split(", ").sort()).toEqual(names.map((name) => `DNS:${name}`).sort());
  return certificates;
}

function certificatesOf(chain: string): X509Certificate[] {
  return chain.match(/-----BEGIN[^-]+-----[^-]+-----END[^-]+-----/g)!.map((pem) => new X509Certificate(pem));
}

describe.skipIf(peers.missing !== undefined)(`Pebble${peers.missing ? ` (${peers.missing})` : ""}`, () => {
  test("every kind of challenge proves names, and a wildcard goes with its own name", async () => {
    const pebble = await pebbleWith();
    const authority = authorityAt(pebble);
    await issue(authority, ["a.example.com", "*.a.example.com", "b.example.com"], pebble.dns);
    await issue(authority, ["h.example.com", "i.example.com"], pebble.http);
    await issue(authority, ["t.example.com"], pebble.tlsAlpn);
    await issue(authority, ["m.example.com", "*.m.example.com"], pebble.tlsAlpn, pebble.dns);
  });

  test.each([
    { percent: 5, orders: 20 },
    { percent: 50, orders: 100 },
    { percent: 90, orders: 2 },
  ])(
    "AC-1 $percent % of nonces are refused, and $orders of $orders orders end in a certificate",
    { timeout: 600_000 },
    async ({ percent, orders }) => {
      const pebble = await pebbleWith({ env: { PEBBLE_WFE_NONCEREJECT: String(percent) } });
      const authority = authorityAt(pebble);
      for (let done = 0; done < orders; done += 10) {
        const names = Array.from({ length: Math.min(10, orders - done) }, (_, index) => `n${done + index}.example.com`);
        await Promise.all(names.map((name) => issue(authority, [name], pebble.http)));
      }
      expect(pebble.log()).toContain(`${percent}% of good nonces`);
    },
  );

  test.each([
    { what: "no proof is used again", env: { PEBBLE_AUTHZREUSE: "0" } },
    { what: "half of the proofs are used again", env: { PEBBLE_AUTHZREUSE: "50" } },
    { what: "every proof is used again", env: { PEBBLE_AUTHZREUSE: "100" } },
    { what: "chains are one long", env: { PEBBLE_CHAIN_LENGTH: "1" }, length: 2, orders: 1 },
    { what: "chains are three long", env: { PEBBLE_CHAIN_LENGTH: "3" }, length: 4, orders: 1 },
    { what: "Pebble sleeps for up to 15 s", env: { PEBBLE_VA_NOSLEEP: "0", PEBBLE_VA_SLEEPTIME: "15" }, orders: 1 },
  ])("AC-2 $what", async ({ env, length = 2, orders = 3 }) => {
    const pebble = await pebbleWith({ env });
    const authority = authorityAt(pebble);
    for (let order = 0; order < orders; order++) {
      const chain = await issue(authority, ["a.example.com", "b.example.com"], pebble.dns);
      expect(chain).toHaveLength(length);
    }
  });

  test("AC-2 of several chains the one up to the preferred root is taken", async () => {
    const pebble = await pebbleWith({ env: { PEBBLE_ALTERNATE_ROOTS: "2", PEBBLE_CHAIN_LENGTH: "1" } });
    const roots = await Promise.all([0, 1, 2].map((index) => pebble.ask(`/roots/${index}`)));
    for (const pem of roots) {
      const root = new X509Certificate(pem);
      const preferredChain = /CN=(.*)/.exec(root.subject)![1]!;
      const chain = await issue(authorityAt(pebble, { preferredChain }), ["a.example.com"], pebble.http);
      expect([chain.at(-1)!.issuer, chain.at(-1)!.verify(root.publicKey)]).toEqual([root.subject, true]);
    }
  });

  test("AC-6 a process that ends after any step leaves an order that the next one finishes, found one a page", async () => {
    const pebble = await pebbleWith({ env: { PEBBLE_WFE_ORDERS_PER_PAGE: "1", PEBBLE_AUTHZREUSE: "0" } });
    const store = memoryCertificateStore();
    const saved: OrderProgress[] = [];
    const order = await orderOf(["a.example.com"], [pebble.dns]);
    const ended = new AbortController();
    const save = async (next: OrderProgress): Promise<void> => {
      saved.push(next);
      if (next.url !== undefined) ended.abort(new Error("power cut"));
    };
    await expect(authorityAt(pebble, { store }).issue({ ...order, save }, ended.signal)).rejects.toThrow("power cut");
    const [asked, placed] = saved;
    expect([asked!.url, placed!.key]).toEqual([undefined, order.progress.key]);
    // The URL never reached the disk.
    const found: OrderProgress[] = [];
    await authorityAt(pebble, { store }).issue(
      { ...order, progress: asked!, save: async (next) => void found.push(next) },
      never,
    );
    expect(found).toEqual([placed]);
    // The certificate never reached the disk.
    const again = { ...order, progress: placed!, save: () => Promise.reject(new Error("a second order")) };
    const { chain } = await authorityAt(pebble, { store }).issue(again, never);
    expect(certificatesOf(chain)[0]!.subjectAltName).toBe("DNS:a.example.com");
  });

  test("an account elsewhere is bound, and without it there is none", async () => {
    // As in Debian's example of a configuration.
    const hmacKey = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    const pebble = await pebbleWith({ externalAccounts: { "kid-1": hmacKey } });
    await expect(authorityAt(pebble).accountUrl(never)).rejects.toMatchObject({ code: "CERT_ACCOUNT_EXTERNAL" });
    const authority = authorityAt(pebble, { externalAccount: { keyId: "kid-1", hmacKey } });
    await issue(authority, ["a.example.com"], pebble.http);
  });

  test("the account is found by its key, its contact changes, and its key is rolled over", async () => {
    const pebble = await pebbleWith();
    const store = memoryCertificateStore();
    const url = await authorityAt(pebble, { store, contact: ["a@example.com"] }).accountUrl(never);
    const path = "accounts/pebble/account.json";
    const record = JSON.parse(Buffer.from((await store.read(path))!).toString()) as { url?: string };
    delete record.url; // the process ended before it heard it
    await store.write(path, Buffer.from(JSON.stringify(record)));
    const authority = authorityAt(pebble, { store, contact: ["b@example.com"] });
    expect(await authority.accountUrl(never)).toBe(url);
    await authority.rollAccountKey(never);
    await issue(authority, ["a.example.com"], pebble.http);
    expect(await authorityAt(pebble, { store, contact: ["b@example.com"] }).accountUrl(never)).toBe(url);
  });

  test("AC-13 a revoked certificate is revoked, by the account and by the holder of its key", async () => {
    const pebble = await pebbleWith();
    const authority = authorityAt(pebble);
    for (const revoker of [authority, authorityAt(pebble)]) {
      const order = await orderOf(["a.example.com"], [pebble.http]);
      const { chain, key } = await authority.issue(order, never);
      const { serialNumber } = certificatesOf(chain)[0]!;
      const status = async (): Promise<unknown> =>
        JSON.parse(await pebble.ask(`/cert-status-by-serial/${serialNumber}`));
      expect(await status()).toMatchObject({ Status: "Valid" });
      await revoker.revoke(chain, key, never);
      await revoker.revoke(chain, key, never);
      expect(await status()).toMatchObject({ Status: "Revoked" });
    }
  });

  test("what Pebble does not believe it says, and another kind of challenge is tried", async () => {
    const pebble = await pebbleWith();
    const blind: ChallengeSolver = { type: "http-01", canProve: () => true, present: async () => async () => {} };
    await issue(authorityAt(pebble), ["a.example.com"], blind, pebble.dns);
    const order = await orderOf(["b.example.com"], [blind]);
    await expect(authorityAt(pebble).issue(order, never)).rejects.toMatchObject({
      code: "CERT_ORDER_UNPROVED",
      problem: "unauthorized",
    });
  });

  test("its own root is needed, and named when it is missing", async () => {
    const pebble = await pebbleWith();
    await expect(authorityAt(pebble, { caBundle: undefined }).accountUrl(never)).rejects.toMatchObject({
      code: "CERT_ORDER_UNREACHABLE",
      hint: "A CA with a root of its own needs that root as its bundle.",
    });
  });
});
