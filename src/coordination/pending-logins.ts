import type { Random } from "../base/random.ts";
import type { Hostinfo } from "../wire/tailcfg.ts";

/** A device that asks to be let in. */
export interface Applicant {
  readonly machineKey: string;
  readonly nodeKey: string;
  readonly oldNodeKey: string | undefined;
  readonly hostinfo: Hostinfo;
  readonly capability: number;
  readonly expires: number | undefined;
  readonly ephemeral: boolean;
}

export interface PendingLogin extends Applicant {
  readonly id: string;
  readonly created: number;
}

interface Entry {
  readonly login: PendingLogin;
  /** Why the login failed; empty when it worked. */
  result: string | undefined;
  readonly waiters: Set<() => void>;
}

const MOST = 1024;
const MOST_OF_MACHINE = 8;
const MOST_WAITERS = 4;
export const PENDING_LIFETIME_MS: number = 15 * 60_000;

export type Outcome = "unknown" | "aborted" | "settled" | { readonly error: string };

/** Logins that wait for a person, bounded in number and time (control-protocol §11.7, matrix CS-7). */
export class PendingLogins {
  readonly #entries: Map<string, Entry> = new Map();
  readonly #random: Random;

  constructor(random: Random) {
    this.#random = random;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** The waiting login of the same keys, or a new one. */
  begin(login: Applicant, now: number): PendingLogin {
    this.prune(now);
    const own = [...this.#entries.values()].filter((entry) => entry.login.machineKey === login.machineKey);
    const same = own.find(
      (entry) =>
        entry.login.nodeKey === login.nodeKey &&
        entry.login.oldNodeKey === login.oldNodeKey &&
        entry.result === undefined,
    );
    if (same !== undefined) return same.login;
    if (own.length >= MOST_OF_MACHINE) this.#drop(own[0]!);
    else if (this.#entries.size >= MOST) this.#drop(this.#entries.values().next().value!);
    const id = Buffer.from(this.#random(24)).toString("hex");
    const pending: PendingLogin = { ...login, id, created: now };
    this.#entries.set(id, { login: pending, result: undefined, waiters: new Set() });
    return pending;
  }

  find(id: string, now: number): PendingLogin | undefined {
    this.prune(now);
    const entry = this.#entries.get(id);
    return entry?.result === undefined ? entry?.login : undefined;
  }

  list(now: number): readonly PendingLogin[] {
    this.prune(now);
    return [...this.#entries.values()].filter(({ result }) => result === undefined).map(({ login }) => login);
  }

  settle(id: string, error: string = ""): void {
    const entry = this.#entries.get(id);
    if (entry === undefined) return;
    entry.result = error;
    this.#wake(entry);
  }

  /** Waits until the login with these keys is decided, dropped or `signal` says stop. */
  async wait(id: string, machineKey: string, nodeKey: string, signal: AbortSignal): Promise<Outcome> {
    const entry = this.#entries.get(id);
    if (entry === undefined || entry.login.machineKey !== machineKey || entry.login.nodeKey !== nodeKey) {
      return "unknown";
    }
    if (entry.waiters.size >= MOST_WAITERS) entry.waiters.values().next().value?.();
    while (entry.result === undefined) {
      if (signal.aborted) return "aborted";
      if (this.#entries.get(id) !== entry) return "unknown";
      const cut = await new Promise<boolean>((resolve) => {
        const wake = () => done(entry.result === undefined && this.#entries.get(id) === entry);
        const abort = () => done(true);
        const done = (aborted: boolean) => {
          entry.waiters.delete(wake);
          signal.removeEventListener("abort", abort);
          resolve(aborted);
        };
        entry.waiters.add(wake);
        signal.addEventListener("abort", abort, { once: true });
      });
      if (cut) return "aborted";
    }
    return entry.result === "" ? "settled" : { error: entry.result };
  }

  prune(now: number): void {
    for (const entry of this.#entries.values()) {
      if (now - entry.login.created < PENDING_LIFETIME_MS) break;
      this.#drop(entry);
    }
  }

  clear(): void {
    for (const entry of this.#entries.values()) this.#drop(entry);
  }

  #drop(entry: Entry): void {
    this.#entries.delete(entry.login.id);
    this.#wake(entry);
  }

  #wake(entry: Entry): void {
    for (const wake of [...entry.waiters]) wake();
  }
}
