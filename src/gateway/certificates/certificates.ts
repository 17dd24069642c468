import type { SecureContext } from "node:tls";
import type { Clock } from "../../base/clock.ts";
import { Fault, messageOf } from "../../base/fault.ts";
import type { Log } from "../../base/log.ts";
import type { Store } from "../../base/store.ts";
import type { BudgetLine } from "../../certs/budget.ts";
import type { Certificate } from "../../certs/certificate.ts";
import type { CertificateKeeper, CertificateStatus, KeeperCounts } from "../../certs/keeper.ts";
import type { OwnFileStatus } from "../../certs/own-files.ts";
import type { TransparencyWatch } from "../../certs/transparency/transparency-watch.ts";
import type { CertificatesConfig } from "../../config/certificates.ts";
import { plainName } from "../../wire/host-name.ts";
import { CertificateContexts } from "./certificate-contexts.ts";
import { LocalCertificates } from "./certificate-local.ts";
import { type CertificatePlan, certificatePlan, type PlanFacts } from "./certificate-plan.ts";
import { fileStatus, localStatus, problemOf, transparencyText, unmadeStatus } from "./certificate-report.ts";

/** Where certificates come from that are not of our own CA. */
export interface CertificateSources {
  /** The operator's own files. */
  file(name: string): Certificate | undefined;
  fileList(): readonly OwnFileStatus[];
  /** After each change of theirs. */
  onFiles(listener: () => void): void;
  /** Absent where no public CA is configured. */
  readonly keeper: CertificateKeeper | undefined;
  /** Absent where no transparency logs are configured. */
  readonly transparency?: TransparencyWatch | undefined;
  challengeContext(name: string): SecureContext | undefined;
  /** HTTP-01: what to answer at this path of that host; `undefined` = nothing is there. */
  challengeAnswer(host: string, path: string): string | undefined;
  /** What to put into DNS so that nobody else obtains a certificate for the name (RFC 8659, RFC 8657). */
  advice(name: string, signal: AbortSignal): Promise<string>;
  /** A new key for our account at the CA with this id. */
  rollAccountKey(authority: string): Promise<void>;
  close(): Promise<void>;
}

export interface CertificatesOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
  readonly facts: () => Omit<PlanFacts, "settings" | "hasFile">;
  /** Called when the first name wants one of them, and again for other settings. */
  readonly open: (settings: CertificatesConfig) => Promise<CertificateSources>;
  readonly settings?: CertificatesConfig;
}

const RETRY_MS = 60_000;
const NOTHING_PLANNED: CertificatePlan = { wanted: [], internal: new Set(), unprovable: [], published: [] };

/** The certificate for every name that this gateway serves: the operator's own, a public CA's, or one of our local CA. */
export class Certificates {
  readonly #options: CertificatesOptions;
  readonly #local: LocalCertificates;
  readonly #contexts: CertificateContexts;
  #settings: CertificatesConfig;
  #plan: CertificatePlan = NOTHING_PLANNED;
  #planText = "";
  #sources: { readonly of: CertificatesConfig; readonly is: CertificateSources } | undefined;
  /** Why there are no sources though some are wanted. */
  #trouble: Fault | undefined;
  /** Names for which somebody waits, and how many do. */
  readonly #waiting: Map<string, number> = new Map();
  readonly #waitListeners: Set<() => void> = new Set();
  /** What was asked for last, one after the other. */
  #work: Promise<void> = Promise.resolve();
  #stopRetry: () => void = () => {};
  #isClosed = false;

  constructor(options: CertificatesOptions) {
    this.#options = options;
    this.#settings = options.settings ?? {};
    this.#local = new LocalCertificates(options);
    this.#contexts = new CertificateContexts(options.clock);
  }

  /** PEM of the local CA's certificate, for clients that are to trust it. */
  authority(): Promise<string> {
    return this.#local.authority();
  }

  get plan(): CertificatePlan {
    return this.#plan;
  }

