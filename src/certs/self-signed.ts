import "reflect-metadata";
import { createHash, webcrypto } from "node:crypto";
import * as x509 from "@peculiar/x509";

const ECDSA = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const MOST_CN = 64; // RFC 5280 appendix A, ub-common-name
const DAY_MS = 86_400_000;
const LIFETIME_DAYS = 3650; // it is pinned by its digest, not by trust in a name

export interface PinnedCertificate {
  /** PEM, PKCS #8. */
  readonly key: string;
  /** PEM. */
  readonly certificate: string;
}

/** A self-signed certificate for `name` (host name or address), to be pinned by its SHA-256 (`sha256-raw:` in DERP maps). */
export function createSelfSigned(name: string, wall: number): Promise<PinnedCertificate> {
  const isAddress = /^[\d.]+$|:/.test(name);
  return selfSigned(name, wall, wall + LIFETIME_DAYS * DAY_MS, [
    new x509.BasicConstraintsExtension(false, undefined, true),
    new x509.SubjectAlternativeNameExtension([{ type: isAddress ? "ip" : "dns", value: name }]),
    new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
  ]);
}

/** For a client that is known by this very certificate; `name` is for people who look at it. Times in Unix ms. */
export function createClientCertificate(name: string, notAfter: number, wall: number): Promise<PinnedCertificate> {
  return selfSigned([...name].slice(0, MOST_CN).join(""), wall, notAfter, [
    new x509.BasicConstraintsExtension(false, undefined, true),
    new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
    new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.clientAuth]),
  ]);
}

/** With a new key, good from a day ago on: clocks of others may be behind ours. */
export async function selfSigned(
  commonName: string,
  wall: number,
  notAfter: number,
  extensions: x509.Extension[],
): Promise<PinnedCertificate> {
  const keys = await webcrypto.subtle.generateKey(ECDSA, true, ["sign", "verify"]);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: new x509.Name([{ CN: [{ utf8String: commonName }] }]), // as it stands: `#` and quotes mean nothing
    notBefore: new Date(wall - DAY_MS),
    notAfter: new Date(notAfter),
    ...{ signingAlgorithm: ECDSA, keys, extensions },
  });
  return { key: await keyPem(keys.privateKey), certificate: `${certificate.toString("pem")}\n` };
}

export async function keyPem(key: webcrypto.CryptoKey): Promise<string> {
  return `${x509.PemConverter.encode(await webcrypto.subtle.exportKey("pkcs8", key), "PRIVATE KEY")}\n`;
}

/** SHA-256 of the DER bytes of a PEM certificate, hex. */
export function certificateDigest(pem: string): string {
  const der = Buffer.from(pem.replace(/-----[^-]+-----|\s/g, ""), "base64");
  return createHash("sha256").update(der).digest("hex");
}
