import { X509Certificate } from "node:crypto";
import { Fault, messageOf } from "../base/fault.ts";
import { plainName } from "../wire/host-name.ts";
import { AuthorityHealth } from "./authority-health.ts";
import { type BudgetLine, budgetOf, fullLine, letsEncryptLimits, type NameHistory, type RateLimits } from "./budget.ts";
import type { Certificate } from "./certificate.ts";
import { parseBundle } from "./certificate-checks.ts";
import type { CertificateStatus } from "./certificate-status.ts";
import type {
  CertificateKeeper,
  KeeperCounts,
  KeeperEvent,
  KeeperOptions,
  ObtainOptions,
  WantedCertificate,
} from "./keeper.ts";
import { certificateId, parseLife } from "./life-record.ts";
import { orAbort, Turns } from "./store/turns.ts";
import { type Household, TendedCertificate, type Urgency } from "./tended-certificate.ts";
import { checkedNames, wildcardAbove } from "./wanted-names.ts";

/** A wall clock that jumped is noticed after this. */
const LOOK_MS = 10 * 60_000;
/** What other gateways did in the store, by hand, is noticed after this. */
const REFRESH_MS = 3_600_000;
const MOST_AT_ONCE = 8;
const HISTORY_LIFE_MS = 60_000;

/** @throws {Fault} CERT_ROOTS, CERT_AUTHORITIES */
export async function openKeeper(options: KeeperOptions): Promise<CertificateKeeper> {
  const keeper = new Keeper(options);
  keeper.look();
  return keeper;
}

class Keeper implements CertificateKeeper {
  readonly #options: KeeperOptions;
  readonly #house: Household;
  readonly #closing: AbortController = new AbortController();
  readonly #listeners: Set<(event: KeeperEvent) => void> = new Set();
  readonly #orders: Map<string, { authority: string; outcome: string; count: number }> = new Map();
  readonly #background: Set<Promise<void>> = new Set();
  #tended: ReadonlyMap<string, TendedCertificate> = new Map();
  /** By each of their names, in the order in which they are wanted. */
  #byName: ReadonlyMap<string, readonly TendedCertificate[]> = new Map();
  #histories: { readonly until: number; readonly of: Promise<ReadonlyMap<string, NameHistory>> } | undefined;
  #renewalQueries = 0;
  #refreshedAt: number;
  #wanting: Promise<void> = Promise.resolve();
  /** What earlier wishes left in the store: it serves until there is something better. */
  #spare: ReadonlyMap<string, Certificate> = new Map();
  #cancelLook: () => void = () => {};

