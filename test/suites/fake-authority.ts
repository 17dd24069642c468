import "reflect-metadata";
import { createPrivateKey, createPublicKey, webcrypto } from "node:crypto";
import * as x509 from "@peculiar/x509";
import type { Clock } from "../../src/base/clock.ts";
import type { Authority, OrderRequest, RenewalWindow } from "../../src/certs/acme/authority.ts";
import type { Certificate } from "../../src/certs/certificate.ts";

const ECDSA = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

export interface CertificateForm {
  readonly names: readonly string[];
  /** PKCS #8 PEM. */
  readonly key: string;
  readonly notBefore: number;
  readonly notAfter: number;
  readonly usages?: readonly string[];
  readonly isCa?: boolean;
  readonly hash?: string;
}

/** Signs what it is told, right or wrong. */
export class Signer {
  readonly #keys: webcrypto.CryptoKeyPair;
  readonly #certificate: x509.X509Certificate;
  /** Down from the one below the root, without the root; the leaf comes before them. */
  readonly chain: readonly string[];

  private constructor(keys: webcrypto.CryptoKeyPair, certificate: x509.X509Certificate, chain: readonly string[]) {
    this.#keys = keys;
    this.#certificate = certificate;
    this.chain = chain;
  }

  get pem(): string {
    return `${this.#certificate.toString("pem")}\n`;
  }

  static async create(name: string, from: number, to: number, issuer?: Signer): Promise<Signer> {
    const keys = (await webcrypto.subtle.generateKey(ECDSA, true, ["sign", "verify"])) as webcrypto.CryptoKeyPair;
    const certificate = await x509.X509CertificateGenerator.create({
      serialNumber: serial(),
      subject: [{ CN: [name] }],
      issuer: issuer === undefined ? [{ CN: [name] }] : issuer.#certificate.subject,
      notBefore: new Date(from),
      notAfter: new Date(to),
      signingAlgorithm: ECDSA,
      publicKey: keys.publicKey,
      signingKey: issuer === undefined ? keys.privateKey : issuer.#keys.privateKey,
      extensions: [
        new x509.BasicConstraintsExtension(true, undefined, true),
        await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
      ],
    });
    const chain = issuer === undefined ? [] : [`${certificate.toString("pem")}\n`, ...issuer.chain];
    return new Signer(keys, certificate, chain);
  }

  async sign(form: CertificateForm): Promise<string> {
    const publicKey = createPublicKey(createPrivateKey(form.key)).export({ type: "spki", format: "der" });
    const leaf = await x509.X509CertificateGenerator.create({
      serialNumber: serial(),
      subject: [{ CN: ["test"] }],
      issuer: this.#certificate.subject,
      notBefore: new Date(form.notBefore),
      notAfter: new Date(form.notAfter),
      signingAlgorithm: { ...ECDSA, hash: form.hash ?? "SHA-256" },
      publicKey: new Uint8Array(publicKey),
      signingKey: this.#keys.privateKey,
      extensions: [
        new x509.BasicConstraintsExtension(form.isCa ?? false, undefined, true),
        new x509.ExtendedKeyUsageExtension([...(form.usages ?? [x509.ExtendedKeyUsage.serverAuth])]),
        new x509.SubjectAlternativeNameExtension(form.names.map((value) => ({ type: "dns", value }) as const)),
        await x509.AuthorityKeyIdentifierExtension.create(this.#certificate.publicKey),
      ],
    });
    return `${leaf.toString("pem")}\n`;
  }
}

/** A CA in memory that does what a test says. */
export class FakeAuthority implements Authority {
  readonly id: string;
  readonly #clock: Clock;
  readonly #signer: Signer;
  readonly issued: { readonly names: readonly string[]; readonly replaces: string | undefined; readonly at: number }[] =
    [];
  readonly revoked: string[] = [];
  attempts: number[] = [];
  queries: number[] = [];
  lifetime: number = 90 * DAY_MS;
  /** Thrown in place of an answer. */
  failure: ((request: OrderRequest) => Error | undefined) | undefined;
  window: ((chain: string) => RenewalWindow | undefined) | undefined;
  /** In place of the right one. */
  instead: ((right: Certificate) => Certificate | Promise<Certificate>) | undefined;

  constructor(id: string, clock: Clock, signer: Signer) {
    this.id = id;
    this.#clock = clock;
    this.#signer = signer;
  }

  async issue(request: OrderRequest, signal: AbortSignal): Promise<Certificate> {
    this.attempts.push(this.#clock.wall());
    signal.throwIfAborted();
    const { key } = request.progress;
    await request.save({ key, asked: true });
    const failure = this.failure?.(request);
    if (failure !== undefined) throw failure;
    await request.save({ key, asked: true, url: `order/${this.issued.length}` });
    const [notBefore, notAfter] = [this.#clock.wall() - HOUR_MS, this.#clock.wall() - HOUR_MS + this.lifetime];
    const { names, replaces } = request;
    const leaf = await this.#signer.sign({ names, key, notBefore, notAfter });
    this.issued.push({ names, replaces, at: this.#clock.wall() });
    const right = { names, key, chain: [leaf, ...this.#signer.chain].join(""), notBefore, notAfter };
    return this.instead === undefined ? right : this.instead(right);
  }

  async renewalWindow(chain: string): Promise<RenewalWindow | undefined> {
    this.queries.push(this.#clock.wall());
    return this.window?.(chain);
  }

  async revoke(chain: string): Promise<void> {
    this.revoked.push(chain);
  }

  async accountUrl(): Promise<string> {
    return `account/${this.id}`;
  }

  async rollAccountKey(): Promise<void> {}
}

let serials = 0;
function serial(): string {
  return `4${(++serials).toString(16).padStart(15, "0")}`;
}
