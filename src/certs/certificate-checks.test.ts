import { generateKeyPairSync, X509Certificate } from "node:crypto";
import { beforeAll, describe, expect, test } from "vitest";
import { type CertificateForm, Signer } from "../../test/suites/fake-authority.ts";
import type { Certificate } from "./certificate.ts";
import { checkedCertificate, encodeBundle, namesOf, parseBundle, serialOf } from "./certificate-checks.ts";
import { newCertificateKey } from "./certificate-key.ts";

const DAY_MS = 86_400_000;
const NOW = Date.UTC(2026, 5, 1);
const [FROM, TO] = [NOW - 365 * DAY_MS, NOW + 365 * DAY_MS];
const NAMES = ["gate.example", "*.gate.example"];

let root: Signer;
let issuer: Signer;
let stranger: Signer;
let late: Signer;
let key: string;
let right: { chain: string; key: string };

beforeAll(async () => {
  root = await Signer.create("root", FROM, TO);
  issuer = await Signer.create("issuer", FROM, TO, root);
  late = await Signer.create("late issuer", FROM, NOW - DAY_MS, root);
  const foreignRoot = await Signer.create("foreign root", FROM, TO);
  stranger = await Signer.create("issuer", FROM, TO, foreignRoot);
  key = await newCertificateKey();
  right = { chain: await chainOf({}), key };
});

async function chainOf(more: Partial<CertificateForm>, by: Signer = issuer): Promise<string> {
  const form = { names: NAMES, key, notBefore: NOW - 3_600_000, notAfter: NOW + 90 * DAY_MS, ...more };
  return [await by.sign(form), ...by.chain].join("");
}

const expected = () => ({ names: NAMES, now: NOW, roots: [new X509Certificate(root.pem)] });
const blocks = (chain: string): string[] => chain.match(/-----BEGIN[\s\S]*?END CERTIFICATE-----\n/g)!;

/** What a CA, a disk or a hand may give in place of a certificate, and the word that tells which it was. */
const FORMS: Record<string, readonly [() => Promise<{ chain?: string; key?: string }>, RegExp]> = {
  "another key": [async () => ({ key: await newCertificateKey() }), /its key is another/],
  "a key of another kind": [async () => ({ key: await newCertificateKey("rsa") }), /key/],
  "no key": [async () => ({ key: "" }), /./],
  "half a key": [async () => ({ key: key.slice(0, 100) }), /./],
  "a missing name": [
    async () => ({ chain: await chainOf({ names: ["gate.example"] }) }),
    /not for "\*\.gate\.example"/,
  ],
  "a name that only a wildcard covers": [
    async () => ({ chain: await chainOf({ names: ["*.example", "*.gate.example"] }) }),
    /not for "gate\.example"/,
  ],
  "a start in the future": [async () => ({ chain: await chainOf({ notBefore: NOW + DAY_MS }) }), /begins at .*/],
  "an end in the past": [
    async () => ({ chain: await chainOf({ notBefore: NOW - 2 * DAY_MS, notAfter: NOW - 1000 }) }),
    /ended at/,
  ],
  "an issuer that has ended": [async () => ({ chain: await chainOf({}, late) }), /ended at/],
  "a root that nobody knows": [async () => ({ chain: await chainOf({}, stranger) }), /no known root/],
  "an issuer of the same name with another key": [
    async () => ({ chain: blocks(right.chain)[0]! + stranger.chain.join("") }),
    /not issued by the next/,
  ],
  "a private key inside": [async () => ({ chain: right.chain + key }), /"PRIVATE KEY" is in the chain/],
  garbage: [async () => ({ chain: "\0\x01\xff".repeat(500) }), /no certificate/],
  "a web page": [async () => ({ chain: "<html><body>502 Bad Gateway</body></html>" }), /no certificate/],
  nothing: [async () => ({ chain: "" }), /no certificate/],
  "5 MiB": [async () => ({ chain: right.chain.repeat(Math.ceil((5 << 20) / right.chain.length)) }), /bytes/],
  "the same eleven times": [async () => ({ chain: right.chain.repeat(11) }), /certificates are in the chain/],
  "a chain cut off": [async () => ({ chain: right.chain.slice(0, -60) }), /cut off/],
  "a flipped bit": [
    async () => ({ chain: right.chain.replace(/\n(.)/, (_, first: string) => `\n${first === "M" ? "N" : "M"}`) }),
    /./,
  ],
  "the issuer first": [async () => ({ chain: blocks(right.chain).reverse().join("") }), /key|CA/],
  "the leaf alone": [async () => ({ chain: blocks(right.chain)[0]! }), /no known root/],
  "a certificate of a CA": [async () => ({ chain: await chainOf({ isCa: true }) }), /of a CA/],
  "one for clients": [async () => ({ chain: await chainOf({ usages: ["1.3.6.1.5.5.7.3.2"] }) }), /not for servers/],
  "a signature with SHA-1": [async () => ({ chain: await chainOf({ hash: "SHA-1" }) }), /signed with/],
  "an RSA key of 1024 bits": [
    async () => {
      const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 1024 });
      const weak = privateKey.export({ type: "pkcs8", format: "pem" }).toString();
      return { chain: await chainOf({ key: weak }), key: weak };
    },
    /1024 bits/,
  ],
};

describe(`AC-8 ${Object.keys(FORMS).length} forms of a bad certificate`, () => {
  test.each(Object.entries(FORMS))("%s: refused, and said why", async (_name, [make, words]) => {
    const { chain, key: ofKey } = { ...right, ...(await make()) };
    let fault: unknown;
    try {
      checkedCertificate(chain, ofKey, expected());
    } catch (error) {
      fault = error;
    }
    expect(fault).toMatchObject({ code: "CERT_REJECTED", message: expect.stringMatching(words) });
    expect(String(fault), "no key in a log").not.toContain("PRIVATE KEY-----");
  });
});

test("a good one is taken: with or without its root, with a start a little ahead of our clock, RSA too", async () => {
  const certificate = checkedCertificate(right.chain, right.key, expected());
  expect(certificate).toEqual({
    names: NAMES,
    key,
    chain: right.chain,
    notBefore: NOW - 3_600_000,
    notAfter: NOW + 90 * DAY_MS,
  } satisfies Certificate);
  checkedCertificate(right.chain + root.pem, right.key, expected());
  checkedCertificate(await chainOf({ notBefore: NOW + 60_000 }), key, expected());
  const rsa = await newCertificateKey("rsa");
  checkedCertificate(await chainOf({ key: rsa }), rsa, expected());
});

test("key and chain are one value in the store, and come back as they were", () => {
  const certificate = checkedCertificate(right.chain, right.key, expected());
  expect(parseBundle(encodeBundle(certificate), expected())).toEqual(certificate);
  const bytes = encodeBundle(certificate);
  for (let end = 0; end < bytes.length - 1; end += 37) {
    let code: unknown;
    try {
      parseBundle(bytes.slice(0, end), expected());
    } catch (error) {
      code = (error as { code?: unknown }).code;
    }
    expect(code, `cut at ${end}`).toBe("CERT_REJECTED");
  }
});

test("names and serial are read as they stand there", () => {
  const leaf = new X509Certificate(right.chain);
  expect(namesOf(leaf)).toEqual(NAMES);
  const certificate = checkedCertificate(right.chain, right.key, expected());
  expect(serialOf(certificate)).toBe(leaf.serialNumber.toLowerCase());
});
