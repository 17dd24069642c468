import "reflect-metadata"; // @peculiar/x509 wants it first
import { createPrivateKey, type webcrypto, X509Certificate } from "node:crypto";
import * as x509 from "@peculiar/x509";
import { formatAddress, maskedPrefix, parseAddress, prefixContains, prefixes } from "../base/address.ts";
import { systemClock } from "../base/clock.ts";
import { Fault, messageOf } from "../base/fault.ts";
import { type Random, systemRandom } from "../base/random.ts";
import { derValue } from "./der.ts";
import { keyPem } from "./self-signed.ts";

const { subtle } = globalThis.crypto;
const ECDSA = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const DAY_MS = 86_400_000;
const CA_DAYS = 3650;
/** CA/Browser Forum Baseline Requirements 6.3.2: at most 398 days, which some clients hold private CAs to as well. */
const LEAF_DAYS = 397;
/** Clocks of others may be behind ours. */
const BACKDATE_MS = 3_600_000;
const MOST_NAMES = 100;

/** The CA is for names of meshes and private networks: a stolen key must not speak for the internet. */
const PERMITTED_ADDRESSES = prefixes(
  "10.0.0.0/8",
  "100.64.0.0/10",
  "127.0.0.0/8",
  "172.16.0.0/12",
  "192.168.0.0/16",
  "::1/128",
  "fc00::/7",
);

export interface LocalCaOptions {
  readonly random?: Random;
  /** Unix time in ms. */
  readonly wall: () => number;
  /** Shown to people who look at the certificate. */
  readonly name?: string;
  /** DNS suffixes that the CA may sign for, besides `localhost`; written into its certificate. Absent = any. */
  readonly domains?: readonly string[];
}

export interface LocalCaPem {
  readonly key: string;
  readonly certificate: string;
}

export interface IssuedCertificate {
  /** PKCS #8 PEM. */
  readonly key: string;
  /** PEM: the leaf, then the CA. */
  readonly certificate: string;
  /** Unix time in ms. */
  readonly notAfter: number;
}

/**
 * A certificate authority of our own, for meshes without a public one. Importing this file costs some 50 ms, so callers
 * `import()` it when they need it.
 */
export class LocalCa {
  readonly #key: webcrypto.CryptoKey;
  readonly #keyPem: string;
  readonly #certificate: x509.X509Certificate;
  readonly #random: Random;
  readonly #wall: () => number;
  readonly #domains: readonly string[] | undefined;

  private constructor(
    key: webcrypto.CryptoKey,
    keyPem: string,
    certificate: x509.X509Certificate,
    options: LocalCaOptions,
  ) {
    this.#key = key;
    this.#keyPem = keyPem;
    this.#certificate = certificate;
    this.#random = options.random ?? systemRandom;
    this.#wall = options.wall;
    this.#domains = permittedDomains(options.domains);
  }

