import type { Pool, PoolClient } from "pg";
import type { Clock } from "../../base/clock.ts";
import { Fault, messageOf } from "../../base/fault.ts";
import type { Log } from "../../base/log.ts";
import type { Random } from "../../base/random.ts";

const MOST_CONNECTIONS = 4;
const ANSWER_MS = 10_000;
const TRIES = 5;
/** Serialization failure, deadlock, and what a server says that restarts or lost us (PostgreSQL appendix A). */
const TRY_AGAIN = /^(?:40001|40P01|55P03|08\w{3}|57P0[123]|53300)$|^E(?:CONNRESET|PIPE|CONNREFUSED|TIMEDOUT)$/;

/** What `pg` says without a code. */
const LOST = /connection terminated|not queryable/i;

export interface PostgresCertificateStoreOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

type Prepare = (client: PoolClient) => Promise<void>;

/** Connections to one database, and what is worth trying again there. */
export class Database {
  readonly #pool: Pool;
  readonly #options: PostgresCertificateStoreOptions;
  readonly #secrets: readonly string[];
  readonly #prepare: Prepare;
  #prepared: Promise<void> | undefined;

  private constructor(pool: Pool, options: PostgresCertificateStoreOptions, url: string, prepare: Prepare) {
    this.#pool = pool;
    this.#prepare = prepare;
    this.#options = options;
    this.#secrets = secretsOf(url);
    // Of idle connections, as when the server restarts; the next query opens another.
    pool.on("error", (error) => options.log.warn("certs.database_lost", { error: this.#withoutSecrets(error) }));
  }

  /** `prepare` makes the tables; it runs once, before the first statement. */
  static async open(url: string, options: PostgresCertificateStoreOptions, prepare: Prepare): Promise<Database> {
    const { default: pg } = await import("pg"); // only a gateway that shares its store pays
    const pool = new pg.Pool({
      connectionString: url,
      max: MOST_CONNECTIONS,
      connectionTimeoutMillis: ANSWER_MS,
      query_timeout: ANSWER_MS,
      allowExitOnIdle: true,
      application_name: "sallyport",
    });
    return new Database(pool, options, url, prepare);
  }

  /** One statement that may be repeated without harm. */
  async rows<Row>(action: string, query: string, values: readonly unknown[]): Promise<Row[]> {
    await this.#ready();
    return this.#trying(action, async () => (await this.#pool.query(query, [...values])).rows as Row[]);
  }

  async close(): Promise<void> {
    await this.#pool.end();
  }

  /** All of it, and again from its beginning; so it too must do no harm when it is repeated. */
  async transaction(action: string, work: (client: PoolClient) => Promise<void>): Promise<void> {
    await this.#ready();
    await this.#trying(action, () => this.#transaction(work));
  }

  #ready(): Promise<void> {
    this.#prepared ??= this.#trying("open", () => this.#transaction(this.#prepare)).catch((error: unknown) => {
      this.#prepared = undefined;
      throw error;
    });
    return this.#prepared;
  }

  async #transaction(work: (client: PoolClient) => Promise<void>): Promise<void> {
    const client = await this.#pool.connect();
    let failure: unknown;
    // Between its queries a connection has no other listener.
    const onError = (error: Error): void => {
      failure = error;
    };
    client.on("error", onError);
    try {
      await client.query("begin");
      await work(client);
      await client.query("commit");
    } catch (error) {
      failure = error;
      await client.query("rollback").catch(() => undefined);
      throw error;
    } finally {
      client.off("error", onError);
      client.release(failure !== undefined && !(failure instanceof Fault));
    }
  }

  async #trying<T>(action: string, work: () => Promise<T>): Promise<T> {
    const { clock, random } = this.#options;
    for (let attempt = 1; ; attempt++) {
      try {
        return await work();
      } catch (error) {
        if (error instanceof Fault) throw error;
        const code = (error as { code?: unknown }).code;
        const again = TRY_AGAIN.test(String(code)) || LOST.test(messageOf(error));
        if (!again || attempt === TRIES) throw this.#failed(action, error);
        const pause = 20 * 2 ** attempt * (1 + random(1)[0]! / 255);
        await new Promise<void>((resolve) => clock.at(clock.now() + pause, resolve));
      }
    }
  }

  /** No `cause`: it holds the connection's settings. */
  #failed(action: string, error: unknown): Fault {
    const found = this.#withoutSecrets(error);
    return new Fault("CERT_STORE_FAILED", `Cannot ${action} the certificate store in PostgreSQL: ${found}`, {
      hint: "Check that the server runs and that its user may create and use the schema `sallyport`.",
    });
  }

  #withoutSecrets(error: unknown): string {
    const inner = error instanceof AggregateError ? error.errors.map(messageOf).join(", ") : messageOf(error);
    return this.#secrets.reduce((text, secret) => text.replaceAll(secret, "***"), inner);
  }
}

/** The URL, and the password in each of its spellings. */
function secretsOf(url: string): string[] {
  const found = [url];
  const password = /^[^:]+:\/\/[^/@]*?:([^/]*)@/.exec(url)?.[1] ?? /[?&]password=([^&]*)/.exec(url)?.[1];
  if (password !== undefined && password !== "") {
    found.push(password);
    try {
      found.push(decodeURIComponent(password));
    } catch {
      // Not encoded then.
    }
  }
  return found;
}
