import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import { Fault, messageOf } from "../base/fault.ts";
import type { Certificate } from "./certificate.ts";

const LARGEST_CHAIN = 128 * 1024;
const LONGEST_CHAIN = 10;
const LEAST_RSA_BITS = 2048;
/** Between our clock and a CA's: theirs begin at the moment of issue, some an hour before. */
const CLOCK_SKEW_MS = 10 * 60_000;
/** id-kp-serverAuth, RFC 5280 section 4.2.1.12. */
const SERVER_AUTH = "1.3.6.1.5.5.7.3.1";
const BLOCK = /-----BEGIN ([A-Z0-9 ]{1,40})-----[A-Za-z0-9+/=\s]*-----END \1-----/g;

/** It is asked for every hour, and costs as much as a signature. */
const serials = new WeakMap<Certificate, string>();

export interface Expected {
  /** That the leaf must have, each literally; absent: whichever it has. */
  readonly names?: readonly string[];
  /** Unix time in ms; absent: its dates do not matter. */
  readonly now?: number;
  /** That the chain must end at; absent: any. */
  readonly roots?: readonly X509Certificate[] | undefined;
}

/**
 * A chain and its key as they are to be served, or why they must not be: a gateway that takes what it is given can be put
 * out of service by one bad file.
 * @throws {Fault} CERT_REJECTED
 */
export function checkedCertificate(chain: string, key: string, expected: Expected): Certificate {
  const reject = (found: string, hint?: string): Fault => {
    const name = expected.names?.[0];
    const subject = name === undefined ? "the certificate" : `the certificate for "${name}"`;
    return new Fault("CERT_REJECTED", `Cannot use ${subject}: ${found}`, hint === undefined ? {} : { hint });
  };
  try {
    const certificates = certificatesOf(chain);
    const privateKey = createPrivateKey(key);
    const found =
      faultOfKey(certificates[0]!, privateKey) ??
      faultOfLeaf(certificates[0]!) ??
      faultOfChain(certificates, expected.roots);
    if (found !== undefined) throw reject(found);
    const leaf = certificates[0]!;
    const names = namesOf(leaf);
    const missing = (expected.names ?? []).find((name) => !names.includes(name));
    if (missing !== undefined) throw reject(`it is not for "${missing}"`);
    if (names.length === 0) throw reject("it has no DNS name");
    const { now } = expected;
    const late = certificates.find((one) => now !== undefined && one.validToDate.getTime() <= now);
    const early = certificates.find((one) => now !== undefined && one.validFromDate.getTime() > now + CLOCK_SKEW_MS);
    const clock = "If the date is right, check the clock of this machine.";
    if (late !== undefined) throw reject(`it ended at ${late.validToDate.toISOString()}`, clock);
    if (early !== undefined) throw reject(`it begins at ${early.validFromDate.toISOString()}`, clock);
    return {
      names,
      key: privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
      chain: certificates.map((certificate) => certificate.toString()).join(""),
      notBefore: leaf.validFromDate.getTime(),
      notAfter: leaf.validToDate.getTime(),
    };
  } catch (error) {
    throw error instanceof Fault ? error : reject(messageOf(error));
  }
}

/** As it stands in the store: one file, so that key and chain are of one moment. */
export function encodeBundle({ key, chain }: Certificate): Uint8Array {
  return new Uint8Array(Buffer.from(key + chain));
}

/** @throws {Fault} CERT_REJECTED */
export function parseBundle(bytes: Uint8Array, expected: Expected): Certificate {
  const text = Buffer.from(bytes).toString("latin1");
  const key = /^-----BEGIN PRIVATE KEY-----[\w+/=\s]*-----END PRIVATE KEY-----\n/.exec(text)?.[0] ?? "";
  return checkedCertificate(text.slice(key.length), key, expected);
}

/** Lower case; what a certificate says beside DNS names is no name to serve. */
export function namesOf(leaf: X509Certificate): readonly string[] {
  const names = (leaf.subjectAltName ?? "").split(", ").filter((entry) => entry.startsWith("DNS:"));
  return [...new Set(names.map((entry) => entry.slice(4).toLowerCase()))];
}

/** Hex, lower case, as `openssl x509 -serial` and the CA's pages show it. */
export function serialOf(certificate: Certificate): string {
  let serial = serials.get(certificate);
  if (serial === undefined) {
    serial = new X509Certificate(certificate.chain).serialNumber.toLowerCase();
    serials.set(certificate, serial);
  }
  return serial;
}

/** PEM of one kind only: a private key in a chain would be sent to every client. */
function certificatesOf(chain: string): readonly X509Certificate[] {
  if (chain.length > LARGEST_CHAIN) throw new Error(`it has ${chain.length} bytes, at most ${LARGEST_CHAIN} wanted`);
  const blocks = [...chain.matchAll(BLOCK)];
  const label = blocks.map((block) => block[1]!).find((name) => name !== "CERTIFICATE");
  if (label !== undefined) throw new Error(`"${label}" is in the chain`);
  if (blocks.length === 0) throw new Error("there is no certificate in it");
  if (blocks.length > LONGEST_CHAIN) throw new Error(`${blocks.length} certificates are in the chain`);
  if (/-----(?:BEGIN|END)/.test(chain.replace(BLOCK, ""))) throw new Error("a part of the chain is cut off");
  return blocks.map((block) => new X509Certificate(block[0]));
}

function faultOfKey(leaf: X509Certificate, key: KeyObject): string | undefined {
  if (!leaf.checkPrivateKey(key)) return "its key is another one";
  const bits = leaf.publicKey.asymmetricKeyDetails?.modulusLength;
  return bits !== undefined && bits < LEAST_RSA_BITS ? `its RSA key has ${bits} bits` : undefined;
}

function faultOfLeaf(leaf: X509Certificate): string | undefined {
  if (leaf.ca) return "its first certificate is that of a CA";
  // `keyUsage` is node's name for the extended key usage.
  const usages: readonly string[] | undefined = leaf.keyUsage;
  if (usages !== undefined && !usages.includes(SERVER_AUTH)) return "it is not for servers";
  if (/md5|sha-?1(?!\d)/i.test(leaf.signatureAlgorithm ?? "")) return `it is signed with ${leaf.signatureAlgorithm}`;
  return undefined;
}

function faultOfChain(
  certificates: readonly X509Certificate[],
  roots: readonly X509Certificate[] | undefined,
): string | undefined {
  for (const [index, issuer] of certificates.slice(1).entries()) {
    const issued = certificates[index]!;
    if (!issuer.ca || !issued.checkIssued(issuer) || !issued.verify(issuer.publicKey)) {
      return `certificate ${index + 1} of its chain is not issued by the next`;
    }
  }
  const last = certificates.at(-1)!;
  const isKnown = (root: X509Certificate): boolean =>
    root.raw.equals(last.raw) || (last.checkIssued(root) && last.verify(root.publicKey));
  return roots === undefined || roots.some(isKnown) ? undefined : "its chain ends at no known root";
}
