import { closeSync, openSync, statfsSync } from "node:fs";
import path from "node:path";
import { DatabaseSync, type SQLInputValue, type StatementSync } from "node:sqlite";
import { Fault, messageOf } from "../../base/fault.ts";
import type { AuthKey, Change, CoordinationState, NodeRecord, RestingAddress, User } from "../records.ts";
import type { LogQuery, StoredLogEntry } from "./coordination-store.ts";
import { conflict, identityKey, keyUsed } from "./memory-store.ts";
import { LEAST_SQLITE, MIGRATIONS } from "./sqlite-schema.ts";

/** statfs(2) `f_type` of file systems whose locks cannot be trusted: NFS, SMB (old and new), AFS, Ceph. */
const NETWORK_FILE_SYSTEMS: ReadonlySet<number> = new Set([
  0x6969, 0x517b, 0xff534d42, 0xfe534d42, 0x5346414f, 0x00c36400,
]);

const CONFLICTS: ReadonlySet<number> = new Set([2067, 1555, 787]); // UNIQUE, PRIMARYKEY, FOREIGNKEY
const BUSY = 5;
const DAMAGED: ReadonlySet<number> = new Set([11, 26]); // CORRUPT, NOTADB

const UPSERT_NODE = `INSERT INTO nodes (id, machine_key, node_key, user_id, name, ipv4, ipv6, body)
VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET machine_key = excluded.machine_key,
node_key = excluded.node_key, user_id = excluded.user_id, name = excluded.name, ipv4 = excluded.ipv4,
ipv6 = excluded.ipv6, body = excluded.body`;
const UPSERT_KEY = `INSERT INTO auth_keys (id, user_id, reusable, uses, last_used, body) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET user_id = excluded.user_id, reusable = excluded.reusable, uses = excluded.uses,
last_used = excluded.last_used, body = excluded.body`;

/** One SQLite file, used synchronously: it lives in a worker. */
export class SqliteDatabase {
  readonly #database: DatabaseSync;
  readonly #statements: Map<string, StatementSync> = new Map();

  constructor(file: string) {
    assertLocal(file);
    try {
      // The file is born private; the WAL beside it takes the same mode.
      closeSync(openSync(file, "a", 0o600));
      this.#database = new DatabaseSync(file, { enableForeignKeyConstraints: true, timeout: 1000 });
    } catch (thrown) {
      throw faultOf(thrown, file);
    }
    try {
      this.#prepareFile();
      this.#migrate(file);
    } catch (thrown) {
      this.#database.close();
      throw faultOf(thrown, file);
    }
  }