  static async create(options: LocalCaOptions): Promise<LocalCa> {
    const { random = systemRandom, wall, name = "Sallyport local CA", domains } = options;
    const keys = await subtle.generateKey(ECDSA, true, ["sign", "verify"]);
    const now = wall();
    const certificate = await x509.X509CertificateGenerator.createSelfSigned({
      serialNumber: serial(random),
      name: [{ CN: [name] }],
      notBefore: new Date(now - BACKDATE_MS),
      notAfter: new Date(now + CA_DAYS * DAY_MS),
      signingAlgorithm: ECDSA,
      keys,
      extensions: [
        new x509.BasicConstraintsExtension(true, 0, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
        await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
        nameConstraints(domains),
      ],
    });
    return new LocalCa(keys.privateKey, await keyPem(keys.privateKey), certificate, options);
  }

  /** Takes up a CA that `export` wrote. */
  static async load(pem: LocalCaPem, options: LocalCaOptions = systemClock): Promise<LocalCa> {
    try {
      const certificate = new x509.X509Certificate(pem.certificate);
      const node = new X509Certificate(pem.certificate);
      if (!node.ca) throw new Error("the certificate is not of a CA");
      if (!node.checkPrivateKey(createPrivateKey(pem.key)))
        throw new Error("key and certificate do not belong together");
      const key = await subtle.importKey("pkcs8", x509.PemConverter.decodeFirst(pem.key), ECDSA, true, ["sign"]);
      return new LocalCa(key, pem.key, certificate, options);
    } catch (cause) {
      throw new Fault("CERT_CA_UNREADABLE", `Cannot load the local CA: ${messageOf(cause)}`, {
        cause,
        hint: "Restore its file from a backup, or remove it to make a new CA that clients must trust anew.",
      });
    }
  }

  export(): LocalCaPem {
    return { key: this.#keyPem, certificate: `${this.#certificate.toString("pem")}\n` };
  }

  /** Unix time in ms. */
  get notAfter(): number {
    return this.#certificate.notAfter.getTime();
  }

  /** A server certificate with a new key for DNS names (`*.` in front allowed) and addresses. */
  async issue(names: readonly string[]): Promise<IssuedCertificate> {
    const alternatives = checkedNames(names, this.#domains);
    const now = this.#wall();
    const notAfter = Math.min(now + LEAF_DAYS * DAY_MS - BACKDATE_MS, this.notAfter);
    if (notAfter <= now) {
      throw new Fault("CERT_CA_EXPIRED", `Cannot issue a certificate for "${names[0]}": the local CA has expired`, {
        hint: "Make a new local CA and let clients trust it.",
      });
    }
    const keys = await subtle.generateKey(ECDSA, true, ["sign", "verify"]);
    const leaf = await x509.X509CertificateGenerator.create({
      serialNumber: serial(this.#random),
      // The subject is decoration (RFC 9525); names over 64 characters do not fit it.
      subject: [{ CN: [names.find((name) => name.length <= 64) ?? "sallyport"] }],
      issuer: this.#certificate.subject,
      notBefore: new Date(now - BACKDATE_MS),
      notAfter: new Date(notAfter),
      signingAlgorithm: ECDSA,
      publicKey: keys.publicKey,
      signingKey: this.#key,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
        new x509.SubjectAlternativeNameExtension(alternatives),
        await x509.AuthorityKeyIdentifierExtension.create(this.#certificate.publicKey),
        await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
      ],
    });
    return {
      key: await keyPem(keys.privateKey),
      certificate: `${leaf.toString("pem")}\n${this.#certificate.toString("pem")}\n`,
      notAfter: leaf.notAfter.getTime(),
    };
  }
}

/** 127 random bits: positive, never zero, at most 20 bytes (RFC 5280 §4.1.2.2). */
function serial(random: Random): string {
  const bytes = random(16);
  bytes[0] = (bytes[0]! & 0x7f) | 0x40;
  return Buffer.from(bytes).toString("hex");
}

/** RFC 5280 §4.2.1.10, critical. An address constraint is address and mask. */
function nameConstraints(domains: readonly string[] | undefined): x509.Extension {
  const subtrees = PERMITTED_ADDRESSES.map((prefix) => {
    const mask = maskedPrefix({ address: new Uint8Array(prefix.address.length).fill(255), bits: prefix.bits });
    return derValue(0x87, prefix.address, mask.address);
  });
  for (const domain of permittedDomains(domains) ?? []) subtrees.push(derValue(0x82, Buffer.from(domain, "ascii")));
  const permitted = derValue(0xa0, ...subtrees.map((base) => derValue(0x30, base)));
  return new x509.Extension("2.5.29.30", true, new Uint8Array(derValue(0x30, permitted)));
}

function permittedDomains(domains: readonly string[] | undefined): readonly string[] | undefined {
  return domains === undefined
    ? undefined
    : ["localhost", ...domains].map((domain) => domain.toLowerCase().replace(/^\.|\.$/g, ""));
}

function checkedNames(
  names: readonly string[],
  domains: readonly string[] | undefined,
): { type: "dns" | "ip"; value: string }[] {
  const fail = (name: string, found: string): Fault =>
    new Fault("CERT_NAME", `Cannot issue a certificate for "${name}": ${found}`, {
      hint: "Give a DNS name or an IP address.",
    });
  if (names.length === 0 || names.length > MOST_NAMES)
    throw fail(names[0] ?? "", `${names.length} names, 1 to ${MOST_NAMES} wanted`);
  return names.map((name) => {
    const address = parseAddress(name);
    if (address !== undefined) {
      if (!PERMITTED_ADDRESSES.some((prefix) => prefixContains(prefix, address))) throw fail(name, "a public address");
      return { type: "ip", value: formatAddress(address) };
    }
    const isName =
      /^(?:\*\.)?(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/i.test(name);
    // The last label of a name is never a number: "1.2.3" and "127.1" are addresses to some readers.
    if (!isName || name.length > 253 || /(^|\.)\d+$/.test(name)) throw fail(name, "not a DNS name");
    const value = name.toLowerCase();
    if (domains?.some((domain) => value === domain || value.endsWith(`.${domain}`)) === false) {
      throw fail(name, `not in ${domains.join(", ")}, for which the local CA stands`);
    }
    return { type: "dns", value };
  });
}
