import { createHash, X509Certificate } from "node:crypto";
import type { LogEntry } from "./log-entry.ts";

/** A certificate in a log, as far as it concerns us. */
export interface SeenCertificate {
  readonly names: readonly string[];
  readonly issuer: string;
  /** Hex. With the issuer it is the same for a precertificate and its certificate. */
  readonly serial: string;
  /** SHA-256 of the public key (SubjectPublicKeyInfo), in hex. */
  readonly key: string;
  /** Unix ms. */
  readonly notAfter: number;
}

/** Undefined for what no browser could read either. */
export function seenCertificate({ certificate }: LogEntry): SeenCertificate | undefined {
  try {
    const read = new X509Certificate(certificate);
    return {
      names: dnsNames(read.subjectAltName ?? ""),
      issuer: read.issuer.replaceAll("\n", ", "),
      serial: read.serialNumber,
      key: keyDigest(read),
      notAfter: Date.parse(read.validTo),
    };
  } catch {
    return undefined;
  }
}

export function keyDigest({ publicKey }: X509Certificate): string {
  return createHash("sha256")
    .update(publicKey.export({ type: "spki", format: "der" }))
    .digest("hex");
}

/** Node puts names with other characters into quotes; those are no host names. */
function dnsNames(text: string): readonly string[] {
  return text.split(", ").flatMap((one) => (one.startsWith("DNS:") ? [one.slice("DNS:".length)] : []));
}