  load(): CoordinationState {
    const bodies = (table: string): unknown[] =>
      this.#all(`SELECT body FROM ${table} ORDER BY id`).map(({ body }) => JSON.parse(String(body)));
    const keys = this.#all("SELECT body, uses, last_used FROM auth_keys ORDER BY id").map((row) => ({
      ...(JSON.parse(String(row["body"])) as AuthKey),
      uses: Number(row["uses"]),
      ...(row["last_used"] === null ? {} : { lastUsed: Number(row["last_used"]) }),
    }));
    return {
      users: bodies("users") as User[],
      authKeys: keys,
      nodes: bodies("nodes") as NodeRecord[],
      resting: this.#all("SELECT ipv4, until FROM resting").map((row): RestingAddress => {
        return { ipv4: String(row["ipv4"]), until: Number(row["until"]) };
      }),
      settings: new Map(
        this.#all("SELECT name, value FROM settings").map((row) => [String(row["name"]), String(row["value"])]),
      ),
    };
  }

  commit(changes: readonly Change[]): void {
    let at = "";
    this.#run("BEGIN IMMEDIATE");
    try {
      for (const change of changes) {
        at = describe(change);
        this.#apply(change);
      }
      this.#run("COMMIT");
    } catch (thrown) {
      if (this.#database.isTransaction) this.#run("ROLLBACK");
      throw CONFLICTS.has(errorCode(thrown)) ? conflict("record", at) : faultOf(thrown, "the coordination store");
    }
  }

  log({ limit, before }: LogQuery): readonly StoredLogEntry[] {
    const rows = this.#all(
      "SELECT * FROM log WHERE sequence < ? ORDER BY sequence DESC LIMIT ?",
      before ?? Number.MAX_SAFE_INTEGER,
      limit,
    );
    return rows.map((row): StoredLogEntry => {
      const entry = {
        sequence: Number(row["sequence"]),
        at: Number(row["at"]),
        by: String(row["by"]),
        action: String(row["action"]),
        target: String(row["target"]),
      };
      return row["detail"] === null ? entry : { ...entry, detail: String(row["detail"]) };
    });
  }

  /** A consistent copy, also under write load. The target must be empty. */
  copyTo(target: string): void {
    try {
      this.#run("VACUUM INTO ?", target);
    } catch (thrown) {
      throw faultOf(thrown, target);
    }
  }

  close(): void {
    this.#statements.clear();
    this.#database.close();
  }

  #prepareFile(): void {
    const [row] = this.#all("SELECT sqlite_version() AS version");
    const version = String(row?.["version"]).split(".").map(Number);
    const isOld = version.some(
      (part, i) => part < LEAST_SQLITE[i]! && version.slice(0, i).every((p, j) => p === LEAST_SQLITE[j]),
    );
    if (isOld) {
      throw new Fault(
        "COORDINATION_STORE_SQLITE",
        `Cannot use SQLite "${version.join(".")}": it may damage databases, wanted ${LEAST_SQLITE.join(".")} or newer`,
        { hint: "Run a newer Node.js; it brings its own SQLite." },
      );
    }
    // The lock is taken by the first write and held for life: one process per file.
    this.#database.exec("PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;");
    this.#database.exec("BEGIN IMMEDIATE; COMMIT;");
    const [check] = this.#all("PRAGMA quick_check(1)");
    if (check?.["quick_check"] !== "ok") throw damaged(String(check?.["quick_check"]));
  }

  #migrate(file: string): void {
    const [row] = this.#all("PRAGMA user_version");
    const found = Number(row?.["user_version"]);
    if (found > MIGRATIONS.length) {
      throw new Fault(
        "COORDINATION_STORE_NEWER",
        `Cannot open "${file}": its schema has version ${found}, wanted at most ${MIGRATIONS.length}`,
        { hint: "A newer release wrote it. Run that release, or restore the backup from before the update." },
      );
    }
    for (let version = found; version < MIGRATIONS.length; version++) {
      // The version moves in the same transaction: a kill leaves the schema before or after, never between.
      this.#database.exec(`BEGIN IMMEDIATE; ${MIGRATIONS[version]!} PRAGMA user_version = ${version + 1}; COMMIT;`);
    }
  }

  #apply(change: Change): void {
    if ("append" in change) {
      const { at, by, action, target, detail } = change.value;
      const sql = "INSERT INTO log (at, by, action, target, detail) VALUES (?, ?, ?, ?, ?)";
      this.#run(sql, at, by, action, target, detail ?? null);
    } else if ("use" in change) {
      const sql = "UPDATE auth_keys SET uses = uses + 1, last_used = ? WHERE id = ? AND (reusable = 1 OR uses = 0)";
      if (this.#run(sql, change.at, change.id) === 0) throw keyUsed(change.id);
    } else if ("remove" in change) this.#remove(change);
    else this.#put(change);
  }

  #remove(change: Extract<Change, { remove: string }>): void {
    if (change.remove === "resting") this.#run("DELETE FROM resting WHERE ipv4 = ?", change.ipv4);
    else if (change.remove === "authKey") this.#run("DELETE FROM auth_keys WHERE id = ?", change.id);
    else if (change.remove === "node") this.#run("DELETE FROM nodes WHERE id = ?", change.id);
    else this.#run("DELETE FROM users WHERE id = ?", change.id);
  }

  #put(change: Extract<Change, { put: string }>): void {
    if (change.put === "setting") {
      const sql = "INSERT INTO settings VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
      this.#run(sql, change.name, change.value);
    } else if (change.put === "resting") {
      const sql = "INSERT INTO resting VALUES (?, ?) ON CONFLICT (ipv4) DO UPDATE SET until = excluded.until";
      this.#run(sql, change.value.ipv4, change.value.until);
    } else if (change.put === "user") {
      const { id, login, identity } = change.value;
      const sql = `INSERT INTO users (id, login, body, identity) VALUES (?, ?, ?, ?) ON CONFLICT (id)
        DO UPDATE SET login = excluded.login, body = excluded.body, identity = excluded.identity`;
      this.#run(sql, id, login, JSON.stringify(change.value), identityKey(identity) ?? null);
    } else if (change.put === "authKey") {
      const { id, userId, reusable, uses, lastUsed } = change.value;
      const body = JSON.stringify(change.value);
      this.#run(UPSERT_KEY, id, userId ?? null, reusable ? 1 : 0, uses, lastUsed ?? null, body);
    } else {
      const { id, machineKey, nodeKey, userId, name, ipv4, ipv6 } = change.value;
      const body = JSON.stringify(change.value);
      this.#run(UPSERT_NODE, id, machineKey, nodeKey, userId ?? null, name, ipv4, ipv6, body);
    }
  }

  #all(sql: string, ...values: readonly SQLInputValue[]): Record<string, unknown>[] {
    return this.#statement(sql).all(...values);
  }

  #run(sql: string, ...values: readonly SQLInputValue[]): number {
    return Number(this.#statement(sql).run(...values).changes);
  }

  #statement(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      statement = this.#database.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }
}

