import type { X509Certificate } from "node:crypto";
import { Fault, messageOf } from "../base/fault.ts";
import type { Authority } from "./acme/authority.ts";
import { type Attempt, blockedUntil, broughtBack, failed, failuresOf, nextTurn, recent } from "./attempts.ts";
import type { AuthorityHealth } from "./authority-health.ts";
import type { BudgetLine } from "./budget.ts";
import type { Certificate } from "./certificate.ts";
import { checkedCertificate, serialOf } from "./certificate-checks.ts";
import { newCertificateKey } from "./certificate-key.ts";
import { type CertificateStatus, statusOf } from "./certificate-status.ts";
import { askAt, renewAt } from "./due-times.ts";
import type { KeeperEvent, KeeperOptions, WantedCertificate } from "./keeper.ts";
import type { LifeRecord } from "./life-record.ts";
import { firstRenewal, renewalAfter } from "./renewal-time.ts";
import type { Lease } from "./store/certificate-store.ts";
import type { Turns } from "./store/turns.ts";
import { type Stored, StoredCertificate } from "./stored-certificate.ts";
import { WaitingFault } from "./waiting-fault.ts";

/** After the store failed, or this program. */
const PAUSE_MS = 60_000;
/** A limit may be freer than it looked: orders under way that come to nothing. */
const LONGEST_HOLD_MS = 3_600_000;

/** `due`: when its time has come. `early`: before that. `by-hand`: whatever the back-off says. */
export type Urgency = "due" | "early" | "by-hand";

/** What all certificates of a keeper share. */
export interface Household extends Omit<KeeperOptions, "roots" | "limits"> {
  readonly roots: readonly X509Certificate[] | undefined;
  readonly health: AuthorityHealth;
  readonly turns: Turns;
  /** The limit that leaves no room for another order of these names. */
  fullLine(authority: string, names: readonly string[]): Promise<BudgetLine | undefined>;
  tell(event: KeeperEvent): void;
}

/** One wanted certificate and its life: loaded, ordered, checked, renewed. It has no timer: `delay` says when to `tend`. */
export class TendedCertificate {
  readonly names: readonly string[];
  wanted: WantedCertificate;
  /** Ordered when it is not there. */
  isNeeded: boolean;
  readonly #house: Household;
  readonly #stored: StoredCertificate;
  #certificate: Certificate | undefined;
  #life: LifeRecord;
  #running: { readonly urgency: Urgency; readonly work: Promise<void> } | undefined;
  #isOrdering = false;
  /** Under the lock of all who share the store; each time a round. */
  #isLocked = false;
  #round = 0;
  /** Monotonic: a limit or the store says so. */
  #holdUntil = 0;
  #observed = 0;

  constructor(wanted: WantedCertificate, house: Household) {
    this.#stored = new StoredCertificate(wanted.names, house.store, house.log);
    this.names = wanted.names;
    this.wanted = wanted;
    this.isNeeded = wanted.when === "ahead";
    this.#house = house;
    this.#life = { version: 1, names: wanted.names, attempts: [] };
  }

  get id(): string {
    return this.#stored.id;
  }

  get certificate(): Certificate | undefined {
    return this.#certificate;
  }

  get attempts(): readonly Attempt[] {
    return this.#life.attempts;
  }

  get isRunning(): boolean {
    return this.#running !== undefined;
  }

  /** Has this much life left by our clock. */
  isValid(leastLife: number = 0): boolean {
    return this.#certificate !== undefined && this.#certificate.notAfter - this.#house.clock.wall() > leastLife;
  }

