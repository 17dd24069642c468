import { messageOf } from "../base/fault.ts";
import type { Log } from "../base/log.ts";
import type { OrderProgress } from "./acme/authority.ts";
import type { Certificate } from "./certificate.ts";
import { type Expected, encodeBundle, parseBundle } from "./certificate-checks.ts";
import { certificateId, encodeRecord, type LifeRecord, parseLife, parseOrder } from "./life-record.ts";
import type { CertificateStore, Lease } from "./store/certificate-store.ts";

export interface Stored {
  readonly certificate: Certificate | undefined;
  readonly life: LifeRecord;
}

/** What stands in the store about one certificate: itself, its life, its order under way. */
export class StoredCertificate {
  readonly id: string;
  readonly #names: readonly string[];
  readonly #store: CertificateStore;
  readonly #log: Log;
  #last: { readonly bytes: Uint8Array; readonly certificate: Certificate } | undefined;

  constructor(names: readonly string[], store: CertificateStore, log: Log) {
    this.id = certificateId(names);
    this.#names = names;
    this.#store = store;
    this.#log = log;
  }

  async readAll(known: Certificate | undefined): Promise<Stored> {
    const certificate = await this.#read(known);
    return { certificate, life: await this.#readLife() };
  }

  /** Damaged: what is known, else the one before it, loudly. */
  async #read(known: Certificate | undefined): Promise<Certificate | undefined> {
    const bytes = await this.#store.read(this.#path("certificates"));
    if (bytes === undefined) return undefined;
    if (this.#last !== undefined && Buffer.compare(bytes, this.#last.bytes) === 0) return this.#last.certificate;
    try {
      const certificate = parseBundle(bytes, { names: this.#names });
      this.#last = { bytes, certificate };
      return certificate;
    } catch (error) {
      this.#log.error("certs.damaged", { path: this.#path("certificates"), error: messageOf(error) });
    }
    if (known !== undefined) return known;
    try {
      return parseBundle((await this.#store.previous(this.#path("certificates")))!, { names: this.#names });
    } catch {
      return undefined;
    }
  }

  /** Settles when the new one is on disk, and was read back and found good. */
  async write(certificate: Certificate, expected: Expected, lease: Lease): Promise<Certificate> {
    await this.#store.write(this.#path("certificates"), encodeBundle(certificate), lease);
    const bytes = await this.#store.read(this.#path("certificates"));
    return parseBundle(bytes ?? new Uint8Array(), expected);
  }

  async delete(lease: Lease): Promise<void> {
    await this.#store.delete(this.#path("certificates"), lease);
  }

  /** History that cannot be read is not worth stopping for. */
  async #readLife(): Promise<LifeRecord> {
    const path = this.#path("life");
    const bytes = await this.#store.read(path);
    const life = bytes === undefined ? undefined : parseLife(bytes);
    if (life !== undefined) return life;
    const previous = bytes === undefined ? undefined : await this.#store.previous(path);
    return (previous && parseLife(previous)) ?? { version: 1, names: this.#names, attempts: [] };
  }

  async writeLife(life: LifeRecord, lease: Lease): Promise<void> {
    await this.#store.write(this.#path("life"), encodeRecord(life), lease);
  }

  /** Of an order at `authority` that was not finished. */
  async readOrder(authority: string): Promise<OrderProgress | undefined> {
    const bytes = await this.#store.read(this.#path("orders"));
    const order = bytes === undefined ? undefined : parseOrder(bytes);
    const isOurs = order?.authority === authority && order.names.join() === this.#names.join();
    return isOurs ? order.progress : undefined;
  }

  async writeOrder(authority: string, progress: OrderProgress, lease: Lease): Promise<void> {
    const record = { authority, names: this.#names, progress };
    await this.#store.write(this.#path("orders"), encodeRecord(record), lease);
  }

  async deleteOrder(lease?: Lease): Promise<void> {
    await this.#store.delete(this.#path("orders"), lease);
  }

  /** Of the order that brought `certificate`, by a process that ended before it could say so. */
  async deleteOrderOf({ key }: Certificate): Promise<void> {
    const bytes = await this.#store.read(this.#path("orders"));
    if (bytes !== undefined && parseOrder(bytes)?.progress.key === key) await this.deleteOrder();
  }

  #path(folder: "certificates" | "life" | "orders"): string {
    return `${folder}/${this.id}.${folder === "certificates" ? "pem" : "json"}`;
  }
}
