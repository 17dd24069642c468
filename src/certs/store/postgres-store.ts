import type { PoolClient } from "pg";
import { Fault } from "../../base/fault.ts";
import { type CertificateStore, checkedPath, checkedValue, type Lease, leaseLost } from "./certificate-store.ts";
import { Database, type PostgresCertificateStoreOptions } from "./postgres-database.ts";
import { acquireRowLease, RowLease } from "./postgres-lease.ts";
import { Turns } from "./turns.ts";

const SCHEMA_VERSION = 1;
const SCHEMA = `
  create schema if not exists sallyport;
  create table if not exists sallyport.certificate_schema (version integer not null);
  create table if not exists sallyport.certificate_values (
    path text collate "C" primary key,
    value bytea not null,
    previous bytea,
    changed timestamptz not null default clock_timestamp()
  );
  create table if not exists sallyport.certificate_leases (
    name text collate "C" primary key,
    holder text not null,
    fence bigint not null,
    expires timestamptz not null
  );`;

/**
 * A store that gateways of several machines share, in the schema `sallyport` of a PostgreSQL database. Locks are rows that
 * run out by the database's clock and carry a fence; a write under a lock is refused by the database once the lock is gone.
 * It connects with its first call: a database that is away stops no gateway from starting. The URL is a secret: it is in no
 * message.
 */
export async function postgresCertificateStore(
  url: string,
  options: PostgresCertificateStoreOptions,
): Promise<CertificateStore> {
  const database = await Database.open(url, options, migrate);
  const turns = new Turns();
  const text = async (path: string, column: "value" | "previous"): Promise<Uint8Array | undefined> => {
    const query = `select ${column} as value from sallyport.certificate_values where path = $1`;
    const [row] = await database.rows<{ value: Buffer | null }>("read", query, [checkedPath(path)]);
    return row?.value ? new Uint8Array(row.value) : undefined;
  };
  return {
    read: (path) => text(path, "value"),
    previous: (path) => text(path, "previous"),
    async write(path, value, lease) {
      // The same value again is no change, so a commit that was tried twice does not lose the value before it.
      await changed(database, "write", lease, (client) =>
        client.query(
          `insert into sallyport.certificate_values as kept (path, value) values ($1, $2)
           on conflict (path) do update set value = excluded.value, previous = kept.value, changed = clock_timestamp()
           where kept.value <> excluded.value`,
          [checkedPath(path), Buffer.from(checkedValue(path, value))],
        ),
      );
    },
    async delete(path, lease) {
      await changed(database, "delete", lease, (client) =>
        client.query("delete from sallyport.certificate_values where path = $1", [checkedPath(path)]),
      );
    },
    async list(prefix) {
      const query = "select path from sallyport.certificate_values where starts_with(path, $1) order by path";
      return (await database.rows<{ path: string }>("list", query, [prefix])).map((row) => row.path);
    },
    async lock(name, signal) {
      const end = await turns.take(checkedPath(name), signal);
      try {
        return await acquireRowLease(database, name, options, end, signal);
      } catch (error) {
        end();
        throw error;
      }
    },
    close: () => database.close(),
  };
}

/** In one transaction with the check that `lease` is in force, so that nobody can take it over in between. */
async function changed(
  database: Database,
  action: string,
  lease: Lease | undefined,
  work: (client: PoolClient) => Promise<unknown>,
): Promise<void> {
  await database.transaction(action, async (client) => {
    if (lease instanceof RowLease) {
      const { rowCount } = await client.query(
        `select from sallyport.certificate_leases
         where name = $1 and fence = $2 and expires > clock_timestamp() for share`,
        [lease.name, lease.fence],
      );
      if (rowCount === 0 || lease.isOver) throw leaseLost(lease.name);
    }
    await work(client);
  });
}

async function migrate(client: PoolClient): Promise<void> {
  // Gateways that start together do this one after another.
  await client.query("select pg_advisory_xact_lock(hashtext('sallyport.certificate_schema'))");
  const { rows: tables } = await client.query<{ name: string | null }>(
    "select to_regclass('sallyport.certificate_schema')::text as name",
  );
  if (tables[0]?.name === null) {
    await client.query(SCHEMA);
    await client.query("insert into sallyport.certificate_schema (version) values ($1)", [SCHEMA_VERSION]);
    return;
  }
  const { rows } = await client.query<{ version: number }>("select version from sallyport.certificate_schema");
  const version = rows[0]?.version ?? 0;
  if (version === SCHEMA_VERSION) return;
  throw new Fault(
    "CERT_STORE_VERSION",
    `Cannot use the certificate store in PostgreSQL: its version is ${version}, ${SCHEMA_VERSION} wanted`,
    { hint: "A newer sallyport wrote it. Use that version, or another database." },
  );
}