  configure(settings: CertificatesConfig): void {
    if (JSON.stringify(settings) === JSON.stringify(this.#settings)) return;
    this.#settings = settings;
    this.refresh();
  }

  /** To be called when names, services or what the server offers may have changed. */
  refresh(): void {
    const facts = this.#options.facts();
    if (this.#isClosed || facts.ownName === "") return; // without a network map nobody can ask
    const plan = certificatePlan({
      ...facts,
      settings: this.#settings,
      hasFile: (name) => this.#sources?.is.file(name) !== undefined,
    });
    const text = JSON.stringify([this.#settings, plan.wanted, [...plan.internal], this.#trouble?.code]);
    if (text === this.#planText) return;
    this.#planText = text;
    this.#tell(plan);
    this.#plan = plan;
    this.#work = this.#work.then(() => this.#apply(plan, this.#settings));
  }

  /** Certificate transparency makes names public for good: that is said before it happens. */
  #tell(plan: CertificatePlan): void {
    const { log } = this.#options;
    const published = plan.published.filter((name) => !this.#plan.published.includes(name));
    if (published.length > 0) log.info("certificates.published", { names: published });
    for (const name of plan.unprovable) {
      if (!this.#plan.unprovable.includes(name)) log.warn("certificates.unprovable", { name });
    }
  }

  async #apply(plan: CertificatePlan, settings: CertificatesConfig): Promise<void> {
    if (this.#isClosed || plan !== this.#plan) return; // a later one is waiting
    try {
      const { files = [], transparency } = settings;
      const needsSources = plan.wanted.length > 0 || files.length > 0 || transparency !== undefined;
      if (this.#sources !== undefined && this.#sources.of !== settings) await this.#closeSources();
      if (this.#sources === undefined && needsSources) {
        const opened = await this.#options.open(settings);
        opened.onFiles(() => this.refresh());
        this.#sources = { of: settings, is: opened };
      }
      await this.#sources?.is.keeper?.want(plan.wanted);
      this.#trouble = undefined;
      this.refresh(); // files may have come
    } catch (error) {
      const fault = error instanceof Fault ? error : new Fault("CERT_UNAVAILABLE", messageOf(error), { cause: error });
      this.#trouble = fault;
      this.#options.log.error("certificates.unavailable", { error: fault.message });
      this.#retryLater();
    }
  }

  #retryLater(): void {
    const { clock } = this.#options;
    this.#stopRetry();
    this.#stopRetry = clock.at(clock.now() + RETRY_MS, () => {
      this.#planText = "";
      this.refresh();
    });
  }

  /** What to present for a name that the configuration serves. */
  secureContext(name: string, asksClients?: boolean): SecureContext | Fault | Promise<SecureContext | Fault> {
    const ready = this.#ready(name);
    if (ready !== undefined) return this.#contexts.of(name, ready, asksClients);
    return this.certificate(name).then(
      (certificate) => this.#contexts.of(name, certificate, asksClients),
      (error: unknown) => (error instanceof Fault ? error : new Fault("CERT_UNAVAILABLE", messageOf(error))),
    );
  }

  /** What is there for a name; nothing is ordered for it. */
  held(name: string): Certificate | undefined {
    return this.#ready(plainName(name));
  }

  challengeContext(name: string): SecureContext | undefined {
    return this.#sources?.is.challengeContext(name);
  }

  challengeAnswer(host: string, path: string): string | undefined {
    return this.#sources?.is.challengeAnswer(host, path);
  }

  #ready(name: string): Certificate | undefined {
    const sources = this.#sources?.is;
    return (
      sources?.file(name) ?? sources?.keeper?.certificate(name) ?? this.#local.ready(this.#internalName(name) ?? "")
    );
  }

  /** The name or wildcard under which our own CA signs for it. */
  #internalName(name: string): string | undefined {
    const { internal } = this.#plan;
    if (internal.has(name)) return name;
    const wildcard = `*${name.slice(name.indexOf("."))}`;
    return internal.has(wildcard) ? wildcard : undefined;
  }

  /** @throws {Fault} CERT_NAME_UNKNOWN, and whatever keeps a CA from issuing */
  async certificate(serverName: string, options: { readonly minValidity?: number } = {}): Promise<Certificate> {
    const name = plainName(serverName);
    await this.#work; // what is wanted may just be read from the store
    const { minValidity = 0 } = options;
    const ready = this.#ready(name);
    if (ready !== undefined && (minValidity === 0 || this.#isLocal(ready))) return ready;
    const wanted = this.#wantedName(name);
    if (wanted !== undefined) return this.#obtain(wanted, ready === undefined, minValidity);
    const internal =
      this.#internalName(name) ?? (name !== "" && name === this.#options.facts().ownName ? name : undefined);
    if (internal !== undefined) return this.#local.issue(internal);
    throw new Fault("CERT_NAME_UNKNOWN", `Cannot present a certificate for "${name}": this gateway does not serve it`, {
      hint: `Names with certificates: ${this.names.join(", ") || "none"}`,
    });
  }

  async #obtain(name: string, isMissing: boolean, minValidity: number): Promise<Certificate> {
    const keeper = await this.#keeperNow();
    if (!isMissing) return keeper.obtain(name, { minValidity });
    this.#wait(name, 1);
    try {
      return await keeper.obtain(name, { minValidity });
    } finally {
      this.#wait(name, -1);
    }
  }

  #wait(name: string, more: 1 | -1): void {
    const count = (this.#waiting.get(name) ?? 0) + more;
    if (count === 0) this.#waiting.delete(name);
    else this.#waiting.set(name, count);
    if (count === 0 || (count === 1 && more === 1)) for (const listener of this.#waitListeners) listener();
  }

  /** Names for which somebody waits and no certificate is there, in order. */
  get waiting(): readonly string[] {
    return [...this.#waiting.keys()].sort();
  }

  /** After each change of `waiting`. */
  onWaiting(listener: () => void): void {
    this.#waitListeners.add(listener);
  }

  #isLocal(certificate: Certificate): boolean {
    return this.#local.all.includes(certificate);
  }

  #wantedName(name: string): string | undefined {
    const all = this.#plan.wanted.flatMap(({ names }) => names);
    if (all.includes(name)) return name;
    const wildcard = `*${name.slice(name.indexOf("."))}`;
    return all.includes(wildcard) ? wildcard : undefined;
  }

  /** Every name for which a certificate can be had, in order. */
  get names(): readonly string[] {
    const { ownName } = this.#options.facts();
    const wanted = this.#plan.wanted.flatMap(({ names }) => names);
    return [...new Set([...(ownName === "" ? [] : [ownName]), ...wanted, ...this.#plan.internal])].sort();
  }

  /** What was observed of each. */
  list(): readonly CertificateStatus[] {
    const now = this.#options.clock.wall();
    const { internal } = this.#plan;
    // One that was made before the name could have a public certificate is not presented any more.
    const local = this.#local.all.filter(({ names }) => names.every((name) => internal.has(name)));
    const unmade = [...internal].filter((name) => !local.some(({ names }) => names.includes(name)));
    return [
      ...(this.#sources?.is.keeper?.list() ?? []),
      ...(this.#sources?.is.fileList() ?? []).map((one) => fileStatus(one, now)),
      ...local.map((one) => localStatus(one, now)),
      ...unmade.map((name) => unmadeStatus(name, now)),
    ];
  }

  /** What is wrong, in words. */
  get problems(): readonly string[] {
    const trouble = this.#trouble === undefined ? [] : [`No public certificates: ${this.#trouble.message}`];
    const found = this.list().map(problemOf);
    const strangers = this.transparency?.problems ?? [];
    return [...strangers, ...trouble, ...found.filter((problem) => problem !== undefined)];
  }

  /** Every certificate that may be presented. */
  get all(): readonly Certificate[] {
    return this.names.flatMap((name) => this.#ready(name) ?? []);
  }

  get transparency(): TransparencyWatch | undefined {
    return this.#sources?.is.transparency;
  }

  counts(): KeeperCounts | undefined {
    return this.#sources?.is.keeper?.counts();
  }

  async budget(): Promise<readonly BudgetLine[]> {
    return (await this.#keeperNow()).budget();
  }

  /** @throws {Fault} as `certificate`; back-off is not waited for */
  async renew(name: string): Promise<Certificate> {
    return (await this.#keeperOf(name)).renew(name);
  }

  async revoke(name: string): Promise<void> {
    return (await this.#keeperOf(name)).revoke(name);
  }

  /** @throws {Fault} CERT_AUTHORITY_UNKNOWN, and what the CA says */
  async rollAccountKey(authority: string): Promise<void> {
    await this.#keeperNow();
    await this.#sources?.is.rollAccountKey(authority);
  }

  async advice(name: string, signal: AbortSignal): Promise<string> {
    await this.#keeperNow();
    const caa = (await this.#sources?.is.advice(name, signal)) ?? "";
    return caa + transparencyText(name, this.transparency);
  }

  async #keeperOf(name: string): Promise<CertificateKeeper> {
    const keeper = await this.#keeperNow();
    if (this.#wantedName(name) === name) return keeper;
    throw new Fault("CERT_NAME_UNKNOWN", `Cannot find a public certificate for "${name}"`, {
      hint: "sallyport cert list shows which there are.",
    });
  }

  async #keeperNow(): Promise<CertificateKeeper> {
    await this.#work;
    const keeper = this.#sources?.is.keeper;
    if (keeper !== undefined) return keeper;
    throw this.#trouble ?? new Fault("CERT_NOT_PUBLIC", "Cannot do that: no name here has a public certificate");
  }

  async #closeSources(): Promise<void> {
    const sources = this.#sources;
    this.#sources = undefined;
    await sources?.is.close();
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#stopRetry();
    await this.#work;
    await this.#closeSources();
  }
}
