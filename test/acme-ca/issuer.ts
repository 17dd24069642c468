import "reflect-metadata"; // @peculiar/x509 wants it first
import { randomBytes, type webcrypto } from "node:crypto";
import * as x509 from "@peculiar/x509";

const { subtle } = globalThis.crypto;
const ECDSA = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const YEAR_MS = 365 * 86_400_000;

export interface Issued {
  /** PEM: leaf and intermediate. */
  readonly chain: string;
  /** The same leaf, up to the other root. */
  readonly alternate: string;
  readonly leaf: x509.X509Certificate;
  /** RFC 9773 section 4.1. */
  readonly id: string;
}

type Intermediates = readonly [x509.X509Certificate, x509.X509Certificate];

/** Two roots, one intermediate under both, and leaves with whatever validity the test wants. */
export class Issuer {
  /** PEM. */
  readonly root: string;
  readonly #key: webcrypto.CryptoKey;
  readonly #intermediates: Intermediates;

  private constructor(root: string, key: webcrypto.CryptoKey, intermediates: Intermediates) {
    this.root = root;
    this.#key = key;
    this.#intermediates = intermediates;
  }

  static async create(wall: number): Promise<Issuer> {
    const span = { notBefore: new Date(wall - 5 * YEAR_MS), notAfter: new Date(wall + 20 * YEAR_MS) };
    const keys = await subtle.generateKey(ECDSA, true, ["sign", "verify"]);
    const under = async (name: string): Promise<[string, x509.X509Certificate]> => {
      const rootKeys = await subtle.generateKey(ECDSA, true, ["sign", "verify"]);
      const root = await x509.X509CertificateGenerator.createSelfSigned({
        name: [{ CN: [name] }],
        ...span,
        signingAlgorithm: ECDSA,
        keys: rootKeys,
        extensions: await authorityExtensions(rootKeys.publicKey),
      });
      const intermediate = await x509.X509CertificateGenerator.create({
        subject: [{ CN: ["Test intermediate"] }],
        issuer: root.subject,
        ...span,
        signingAlgorithm: ECDSA,
        publicKey: keys.publicKey,
        signingKey: rootKeys.privateKey,
        extensions: [
          ...(await authorityExtensions(keys.publicKey)),
          await x509.AuthorityKeyIdentifierExtension.create(rootKeys.publicKey),
        ],
      });
      return [pem(root), intermediate];
    };
    const [first, second] = [await under("Test root one"), await under("Test root two")];
    return new Issuer(first[0], keys.privateKey, [first[1], second[1]]);
  }

  async issue(request: x509.Pkcs10CertificateRequest, notBefore: number, notAfter: number): Promise<Issued> {
    const serialNumber = Buffer.concat([Uint8Array.of(0x5a), randomBytes(12)]).toString("hex");
    const [intermediate, other] = this.#intermediates;
    const authorityKey = await x509.AuthorityKeyIdentifierExtension.create(intermediate.publicKey);
    const leaf = await x509.X509CertificateGenerator.create({
      serialNumber,
      issuer: intermediate.subject,
      notBefore: new Date(notBefore),
      notAfter: new Date(notAfter),
      signingAlgorithm: ECDSA,
      publicKey: request.publicKey,
      signingKey: this.#key,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
        new x509.SubjectAlternativeNameExtension(namesOf(request).map((value) => ({ type: "dns", value }))),
        authorityKey,
        await x509.SubjectKeyIdentifierExtension.create(request.publicKey),
      ],
    });
    const part = (hex: string): string => Buffer.from(hex, "hex").toString("base64url");
    return {
      chain: pem(leaf) + pem(intermediate),
      alternate: pem(leaf) + pem(other),
      leaf,
      id: `${part(authorityKey.keyId!)}.${part(serialNumber)}`,
    };
  }
}

/** A request as RFC 8555 sends it: base64url of its DER. */
export function readRequest(csr: string): x509.Pkcs10CertificateRequest {
  return new x509.Pkcs10CertificateRequest(Buffer.from(csr, "base64url"));
}

export function namesOf(request: x509.Pkcs10CertificateRequest): readonly string[] {
  const extension = request.extensions.find((one) => one instanceof x509.SubjectAlternativeNameExtension);
  return (extension?.names.toJSON() ?? []).map(({ value }) => value);
}

async function authorityExtensions(key: webcrypto.CryptoKey): Promise<x509.Extension[]> {
  return [
    new x509.BasicConstraintsExtension(true, undefined, true),
    new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
    await x509.SubjectKeyIdentifierExtension.create(key),
  ];
}

function pem(certificate: x509.X509Certificate): string {
  return `${certificate.toString("pem")}\n`;
}
