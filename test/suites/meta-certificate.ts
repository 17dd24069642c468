import "reflect-metadata";
import { webcrypto } from "node:crypto";
import * as x509 from "@peculiar/x509";
import { toHex } from "../../src/base/bytes.ts";
import { DERP_VERSION } from "../../src/wire/derp.ts";

const THIRTY_DAYS_MS = 30 * 86_400_000;

/**
 * A certificate that stock relays append to their own chain (PEM); ours does not, as 1.82 refuses it. It proves nothing: it tells stock clients the relay's key and
 * protocol version, so that they send their first frames together with the request (`Derp-Fast-Start`), which saves a
 * round trip. Upstream `derp/derpserver:initMetacert`; clients read its name and serial number and nothing else.
 */
export async function createMetaCertificate(relayKey: Uint8Array, wall: number): Promise<string> {
  x509.cryptoProvider.set(webcrypto as unknown as Crypto);
  const keys = await webcrypto.subtle.generateKey({ name: "Ed25519" }, true, ["sign", "verify"]);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: DERP_VERSION.toString(16).padStart(2, "0"),
    name: [{ CN: [`derpkey${toHex(relayKey)}`] }],
    notBefore: new Date(wall - THIRTY_DAYS_MS),
    notAfter: new Date(wall + THIRTY_DAYS_MS),
    signingAlgorithm: { name: "Ed25519" },
    keys: keys as unknown as webcrypto.CryptoKeyPair,
    extensions: [new x509.BasicConstraintsExtension(false)],
  });
  return `${certificate.toString("pem")}\n`;
}