function describe(change: Change): string {
  if ("append" in change) return "log";
  if ("use" in change) return `authKey ${change.id}`;
  if ("remove" in change) return `${change.remove} ${change.remove === "resting" ? change.ipv4 : change.id}`;
  if (change.put === "setting") return `setting ${change.name}`;
  return `${change.put} ${change.put === "resting" ? change.value.ipv4 : change.value.id}`;
}

function errorCode(thrown: unknown): number {
  return thrown instanceof Error && "errcode" in thrown ? Number(thrown.errcode) : 0;
}

function damaged(found: string): Fault {
  return new Fault(
    "COORDINATION_STORE_DAMAGED",
    `Cannot use the coordination store: ${found}, wanted an undamaged SQLite database`,
    { hint: "Restore the last backup. Nothing was changed." },
  );
}

function faultOf(thrown: unknown, file: string): Fault {
  if (thrown instanceof Fault) return thrown;
  const code = errorCode(thrown);
  if ((code & 0xff) === BUSY) {
    return new Fault(
      "COORDINATION_STORE_LOCKED",
      `Cannot open "${file}": another process has it, wanted it for us alone`,
      {
        hint: "Stop the other server. To have two, use another store.",
      },
    );
  }
  if (DAMAGED.has(code & 0xff)) return damaged(messageOf(thrown));
  return new Fault("COORDINATION_STORE_IO", `Cannot use "${file}": ${messageOf(thrown)}, wanted to read and write it`, {
    cause: thrown,
  });
}

function assertLocal(file: string): void {
  const folder = path.dirname(path.resolve(file));
  let type: number;
  try {
    type = statfsSync(folder).type >>> 0;
  } catch (thrown) {
    throw faultOf(thrown, folder);
  }
  if (NETWORK_FILE_SYSTEMS.has(type)) {
    throw new Fault(
      "COORDINATION_STORE_REMOTE",
      `Cannot open "${file}": it is on a network file system, wanted a local one`,
      {
        hint: "Locks over a network lose data. Put it on a local disk.",
      },
    );
  }
}
