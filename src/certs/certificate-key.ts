import { generateKeyPair } from "node:crypto";
import { promisify } from "node:util";

export type KeyType = "ecdsa" | "rsa";

const generate = promisify(generateKeyPair);
/** What public CAs sign at least (Baseline Requirements 6.1.5); more only costs time in every handshake. */
const RSA_BITS = 2048;

/** PKCS #8 PEM: ECDSA on P-256, or RSA for clients that know nothing newer. */
export async function newCertificateKey(type: KeyType = "ecdsa"): Promise<string> {
  const { privateKey } =
    type === "ecdsa"
      ? await generate("ec", { namedCurve: "P-256" })
      : await generate("rsa", { modulusLength: RSA_BITS });
  return privateKey.export({ type: "pkcs8", format: "pem" }).toString();
}
