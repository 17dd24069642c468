import { closeSync, copyFileSync, existsSync, fsyncSync, openSync, renameSync, rmSync } from "node:fs";
import path from "node:path";
import { DatabaseSync } from "node:sqlite";
import { Fault, messageOf } from "../../base/fault.ts";
import type { StateFiles } from "./coordination-store.ts";
import { SqliteDatabase } from "./sqlite-database.ts";
import { MIGRATIONS } from "./sqlite-schema.ts";

/** Only in backups: what lies beside the database in the state folder. */
const FILES_TABLE = "CREATE TABLE backup_files (name TEXT PRIMARY KEY, body BLOB NOT NULL) STRICT;";
/**
 * Numbers and addresses that a restored server does not give out again: since the backup, nodes that it knows nothing of
 * may have had them (matrix ST-7).
 */
const NUMBERS_SKIPPED = 1000;

/** One file with everything, appearing under its name once it is whole. */
export function writeBackup(database: SqliteDatabase, target: string, files: StateFiles): void {
  if (existsSync(target)) {
    throw new Fault("BACKUP_EXISTS", `Cannot write backup "${target}": the file exists, wanted a new name`);
  }
  const part = `${target}.part`;
  try {
    rmSync(part, { force: true });
    closeSync(openSync(part, "wx", 0o600)); // born private: it holds keys
    database.copyTo(part);
    using copy = new DatabaseSync(part);
    copy.exec(`PRAGMA journal_mode = DELETE; ${FILES_TABLE}`);
    const insert = copy.prepare("INSERT INTO backup_files VALUES (?, ?)");
    for (const [name, body] of files) insert.run(name, body);
    copy.close();
    syncFile(part);
    renameSync(part, target);
    syncFile(path.dirname(path.resolve(target)));
  } catch (thrown) {
    rmSync(part, { force: true });
    if (thrown instanceof Fault) throw thrown;
    throw new Fault("BACKUP_FAILED", `Cannot write backup "${target}": ${messageOf(thrown)}, wanted room and rights`, {
      cause: thrown,
    });
  }
}

export interface Restored {
  readonly users: number;
  readonly nodes: number;
  readonly files: StateFiles;
}

/**
 * Puts what is in `backup` in place of the database `file`, of which the last state is kept beside it. Refuses while
 * another process has that database, and a backup that is damaged or newer than this program.
 */
export function restoreBackup(backup: string, file: string, wall: number, by: string): Restored {
  assertUnused(file);
  const files = readFiles(backup);
  const fresh = `${file}.restored`;
  for (const suffix of ["", "-wal", "-shm"]) rmSync(fresh + suffix, { force: true });
  closeSync(openSync(fresh, "wx", 0o600));
  copyWithoutFiles(backup, fresh);
  const database = new SqliteDatabase(fresh); // migrates, and checks as at every start
  const { users, nodes, settings } = database.load();
  const next = (name: string): string => String(Number(settings.get(name) ?? 1) + NUMBERS_SKIPPED);
  database.commit([
    { put: "setting", name: "nextNode", value: next("nextNode") },
    { put: "setting", name: "addressCursor", value: next("addressCursor") },
    { append: "log", value: { at: wall, by, action: "server.restore", target: path.basename(backup) } },
  ]);
  database.close();
  syncFile(fresh);
  setAside(file);
  renameSync(fresh, file);
  syncFile(path.dirname(path.resolve(file)));
  return {
    users: users.length,
    nodes: nodes.length,
    files,
  };
}

function readFiles(backup: string): StateFiles {
  const refused = (found: string, cause?: unknown): Fault =>
    new Fault("BACKUP_UNREADABLE", `Cannot restore "${backup}": ${found}, wanted what \`server backup\` wrote`, {
      cause,
    });
  if (!existsSync(backup)) throw refused("there is no such file");
  try {
    using copy = new DatabaseSync(backup, { readOnly: true });
    const version = Number(copy.prepare("PRAGMA user_version").get()?.["user_version"]);
    if (version > MIGRATIONS.length) {
      throw new Fault(
        "COORDINATION_STORE_NEWER",
        `Cannot restore "${backup}": its schema has version ${version}, wanted at most ${MIGRATIONS.length}`,
        { hint: "A newer release wrote it. Run that release." },
      );
    }
    const check = String(copy.prepare("PRAGMA integrity_check(1)").get()?.["integrity_check"]);
    if (check !== "ok") throw refused(check);
    const rows = copy.prepare("SELECT name, body FROM backup_files").all();
    return new Map(rows.map(({ name, body }) => [String(name), body as Uint8Array]));
  } catch (thrown) {
    throw thrown instanceof Fault ? thrown : refused(messageOf(thrown), thrown);
  }
}

function copyWithoutFiles(backup: string, fresh: string): void {
  using source = new DatabaseSync(backup, { readOnly: true });
  source.prepare("VACUUM INTO ?").run(fresh);
  using copy = new DatabaseSync(fresh);
  copy.exec("DROP TABLE backup_files");
}

/** Throws when another process has the database. Otherwise its WAL is in it afterwards, if it is sound. */
function assertUnused(file: string): void {
  if (!existsSync(file)) return;
  try {
    new SqliteDatabase(file).close();
  } catch (thrown) {
    // Damage is a reason to restore; only a living owner is one not to.
    if (!(thrown instanceof Fault) || thrown.code !== "COORDINATION_STORE_LOCKED") return;
    throw new Fault("BACKUP_SERVER_RUNS", `Cannot restore over "${file}": a server runs on it, wanted it stopped`, {
      hint: "Stop `sallyport server`, restore, and start it again.",
      cause: thrown,
    });
  }
}

/** A copy of what was there stays beside it. A WAL that is left over must not meet another database. */
function setAside(file: string): void {
  if (!existsSync(file)) return;
  const kept = `${file}.before-restore`;
  for (const suffix of ["-wal", "-shm", ""]) {
    rmSync(kept + suffix, { force: true });
    if (!existsSync(file + suffix)) continue;
    copyFileSync(file + suffix, kept + suffix);
    syncFile(kept + suffix);
  }
  for (const suffix of ["-wal", "-shm"]) rmSync(file + suffix, { force: true });
}

function syncFile(file: string): void {
  const descriptor = openSync(file, "r");
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}