  constructor(options: KeeperOptions) {
    if (options.authorities.length === 0) {
      throw new Fault("CERT_AUTHORITIES", "Cannot keep certificates: no CA is given, at least one wanted");
    }
    this.#options = options;
    this.#refreshedAt = options.clock.now();
    this.#house = {
      ...options,
      roots: options.roots?.map(readRoot),
      health: new AuthorityHealth(),
      turns: new Turns(),
      fullLine: (authority, names) => this.#fullLine(authority, names),
      tell: (event) => this.#tell(event),
    };
  }

  async want(wanted: readonly WantedCertificate[]): Promise<void> {
    for (const { names } of wanted) checkedNames(names);
    const before = this.#wanting;
    this.#wanting = before.catch(() => undefined).then(() => this.#want(wanted));
    return this.#wanting;
  }

  async #want(wanted: readonly WantedCertificate[]): Promise<void> {
    const tended = new Map<string, TendedCertificate>();
    for (const one of wanted) {
      const id = certificateId(one.names);
      const known = this.#tended.get(id);
      if (known === undefined) tended.set(id, new TendedCertificate(one, this.#house));
      else {
        known.wanted = one;
        known.isNeeded ||= one.when === "ahead";
        tended.set(id, known);
      }
    }
    const added = [...tended.values()].filter((one) => !this.#tended.has(one.id));
    await eachOf(added, (one) => one.load());
    const lacksOne = added.some((one) => !one.isValid());
    if (lacksOne) this.#spare = await this.#readSpare(new Set(tended.keys()));
    this.#tended = tended;
    const byName = new Map<string, TendedCertificate[]>();
    for (const one of tended.values()) {
      for (const name of one.names) byName.set(name, [...(byName.get(name) ?? []), one]);
    }
    this.#byName = byName;
    this.look();
  }

  certificate(serverName: string): Certificate | undefined {
    const name = plainName(serverName);
    for (const pattern of [name, wildcardAbove(name)]) {
      const found = pattern === undefined ? undefined : this.#byName.get(pattern);
      const best = found?.find((one) => one.isValid()) ?? found?.find((one) => one.certificate !== undefined);
      if (best !== undefined) return best.certificate;
      const spare = found === undefined ? undefined : this.#spare.get(pattern!);
      if (spare !== undefined) return spare;
    }
    return undefined;
  }

  async obtain(name: string, { minValidity = 0, signal }: ObtainOptions = {}): Promise<Certificate> {
    const one = this.#of(name);
    one.isNeeded = true;
    if (!one.isValid()) await this.#run(one, "due", signal);
    else if (!one.isValid(minValidity)) await this.#run(one, "early", signal);
    return one.certificate!;
  }

  async renew(name: string, { signal }: { readonly signal?: AbortSignal } = {}): Promise<Certificate> {
    const one = this.#of(name);
    one.isNeeded = true;
    await this.#run(one, "by-hand", signal);
    return one.certificate!;
  }

  async revoke(name: string, { signal }: { readonly signal?: AbortSignal } = {}): Promise<void> {
    const work = this.#of(name).revoke(this.#closing.signal);
    this.#keep(work.catch(() => undefined));
    await (signal === undefined ? work : orAbort(work, signal));
    this.look();
  }

  list(): readonly CertificateStatus[] {
    const statuses = [...this.#tended.values()].map((one) => one.status());
    return statuses.sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  async budget(): Promise<readonly BudgetLine[]> {
    const histories = await this.#currentHistories();
    return this.#options.authorities.flatMap(({ id }) => {
      const limits = this.#limits(id);
      return limits === undefined ? [] : budgetOf(id, limits, histories, this.#options.clock.wall());
    });
  }

  counts(): KeeperCounts {
    return { orders: [...this.#orders.values()].map((line) => ({ ...line })), renewalQueries: this.#renewalQueries };
  }

  subscribe(listener: (event: KeeperEvent) => void): () => void {
    const own = (event: KeeperEvent): void => listener(event);
    this.#listeners.add(own);
    return () => void this.#listeners.delete(own);
  }

  async close(): Promise<void> {
    this.#cancelLook();
    this.#closing.abort(new Fault("CERT_KEEPER_CLOSED", "Cannot go on with certificates: the gateway stops"));
    await Promise.all(this.#background);
  }

  async idle(): Promise<void> {
    while (this.#background.size > 0) await Promise.all(this.#background);
  }

  /** Starts what is due, as much as may run at once, and sets the alarm for the rest. */
  look(): void {
    const { clock, log } = this.#options;
    this.#cancelLook();
    if (this.#closing.signal.aborted) return;
    if (clock.now() - this.#refreshedAt >= REFRESH_MS) {
      this.#refreshedAt = clock.now();
      const idle = [...this.#tended.values()].filter((one) => !one.isRunning);
      this.#keep(eachOf(idle, (one) => one.load()).catch((error: unknown) => log.warn("certs.store", wordsOf(error))));
    }
    let next = LOOK_MS;
    for (const one of this.#tended.values()) {
      if (one.isRunning) continue;
      const { delay } = one;
      if (delay > 0) next = Math.min(next, delay);
      else if (this.#background.size < MOST_AT_ONCE) {
        this.#run(one, "due", undefined).catch((error: unknown) =>
          // Orders that failed have their own line.
          log.debug("certs.not_tended", { names: one.names, ...wordsOf(error) }),
        );
      }
    }
    this.#cancelLook = clock.at(clock.now() + Math.max(next, 1), () => this.look());
  }

  #keep(work: Promise<void>): void {
    this.#background.add(work);
    void work.then(() => {
      this.#background.delete(work);
      this.look();
    });
  }

  async #run(one: TendedCertificate, urgency: Urgency, signal: AbortSignal | undefined): Promise<void> {
    const work = one.tend(urgency, this.#closing.signal);
    this.#keep(work.catch(() => undefined));
    // Who asked may stop waiting; the order goes on.
    await (signal === undefined ? work : orAbort(work, signal));
  }

  /** @throws {Fault} CERT_NAME_UNKNOWN */
  #of(name: string): TendedCertificate {
    const folded = plainName(name);
    const found = this.#byName.get(folded) ?? this.#byName.get(wildcardAbove(folded) ?? "");
    if (found !== undefined) return found[0]!;
    throw new Fault("CERT_NAME_UNKNOWN", `Cannot get a certificate for "${name}": this gateway does not serve it`);
  }

  #limits(authority: string): RateLimits | undefined {
    return this.#options.limits === undefined ? letsEncryptLimits : this.#options.limits(authority);
  }

  async #fullLine(authority: string, names: readonly string[]): Promise<BudgetLine | undefined> {
    const limits = this.#limits(authority);
    if (limits === undefined) return undefined;
    const histories = await this.#currentHistories();
    return fullLine(budgetOf(authority, limits, histories, this.#options.clock.wall()), names);
  }

  /** Of the store, a minute old at most, with what this process knows better. */
  async #currentHistories(): Promise<readonly NameHistory[]> {
    const { clock } = this.#options;
    if (this.#histories === undefined || this.#histories.until <= clock.now()) {
      const of = this.#readHistories();
      this.#histories = { until: clock.now() + HISTORY_LIFE_MS, of };
      of.catch(() => {
        this.#histories = undefined;
      });
    }
    const read = new Map(await this.#histories.of);
    for (const { id, names, attempts } of this.#tended.values()) read.set(id, { names, attempts });
    return [...read.values()];
  }

  async #readHistories(): Promise<ReadonlyMap<string, NameHistory>> {
    const { store } = this.#options;
    const histories = new Map<string, NameHistory>();
    await eachOf(await store.list("life/"), async (path) => {
      const bytes = await store.read(path);
      const life = bytes === undefined ? undefined : parseLife(bytes);
      if (life !== undefined) histories.set(path.slice("life/".length, -".json".length), life);
    });
    return histories;
  }

  async #readSpare(wanted: ReadonlySet<string>): Promise<ReadonlyMap<string, Certificate>> {
    const { store, clock } = this.#options;
    const spare = new Map<string, Certificate>();
    const paths = await store.list("certificates/");
    const unwanted = paths.filter((path) => !wanted.has(path.slice("certificates/".length, -".pem".length)));
    await eachOf(unwanted, async (path) => {
      try {
        const certificate = parseBundle((await store.read(path))!, { now: clock.wall() });
        for (const name of certificate.names) {
          if ((spare.get(name)?.notAfter ?? 0) < certificate.notAfter) spare.set(name, certificate);
        }
      } catch {
        // Nobody wants it, and nobody could use it.
      }
    });
    return spare;
  }

  #tell(event: KeeperEvent): void {
    if (event.kind === "asked") this.#renewalQueries++;
    if (event.kind === "failed") this.#count(event.authority, event.fault.code);
    if (event.kind === "issued") this.#count(event.authority, "issued");
    for (const listener of this.#listeners) {
      try {
        listener(event);
      } catch (error) {
        this.#options.log.error("certs.listener_failed", wordsOf(error));
      }
    }
  }

  #count(authority: string, outcome: string): void {
    const key = `${authority} ${outcome}`;
    const line = this.#orders.get(key) ?? { authority, outcome, count: 0 };
    line.count++;
    this.#orders.set(key, line);
  }
}

/** PEM. @throws {Fault} CERT_ROOTS */
function readRoot(pem: string): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch (cause) {
    throw new Fault("CERT_ROOTS", `Cannot read a root certificate: ${messageOf(cause)}`, { cause });
  }
}

async function eachOf<T>(all: readonly T[], work: (one: T) => Promise<void>): Promise<void> {
  const left = [...all].reverse();
  const worker = async (): Promise<void> => {
    for (let one = left.pop(); one !== undefined; one = left.pop()) await work(one);
  };
  await Promise.all(Array.from({ length: MOST_AT_ONCE }, worker));
}

function wordsOf(error: unknown): { error: string } {
  return { error: messageOf(error) };
}
