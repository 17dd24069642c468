import type { Clock } from "../../base/clock.ts";
import { loadJson, type SavedForm, saveJson } from "../../base/saved-json.ts";
import type { Store } from "../../base/store.ts";
import type { Certificate } from "../../certs/certificate.ts";
import type { LocalCa, LocalCaPem } from "../../certs/local-ca.ts";

const CA: SavedForm<LocalCaPem> = {
  file: "local-ca.json",
  what: "the local CA",
  remedy: "let clients trust the new one that is made then",
  read: (json) => Object(json) as LocalCaPem, // `LocalCa.load` looks closer
};
const RENEW_BEFORE_MS = 7 * 86_400_000;
const MOST_NAMES = 256;

/** Certificates of our own CA, each made when it is first asked for; only the CA itself is kept. */
export class LocalCertificates {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #issued: Map<string, Promise<Certificate>> = new Map();
  readonly #ready: Map<string, Certificate> = new Map();
  #ca: Promise<LocalCa> | undefined;

  constructor({ store, clock }: { readonly store: Store; readonly clock: Clock }) {
    this.#store = store;
    this.#clock = clock;
  }

  /** PEM of the CA's certificate, for clients that are to trust it. */
  async authority(): Promise<string> {
    return (await this.#authority()).export().certificate;
  }

  /** One that is there and good for a while. */
  ready(name: string): Certificate | undefined {
    const found = this.#ready.get(name);
    return found !== undefined && found.notAfter - this.#clock.wall() > RENEW_BEFORE_MS ? found : undefined;
  }

  get all(): readonly Certificate[] {
    return [...this.#ready.values()];
  }

  async issue(name: string): Promise<Certificate> {
    const ready = this.ready(name);
    if (ready !== undefined) return ready;
    this.#ready.delete(name);
    if (this.#ready.size >= MOST_NAMES) this.#ready.clear();
    const made = this.#issued.get(name) ?? this.#make(name);
    this.#issued.set(name, made);
    try {
      const certificate = await made;
      this.#ready.set(name, certificate);
      return certificate;
    } finally {
      this.#issued.delete(name);
    }
  }

  async #make(name: string): Promise<Certificate> {
    const notBefore = this.#clock.wall();
    const { key, certificate: chain, notAfter } = await (await this.#authority()).issue([name]);
    return { names: [name], key, chain, notBefore, notAfter };
  }

  #authority(): Promise<LocalCa> {
    this.#ca ??= this.#loadAuthority();
    return this.#ca;
  }

  async #loadAuthority(): Promise<LocalCa> {
    const { LocalCa } = await import("../../certs/local-ca.ts"); // 55 ms: only a gateway that serves TLS pays
    const saved = await loadJson(this.#store, CA);
    if (saved !== undefined) return LocalCa.load(saved, { wall: () => this.#clock.wall() });
    const ca = await LocalCa.create({ wall: () => this.#clock.wall() });
    await saveJson(this.#store, CA.file, ca.export());
    return ca;
  }
}