  /** What is in the store, of this process or of another; not while this one changes it. */
  async load(): Promise<void> {
    const round = this.#round;
    const stored = await this.#stored.readAll(this.#certificate);
    if (round === this.#round && !this.#isLocked) this.#apply(stored);
  }

  #apply({ certificate, life }: Stored): void {
    const { clock, random } = this.#house;
    this.#observed = clock.wall();
    if (certificate === undefined) {
      this.#life = { ...life, serial: undefined, renewal: undefined };
      this.#install(undefined);
      return;
    }
    this.isNeeded = true; // what was obtained once is kept alive
    const serial = serialOf(certificate);
    if (serial !== life.serial || life.renewal === undefined) {
      // Saved by a process that ended before it wrote the rest, or put there by hand.
      const last = life.attempts.at(-1);
      const issued = last?.outcome === "begun" ? { ...last, outcome: "issued" } : undefined;
      this.#life = {
        ...life,
        serial,
        authority: issued?.authority ?? life.authority,
        renewal: firstRenewal(certificate, clock.wall(), random),
        attempts: issued === undefined ? life.attempts : [...life.attempts.slice(0, -1), issued],
      };
    } else this.#life = life;
    if (this.#certificate?.chain !== certificate.chain) this.#install(certificate);
  }

  /** Ms until there is something to do; Infinity when nothing is. */
  get delay(): number {
    const { clock } = this.#house;
    const now = clock.wall();
    if (broughtBack(this.#life.attempts, now) !== this.#life.attempts) return 0;
    const due = this.isValid()
      ? Math.min(askAt(this.#life, now), this.#renewAt(now))
      : this.isNeeded
        ? this.#turn().at
        : Infinity;
    return Math.max(0, due - now, this.#holdUntil - clock.now());
  }

  /**
   * Does what there is to do, under a lock of all who share the store; callers share the run.
   * @throws {Fault} why there is no (new) certificate
   */
  async tend(urgency: Urgency, signal: AbortSignal): Promise<void> {
    while (this.#running !== undefined) {
      if (RANK[this.#running.urgency] >= RANK[urgency]) return this.#running.work;
      await this.#running.work.catch(() => undefined);
    }
    const work = this.#underLock(urgency, signal).then(
      () => {
        this.#running = undefined;
      },
      (error: unknown) => {
        this.#running = undefined;
        // Whatever it was: not again at once.
        if (this.delay === 0) this.#holdUntil = this.#house.clock.now() + PAUSE_MS;
        throw error;
      },
    );
    this.#running = { urgency, work };
    return work;
  }

  async revoke(signal: AbortSignal): Promise<void> {
    const { authorities, log } = this.#house;
    await this.#locked(signal, async (lease, limited) => {
      const certificate = this.#certificate;
      if (certificate === undefined) return;
      const authority = authorities.find(({ id }) => id === this.#life.authority) ?? authorities[0]!;
      await authority.revoke(certificate.chain, certificate.key, limited);
      await this.#stored.delete(lease);
      this.#install(undefined);
      this.#life = { ...this.#life, serial: undefined, renewal: undefined };
      await this.#stored.writeLife(this.#life, lease);
      this.isNeeded = this.wanted.when === "ahead";
      log.info("certs.revoked", { names: this.names, authority: authority.id });
    });
  }

  status(): CertificateStatus {
    const now = this.#house.clock.wall();
    return statusOf({
      id: this.id,
      life: this.#life,
      certificate: this.#certificate,
      isOrdering: this.#isOrdering,
      nextAttempt: this.isValid() ? this.#renewAt(now) : now + this.delay,
      observed: this.#observed,
      now,
    });
  }

  async #underLock(urgency: Urgency, signal: AbortSignal): Promise<void> {
    const { clock } = this.#house;
    const before = this.#life.serial;
    await this.#locked(signal, async (lease, limited) => {
      if (this.#certificate !== undefined) await this.#stored.deleteOrderOf(this.#certificate);
      const attempts = broughtBack(this.#life.attempts, clock.wall());
      if (attempts !== this.#life.attempts) {
        this.#life = { ...this.#life, attempts };
        await this.#stored.writeLife(this.#life, lease);
      }
      const isReplaced = this.#life.serial !== before && this.isValid();
      if (this.isValid() && askAt(this.#life, clock.wall()) <= clock.wall()) await this.#ask(lease, limited);
      const isDue = this.isValid() ? this.#renewAt(clock.wall()) <= clock.wall() : this.isNeeded;
      // Another gateway may have done it while we waited for the lock.
      if (isDue || (urgency !== "due" && !isReplaced)) await this.#order(urgency, lease, limited);
    });
  }

  async #locked(signal: AbortSignal, work: (lease: Lease, signal: AbortSignal) => Promise<void>): Promise<void> {
    const { store, clock } = this.#house;
    try {
      const lease = await store.lock(`certificate-${this.id}`, signal);
      this.#isLocked = true;
      this.#round++;
      try {
        this.#apply(await this.#stored.readAll(this.#certificate));
        await work(lease, AbortSignal.any([signal, lease.lost]));
      } finally {
        this.#isLocked = false;
        await lease.release();
      }
    } catch (error) {
      const isStore = error instanceof Fault && /^CERT_(?:STORE|LEASE)_/.test(error.code);
      if (isStore) this.#holdUntil = clock.now() + PAUSE_MS;
      throw error;
    }
  }

  async #ask(lease: Lease, signal: AbortSignal): Promise<void> {
    const { authorities, clock, random, log } = this.#house;
    const authority = authorities.find(({ id }) => id === this.#life.authority);
    const certificate = this.#certificate!;
    const answer = await authority?.renewalWindow(certificate.chain, signal).catch((error: unknown) => {
      signal.throwIfAborted();
      log.debug("certs.renewal_window_failed", { names: this.names, error: messageOf(error) });
      return undefined;
    });
    const renewal = renewalAfter(this.#life.renewal!, certificate, answer, clock.wall(), random);
    this.#house.tell({ kind: "asked", names: this.names, renewAt: renewal.at });
    this.#life = { ...this.#life, renewal };
    await this.#stored.writeLife(this.#life, lease);
  }

  async #order(urgency: Urgency, lease: Lease, signal: AbortSignal): Promise<void> {
    const { authorities, clock, random, log, health, solvers } = this.#house;
    const stored = this.#stored;
    const authority = await this.#begin(urgency, signal);
    const attempts = this.#life.attempts;
    const isRenewal = this.#certificate !== undefined && this.#life.authority === authority.id;
    await this.#stored.writeLife(this.#life, lease);
    this.#house.tell({ kind: "ordering", names: this.names, authority: authority.id });
    this.#isOrdering = true;
    try {
      const certificate = await authority.issue(
        {
          names: this.names,
          solvers,
          progress: (await stored.readOrder(authority.id)) ?? { key: await newCertificateKey(this.wanted.keyType) },
          save: (progress) => stored.writeOrder(authority.id, progress, lease),
          ...(isRenewal ? { replaces: this.#certificate!.chain } : {}),
          ...(this.wanted.profile === undefined ? {} : { profile: this.wanted.profile }),
        },
        signal,
      );
      await this.#takeOver(certificate, authority.id, lease);
      health.worked(authority.id);
    } catch (thrown) {
      // The process ends, or another gateway goes on: what was begun stays begun.
      if (signal.aborted) throw thrown;
      const fault = thrown instanceof Fault ? thrown : unexpected(this.names, thrown);
      const { retryAfter, problem = "" } = fault as { retryAfter?: number; problem?: string };
      health.failed(authority.id, fault.code, retryAfter, clock.now());
      const { code, message } = fault;
      const ids = authorities.map(({ id }) => id);
      const attempt = failed(attempts, ids, { code, message, retryAfter }, clock.wall(), random);
      this.#life = { ...this.#life, attempts: [...attempts.slice(0, -1), attempt] };
      const nextInSeconds = Math.round(this.delay / 1000);
      log.warn("certs.order_failed", {
        names: this.names,
        authority: authority.id,
        code,
        error: message,
        nextInSeconds,
      });
      this.#house.tell({ kind: "failed", names: this.names, authority: authority.id, fault });
      try {
        // The key is no good; the next attempt makes another.
        if (/^bad(?:CSR|PublicKey)$/.test(problem)) await stored.deleteOrder(lease);
        await stored.writeLife(this.#life, lease);
      } catch (error) {
        // It stays in memory; the `begun` on the disk counts as a failure too.
        log.error("certs.store", { error: messageOf(error) });
      }
      throw fault;
    } finally {
      this.#isOrdering = false;
    }
  }

  /** Whose turn it is, and that it was; one certificate after another, or each would take the last of a limit. */
  async #begin(urgency: Urgency, signal: AbortSignal): Promise<Authority> {
    const { clock, turns } = this.#house;
    const end = await turns.take("begin", signal);
    try {
      const authority = await this.#chooseAuthority(urgency);
      const replaces = this.#isUncounted(authority.id) ? { replaces: true as const } : {};
      const begun: Attempt = { at: clock.wall(), authority: authority.id, outcome: "begun", ...replaces };
      this.#life = { ...this.#life, attempts: [...recent(this.#life.attempts, clock.wall()), begun] };
      return authority;
    } finally {
      end();
    }
  }

  /** RFC 9773 section 5: a CA that knows what is replaced does not count it. */
  #isUncounted(authority: string): boolean {
    const { authority: issuer, renewal } = this.#life;
    return this.#certificate !== undefined && issuer === authority && renewal?.window !== undefined;
  }

  /** Old or new, never in between: the new one serves once it was read back from the store and found good. */
  async #takeOver(issued: Certificate, authority: string, lease: Lease): Promise<void> {
    const { clock, random, log, roots } = this.#house;
    const expected = { names: this.names, now: clock.wall(), roots };
    let certificate: Certificate;
    try {
      certificate = checkedCertificate(issued.chain, issued.key, expected);
    } catch (error) {
      await this.#stored.deleteOrder(lease); // asking for it again would give the same
      throw error;
    }
    certificate = await this.#stored.write(certificate, expected, lease);
    const attempts = this.#life.attempts;
    this.#life = {
      ...this.#life,
      serial: serialOf(certificate),
      authority,
      renewal: firstRenewal(certificate, clock.wall(), random),
      attempts: [...attempts.slice(0, -1), { ...attempts.at(-1)!, outcome: "issued" }],
    };
    this.#install(certificate);
    await this.#stored.writeLife(this.#life, lease);
    await this.#stored.deleteOrder(lease);
    const { notAfter } = certificate;
    this.#house.tell({ kind: "issued", names: this.names, authority });
    log.info("certs.issued", { names: this.names, authority, notAfter: new Date(notAfter).toISOString() });
  }

  #install(certificate: Certificate | undefined): void {
    this.#certificate = certificate;
    if (certificate !== undefined) this.#house.tell({ kind: "installed", names: this.names, certificate });
  }

  /** The first whose turn it is and whose limits leave room. */
  async #chooseAuthority(urgency: Urgency): Promise<Authority> {
    const { authorities, clock } = this.#house;
    const now = clock.wall();
    const turn = this.#turn();
    const failures = failuresOf(this.#life.attempts);
    const notBefore = urgency === "by-hand" ? blockedUntil(failures, turn.authority) : turn.at;
    if (notBefore > now)
      throw new WaitingFault(this.names, notBefore, failures.at(-1)?.message ?? "it was interrupted");
    const first = authorities.find(({ id }) => id === turn.authority)!;
    let full: BudgetLine | undefined;
    for (const authority of [first, ...authorities.filter((other) => other !== first)]) {
      const isFree = this.#isUncounted(authority.id);
      const line = isFree ? undefined : await this.#house.fullLine(authority.id, this.names);
      if (line === undefined) return authority;
      if (full === undefined || line.freeAt! < full.freeAt!) full = line;
    }
    this.#holdUntil = clock.now() + Math.min(Math.max(0, full!.freeAt! - now), LONGEST_HOLD_MS);
    const { limit, subject = "the account", allowed } = full!;
    throw new WaitingFault(
      this.names,
      full!.freeAt!,
      `"${full!.authority}" allows ${allowed} (${limit}) for ${subject}`,
    );
  }

  #turn(): { readonly authority: string; readonly at: number } {
    const { authorities, clock, health } = this.#house;
    const ids = authorities.map(({ id }) => id);
    return nextTurn(this.#life.attempts, ids, health.resting(clock.now()), clock.wall());
  }

  #renewAt(now: number): number {
    return renewAt(this.#life, this.#certificate!, this.#turn().at, now);
  }
}

const RANK: Record<Urgency, number> = { due: 0, early: 1, "by-hand": 2 };

function unexpected(names: readonly string[], cause: unknown): Fault {
  return new Fault("CERT_ORDER_FAILED", `Cannot get a certificate for "${names[0]}": ${messageOf(cause)}`, { cause });
}
