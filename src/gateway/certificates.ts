import { createSecureContext, type SecureContext } from "node:tls";
import type { Clock } from "../base/clock.ts";
import { Fault } from "../base/fault.ts";
import type { Store } from "../base/store.ts";
import type { LocalCa } from "../certs/local-ca.ts";

const CA_FILE = "local-ca.json";
const RENEW_BEFORE_MS = 7 * 86_400_000;
const MOST_NAMES = 256;

interface Issued {
  readonly context: SecureContext;
  readonly key: string;
  readonly chain: string;
  readonly notAfter: number;
}

/** Certificates for the names that this gateway serves, from its own local CA, each made when first asked for. */
export class Certificates {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #mayServe: (name: string) => boolean;
  readonly #issued: Map<string, Promise<Issued>> = new Map();
  #ca: Promise<LocalCa> | undefined;

  constructor(options: { store: Store; clock: Clock; mayServe: (name: string) => boolean }) {
    this.#store = options.store;
    this.#clock = options.clock;
    this.#mayServe = options.mayServe;
  }

  /** PEM of the CA's certificate, for clients that are to trust it. */
  async authority(): Promise<string> {
    return (await this.#authority()).export().certificate;
  }

  async secureContext(serverName: string): Promise<SecureContext | Fault> {
    const issued = await this.certificate(serverName);
    return issued instanceof Fault ? issued : issued.context;
  }

  async certificate(serverName: string): Promise<Issued | Fault> {
    const name = serverName.toLowerCase().replace(/\.$/, "");
    if (!this.#mayServe(name)) {
      return new Fault(
        "CERT_NAME_UNKNOWN",
        `Cannot present a certificate for "${name}": this gateway does not serve it`,
      );
    }
    const known = await this.#issued.get(name);
    if (known !== undefined && known.notAfter - this.#clock.wall() > RENEW_BEFORE_MS) return known;
    if (this.#issued.size >= MOST_NAMES) this.#issued.clear();
    const made = this.#issue(name);
    this.#issued.set(name, made);
    made.catch(() => this.#issued.delete(name));
    return made;
  }

  async #issue(name: string): Promise<Issued> {
    const { key, certificate, notAfter } = await (await this.#authority()).issue([name]);
    return {
      key,
      chain: certificate,
      notAfter,
      context: createSecureContext({ key, cert: certificate, minVersion: "TLSv1.2" }),
    };
  }

  #authority(): Promise<LocalCa> {
    this.#ca ??= this.#loadAuthority();
    return this.#ca;
  }

  async #loadAuthority(): Promise<LocalCa> {
    const { LocalCa } = await import("../certs/local-ca.ts"); // 55 ms: only a gateway that serves TLS pays
    const saved = await this.#store.get(CA_FILE);
    if (saved !== undefined) {
      const pem = JSON.parse(Buffer.from(saved).toString("utf8")) as { key: string; certificate: string };
      return LocalCa.load(pem, { wall: () => this.#clock.wall() });
    }
    const ca = await LocalCa.create({ wall: () => this.#clock.wall() });
    await this.#store.set(CA_FILE, Buffer.from(JSON.stringify(ca.export())));
    return ca;
  }
}
