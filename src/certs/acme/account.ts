import type { Clock } from "../../base/clock.ts";
import { Fault } from "../../base/fault.ts";
import type { Log } from "../../base/log.ts";
import { newCertificateKey } from "../certificate-key.ts";
import type { CertificateStore } from "../store/certificate-store.ts";
import { type AccountRecord, parseAccountRecord } from "./account-record.ts";
import type { AcmeSession, ExternalAccount } from "./acme-session.ts";
import { AuthorityFault, wordsOf } from "./authority-fault.ts";

/** New accounts in place of lost ones; Let's Encrypt allows ten per address in three hours. */
const MOST_REPLACED = 3;
const REPLACED_WITHIN_MS = 3_600_000;
/** What a CA may say when the account is not (or no longer) there, or has another key by now. */
const ACCOUNT_PROBLEMS: ReadonlySet<string> = new Set(["accountDoesNotExist", "unauthorized", "malformed"]);

export interface AccountOptions {
  /** Of the authority. */
  readonly id: string;
  readonly directory: string;
  readonly store: CertificateStore;
  readonly clock: Clock;
  readonly log: Log;
  /** Mail addresses. */
  readonly contact?: readonly string[] | undefined;
  readonly agreeToTerms: boolean;
  readonly externalAccount?: ExternalAccount | undefined;
}

/** What may be done while the lock is ours. */
interface Hold {
  readonly signal: AbortSignal;
  write(record: AccountRecord): Promise<void>;
}

type OpenSession = (key: string, url: string | undefined, signal: AbortSignal) => Promise<AcmeSession>;

/**
 * Our account at one CA. Its key is on disk before the CA hears of it, and the lock of the store is held while anything
 * about it changes, so that processes that share a store share the account.
 */
export class Account {
  readonly #options: AccountOptions;
  readonly #openSession: OpenSession;
  readonly #path: string;
  #session: AcmeSession | undefined;
  #replaced: number[] = [];

  constructor(options: AccountOptions, openSession: OpenSession) {
    this.#options = options;
    this.#openSession = openSession;
    this.#path = `accounts/${options.id}/account.json`;
  }

  async session(signal: AbortSignal): Promise<AcmeSession> {
    this.#session ??= await this.#locked(signal, async (hold) => this.#session ?? this.#open(await this.#read(), hold));
    return this.#session;
  }

  /** Runs `work`, once more with another account if the CA does not know ours any longer. */
  async use<T>(signal: AbortSignal, work: (session: AcmeSession) => Promise<T>): Promise<T> {
    const session = await this.session(signal);
    try {
      return await work(session);
    } catch (error) {
      if (!isAboutAccount(error)) throw error;
      const successor = await this.#locked(signal, (hold) => this.#successor(session, hold));
      if (successor === undefined) throw error;
      this.#session = successor;
      return work(successor);
    }
  }

