import { createPrivateKey, X509Certificate } from "node:crypto";
import { describe, expect, test } from "vitest";
import { authorityAt, never, orderOf, startCa } from "../../../test/acme-ca/customer.ts";
import { TestCa } from "../../../test/acme-ca/test-ca.ts";
import { type KeyType, newCertificateKey } from "../certificate-key.ts";

const issuersOf = (chain: string): string => {
  const blocks = chain.match(/-----BEGIN[^-]+-----[^-]+-----END CERTIFICATE-----/g)!;
  return new X509Certificate(blocks.at(-1)!).issuer;
};

describe("a certificate is issued", () => {
  test("for several names and wildcards at once, with the key of the order and what the CA signed", async () => {
    const wall = Date.UTC(2030, 5, 1);
    const ca = await startCa({ wall: () => wall, lifetime: 7 * 86_400_000 });
    const names = ["a.example.com", "*.a.example.com", "example.org"];
    const request = await orderOf(names);
    const certificate = await authorityAt(ca).issue(request, never);
    const leaf = new X509Certificate(certificate.chain);
    expect(leaf.subjectAltName).toBe("DNS:a.example.com, DNS:*.a.example.com, DNS:example.org");
    expect(leaf.checkPrivateKey(createPrivateKey(certificate.key))).toBe(true);
    expect(certificate).toMatchObject({
      names,
      key: request.progress.key,
      notAfter: wall + 7 * 86_400_000 - 3_600_000,
    });
    expect(certificate.notBefore).toBe(wall - 3_600_000);
    expect(certificate.chain.match(/BEGIN CERTIFICATE/g)).toHaveLength(2);
  });

  test.each<[KeyType, string]>([
    ["ecdsa", "ec"],
    ["rsa", "rsa"],
  ])("with a key of type %s", async (type, asymmetric) => {
    const ca = await startCa();
    const request = await orderOf(["a.example.com"], { progress: { key: await newCertificateKey(type) } });
    const { chain } = await authorityAt(ca).issue(request, never);
    expect(new X509Certificate(chain).publicKey.asymmetricKeyType).toBe(asymmetric);
  });

  test("with the chain up to the preferred root where the CA has it, else with the usual one", async () => {
    const ca = await startCa();
    const chains = ["Test root two", "Test root one", "No such root"].map(async (preferredChain) => {
      const { chain } = await authorityAt(ca, { preferredChain }).issue(await orderOf(["a.example.com"]), never);
      return issuersOf(chain);
    });
    expect(await Promise.all(chains)).toEqual(["CN=Test root two", "CN=Test root one", "CN=Test root one"]);
  });

  test("with the profile of the order before that of the authority, and only with one that the CA offers", async () => {
    const day = 86_400_000;
    const ca = await startCa({ profiles: { classic: 90 * day, shortlived: 6 * day } });
    const authority = authorityAt(ca, { profile: "classic" });
    const short = await authority.issue(await orderOf(["a.example.com"], { profile: "shortlived" }), never);
    expect(short.notAfter - short.notBefore).toBe(6 * day);
    const long = await authority.issue(await orderOf(["a.example.com"]), never);
    expect(long.notAfter - long.notBefore).toBe(90 * day);
    await expect(
      authority.issue(await orderOf(["b.example.com"], { profile: "forever" }), never),
    ).rejects.toMatchObject({
      code: "CERT_ORDER_PROFILE",
      message: 'Cannot order with the profile "forever": the CA offers classic, shortlived',
    });
    expect(ca.orders).toHaveLength(2);
  });

  test("only by a CA over https, or by one on this machine", async () => {
    const ca = await startCa();
    for (const directory of [
      "http://ca.example.com/directory",
      "ftp://127.0.0.1/",
      "http://127.0.0.1.example.com/",
      "ca",
    ]) {
      expect(() => authorityAt(ca, { directory }), directory).toThrow("not the https URL of a directory");
    }
    expect(() => authorityAt(ca, { id: "../up" })).toThrow("letters, digits");
  });
});

describe("renewal", () => {
  test("AC-3 the CA is told which certificate is replaced, and a CA that does not like that still issues", async () => {
    const ca = await startCa();
    const authority = authorityAt(ca);
    const first = await authority.issue(await orderOf(["a.example.com"]), never);
    const replaces = first.chain;
    await authority.issue(await orderOf(["a.example.com"], { replaces }), never);
    await authority.issue(await orderOf(["a.example.com"], { replaces }), never); // replaced already
    const [one, two, three] = ca.orders;
    expect([two!.replaces, three!.replaces]).toEqual([one!.issued!.id, undefined]);
    const other = await startCa();
    await authorityAt(other).issue(await orderOf(["a.example.com"], { replaces }), never); // never issued there
    expect(other.orders.map((order) => order.replaces)).toEqual([undefined]);
  });

  test("AC-13 a window that the CA moves to the past is what we are told", async () => {
    const ca = await startCa();
    const authority = authorityAt(ca);
    const { chain, notBefore, notAfter } = await authority.issue(await orderOf(["a.example.com"]), never);
    const usual = await authority.renewalWindow(chain, never);
    expect(usual).toEqual({
      start: notBefore + ((notAfter - notBefore) * 2) / 3,
      end: notBefore + ((notAfter - notBefore) * 2) / 3 + 86_400_000,
      retryAfter: 21_600_000,
    });
    ca.window = () => ({ start: notBefore - 2000, end: notBefore - 1000, retryAfter: 1 });
    expect(await authority.renewalWindow(chain, never)).toEqual({
      start: notBefore - 2000,
      end: notBefore - 1000,
      retryAfter: 60_000,
    });
  });

  test.each([
    ["404", { status: 404, body: {} }],
    ["500", { status: 500, body: "oops" }],
    ["a window that ends before it starts", { start: 2000, end: 1000 }],
    ["HTML", { status: 200, body: "<html>" }],
    ["no window", { status: 200, body: {} }],
  ])("AC-3 %s in place of a window: the usual rule is to be used", async (_, window) => {
    const ca = await startCa();
    const authority = authorityAt(ca);
    const { chain } = await authority.issue(await orderOf(["a.example.com"]), never);
    ca.window = () => window;
    expect(await authority.renewalWindow(chain, never)).toBeUndefined();
  });

  test("AC-3 a CA that is down has no window either", async () => {
    const ca = await TestCa.start();
    const authority = authorityAt(ca);
    const { chain } = await authority.issue(await orderOf(["a.example.com"]), never);
    await ca.close();
    expect(await authority.renewalWindow(chain, never)).toBeUndefined();
  });
});

describe("revocation", () => {
  test("by the account; what is revoked already counts as done", async () => {
    const ca = await startCa();
    const authority = authorityAt(ca);
    const { chain, key } = await authority.issue(await orderOf(["a.example.com"]), never);
    await authority.revoke(chain, key, never);
    await authority.revoke(chain, key, never);
    expect(ca.revoked).toEqual([ca.orders[0]!.issued!.leaf.serialNumber]);
  });

  test("by the key of the certificate once the account is another", async () => {
    const ca = await startCa();
    const { chain, key } = await authorityAt(ca).issue(await orderOf(["a.example.com"]), never);
    await authorityAt(ca).revoke(chain, key, never);
    expect(ca.accounts).toHaveLength(2);
    expect(ca.revoked).toHaveLength(1);
  });
});
