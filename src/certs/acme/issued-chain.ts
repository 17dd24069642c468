import { createPrivateKey, X509Certificate } from "node:crypto";
import { messageOf } from "../../base/fault.ts";
import type { Certificate } from "../certificate.ts";

const LONGEST_CHAIN = 10;

/** What a CA gave for an order. A string says why it cannot be that. */
export function readIssuedChain(text: unknown, key: string, names: readonly string[]): Certificate | string {
  if (typeof text !== "string") return "no text in place of a certificate";
  const blocks = [...text.matchAll(/-----BEGIN ([^-\n]{1,40})-----[\w+/=\s]*-----END \1-----/g)];
  // RFC 8555 section 9.1: a file that holds anything but certificates is not to be trusted.
  if (blocks.length === 0 || blocks.length > LONGEST_CHAIN) return `${blocks.length} certificates in the chain`;
  const other = blocks.find(([, label]) => label !== "CERTIFICATE")?.[1];
  if (other !== undefined) return `"${other}" in the chain`;
  try {
    const [leaf] = blocks.map(([pem]) => new X509Certificate(pem));
    if (!leaf!.checkPrivateKey(createPrivateKey(key))) return "a certificate for another key";
    const covered = new Set((leaf!.subjectAltName ?? "").split(", ").map((entry) => entry.toLowerCase()));
    const missing = names.find((name) => !covered.has(`dns:${name}`));
    if (missing !== undefined) return `a certificate without "${missing}"`;
    return {
      names: [...names],
      key,
      chain: blocks.map(([pem]) => `${pem}\n`).join(""),
      notBefore: Date.parse(leaf!.validFrom),
      notAfter: Date.parse(leaf!.validTo),
    };
  } catch (error) {
    return `a chain that cannot be read: ${messageOf(error)}`;
  }
}