  /** RFC 8555 section 7.3.5: the account gets a new key. */
  async rollKey(signal: AbortSignal): Promise<void> {
    await this.session(signal);
    await this.#locked(signal, async (hold) => {
      const record = await this.#settled(await this.#read(), hold);
      if (record?.url === undefined) throw lostAccount(this.#options.id);
      const nextKey = await newCertificateKey();
      await hold.write({ ...record, nextKey });
      const session = await this.#openSession(record.key, record.url, hold.signal);
      await session.changeKey(nextKey, hold.signal);
      await hold.write({ ...record, key: nextKey });
      this.#session = await this.#openSession(nextKey, record.url, hold.signal);
    });
  }

  /** The account of the record, made where there is none. */
  async #open(found: AccountRecord | undefined, hold: Hold): Promise<AcmeSession> {
    const { directory, contact = [] } = this.#options;
    const settled = await this.#settled(found, hold);
    const record = settled?.directory === directory ? settled : await this.#begun(hold);
    const session = await this.#openSession(record.key, record.url, hold.signal);
    // A process that ended before it heard the URL may have been heard itself.
    const isNew = record.url === undefined && (record !== settled || !(await exists(session, hold.signal)));
    const mail = contact.map((address) => `mailto:${address}`);
    if (isNew) await this.#register(session, mail, hold.signal);
    else if (record.contact.join() !== contact.join()) await session.updateAccount({ contact: mail }, hold.signal);
    else if (record.url !== undefined) return session;
    await hold.write({ ...record, url: session.accountUrl, contact });
    return session;
  }

  async #begun(hold: Hold): Promise<AccountRecord> {
    const record = { directory: this.#options.directory, key: await newCertificateKey(), contact: [] };
    await hold.write(record);
    return record;
  }

  async #register(session: AcmeSession, contact: string[], signal: AbortSignal): Promise<void> {
    const { id, agreeToTerms, externalAccount, log } = this.#options;
    const { termsOfService, externalAccountRequired } = session.directory.meta ?? {};
    if (termsOfService !== undefined && !agreeToTerms) {
      throw new Fault("CERT_ACCOUNT_TERMS", `Cannot make an account at "${id}": its terms are not agreed to`, {
        hint: `Read ${wordsOf(termsOfService)} and agree in the configuration.`,
      });
    }
    if (externalAccountRequired === true && externalAccount === undefined) {
      throw new Fault("CERT_ACCOUNT_EXTERNAL", `Cannot make an account at "${id}": it wants an account of yours`, {
        hint: "Give the key id and the HMAC key that the CA's own pages show (external account binding).",
      });
    }
    const payload = { termsOfServiceAgreed: agreeToTerms, ...(contact.length > 0 && { contact }) };
    await session.createAccount(payload, signal);
    log.info("certs.account", { authority: id, url: session.accountUrl });
  }

  /** What to use in place of `stale`: what another process wrote meanwhile, or a new account where ours is gone. */
  async #successor(stale: AcmeSession, hold: Hold): Promise<AcmeSession | undefined> {
    if (this.#session !== undefined && this.#session !== stale) return this.#session;
    const record = await this.#settled(await this.#read(), hold);
    if (record?.url !== undefined && (record.key !== stale.accountKey || record.url !== stale.accountUrl)) {
      return this.#openSession(record.key, record.url, hold.signal);
    }
    if (!(await isGone(stale, hold.signal))) return undefined;
    const now = this.#options.clock.now();
    this.#replaced = this.#replaced.filter((at) => now - at < REPLACED_WITHIN_MS);
    if (this.#replaced.length >= MOST_REPLACED) throw lostAccount(this.#options.id);
    this.#replaced.push(now);
    this.#options.log.warn("certs.account_lost", { authority: this.#options.id, url: stale.accountUrl });
    return this.#open(undefined, hold);
  }

  /** A roll-over that was cut off has happened at the CA, or it has not. */
  async #settled(record: AccountRecord | undefined, hold: Hold): Promise<AccountRecord | undefined> {
    if (record?.nextKey === undefined) return record;
    const { nextKey, ...rest } = record;
    const session = await this.#openSession(nextKey, undefined, hold.signal);
    const settled = (await exists(session, hold.signal)) ? { ...rest, key: nextKey } : rest;
    await hold.write(settled);
    return settled;
  }

  async #read(): Promise<AccountRecord | undefined> {
    const bytes = await this.#options.store.read(this.#path);
    return bytes === undefined ? undefined : parseAccountRecord(bytes, this.#path);
  }

  async #locked<T>(signal: AbortSignal, work: (hold: Hold) => Promise<T>): Promise<T> {
    const { store, id } = this.#options;
    const lease = await store.lock(`accounts/${id}`, signal);
    const bytesOf = (record: AccountRecord): Buffer => Buffer.from(`${JSON.stringify(record, undefined, 2)}\n`);
    try {
      return await work({
        signal: AbortSignal.any([signal, lease.lost]),
        write: (record) => store.write(this.#path, bytesOf(record), lease),
      });
    } finally {
      await lease.release();
    }
  }
}

function isAboutAccount(error: unknown): boolean {
  return (
    error instanceof AuthorityFault && error.code === "CERT_ORDER_REFUSED" && ACCOUNT_PROBLEMS.has(error.problem ?? "")
  );
}

/** Whether the CA has an account for the key; the session has its URL then. */
async function exists(session: AcmeSession, signal: AbortSignal): Promise<boolean> {
  try {
    await session.createAccount({ onlyReturnExisting: true }, signal);
    return true;
  } catch (error) {
    if (error instanceof AuthorityFault && error.problem === "accountDoesNotExist") return false;
    throw error;
  }
}

async function isGone(session: AcmeSession, signal: AbortSignal): Promise<boolean> {
  try {
    return (await session.updateAccount({}, signal)).status !== "valid";
  } catch (error) {
    if (error instanceof AuthorityFault && /^(accountDoesNotExist|unauthorized)$/.test(error.problem ?? ""))
      return true;
    throw error;
  }
}

function lostAccount(id: string): Fault {
  return new Fault("CERT_ACCOUNT_LOST", `Cannot use an account at "${id}": the CA knows none of those we made`, {
    hint: "Ask the CA why; after an hour a new one is made.",
  });
}
