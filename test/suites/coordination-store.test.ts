import { spawn } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, existsSync } from "node:fs";
import { open, stat, writeFile } from "node:fs/promises";
import path from "node:path";
import { createInterface } from "node:readline";
import { DatabaseSync } from "node:sqlite";
import { expect, test } from "vitest";
import { MemoryCoordinationStore } from "../../src/coordination/store/memory-store.ts";
import { MIGRATIONS } from "../../src/coordination/store/sqlite-schema.ts";
import { SqliteCoordinationStore } from "../../src/coordination/store/sqlite-store.ts";
import { coordinationStoreSuite } from "./coordination-store.ts";
import { scratchFolder } from "./scratch.ts";

const folder = scratchFolder();
let files = 0;
const newFile = (): string => path.join(folder, `${++files}.db`);

coordinationStoreSuite("memory", async () => ({ store: new MemoryCoordinationStore() }));
coordinationStoreSuite("SQLite", async () => {
  const file = newFile();
  const store = await SqliteCoordinationStore.open(file);
  const reopen = async () => {
    await store.close();
    return SqliteCoordinationStore.open(file);
  };
  return { store, reopen };
});

const setting = (name: string, value: string) => ({ put: "setting", name, value }) as const;

test("ST-3, ST-4 the file is private, in WAL mode, and of one process", async () => {
  const file = newFile();
  const store = await SqliteCoordinationStore.open(file);
  expect((await stat(file)).mode & 0o777).toBe(0o600);
  await expect(SqliteCoordinationStore.open(file)).rejects.toMatchObject({ code: "COORDINATION_STORE_LOCKED" });
  await store.commit([setting("a", "b")]);
  await store.close();
  const database = new DatabaseSync(file, { readOnly: true });
  expect(database.prepare("PRAGMA journal_mode").get()).toEqual({ journal_mode: "wal" });
  database.close();
});

test("ST-7 a backup under writes is whole and opens", async () => {
  const store = await SqliteCoordinationStore.open(newFile());
  const target = newFile();
  const writes = Array.from({ length: 50 }, (_, i) => store.commit([setting("x", String(i)), setting("y", String(i))]));
  await Promise.all([...writes, store.backup(target, new Map())]);
  await store.close();
  const copy = await SqliteCoordinationStore.open(target);
  const { settings } = await copy.load();
  expect(settings.get("x")).toBe(settings.get("y"));
  await copy.close();
});

test("ST-8 a newer schema is refused; damage is refused and left as it is", async () => {
  const file = newFile();
  await (await SqliteCoordinationStore.open(file)).close();
  const database = new DatabaseSync(file);
  database.exec("PRAGMA user_version = 99");
  database.close();
  await expect(SqliteCoordinationStore.open(file)).rejects.toMatchObject({ code: "COORDINATION_STORE_NEWER" });
  const junk = newFile();
  await writeFile(junk, "x".repeat(8192));
  await expect(SqliteCoordinationStore.open(junk)).rejects.toMatchObject({ code: "COORDINATION_STORE_DAMAGED" });
  const handle = await open(junk);
  expect((await handle.readFile("utf8")).length).toBe(8192);
  await handle.close();
  await expect(SqliteCoordinationStore.open(path.join(folder, "none", "x.db"))).rejects.toMatchObject({
    code: "COORDINATION_STORE_IO",
  });
});

/** As release 1 wrote it, with a row of each kind. */
const VERSION_1 = `
  CREATE TABLE users (id INTEGER PRIMARY KEY, login TEXT NOT NULL UNIQUE, body TEXT NOT NULL) STRICT;
  CREATE TABLE auth_keys (id TEXT PRIMARY KEY, user_id INTEGER REFERENCES users (id), reusable INTEGER NOT NULL,
    uses INTEGER NOT NULL, last_used INTEGER, body TEXT NOT NULL) STRICT;
  CREATE TABLE nodes (id INTEGER PRIMARY KEY, machine_key TEXT NOT NULL, node_key TEXT NOT NULL UNIQUE,
    user_id INTEGER REFERENCES users (id), name TEXT NOT NULL UNIQUE, ipv4 TEXT NOT NULL UNIQUE,
    ipv6 TEXT NOT NULL UNIQUE, body TEXT NOT NULL) STRICT;
  CREATE TABLE resting (ipv4 TEXT PRIMARY KEY, until INTEGER NOT NULL) STRICT;
  CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
  CREATE TABLE log (sequence INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, by TEXT NOT NULL,
    action TEXT NOT NULL, target TEXT NOT NULL, detail TEXT) STRICT;
  INSERT INTO users VALUES (1, 'ada@example.com', '{"id":1,"login":"ada@example.com","displayName":"Ada","created":1}');
  INSERT INTO auth_keys VALUES ('k', 1, 0, 1, 9, '{"id":"k","userId":1,"tags":[],"reusable":false,"uses":0}');
  INSERT INTO nodes VALUES (1, 'mkey:1', 'nodekey:1', 1, 'n', '100.64.0.1', 'fd7a:115c:a1e0::1', '{"id":1,"name":"n"}');
  INSERT INTO settings VALUES ('policy', '{}');
  INSERT INTO log VALUES (1, 5, 'root', 'user.create', 'user:1', NULL);
  PRAGMA user_version = 1;`;

test("ST-8 a database of version 1 becomes one of now, whole, and takes what only now can be said", async () => {
  const file = newFile();
  const old = new DatabaseSync(file);
  old.exec(VERSION_1);
  old.close();
  for (let opened = 0; opened < 2; opened++) {
    const store = await SqliteCoordinationStore.open(file);
    const { users, authKeys, nodes, settings } = await store.load();
    expect(users).toMatchObject([{ login: "ada@example.com", displayName: "Ada" }]);
    expect(authKeys).toMatchObject([{ id: "k", uses: 1, lastUsed: 9 }]);
    expect(nodes).toEqual([{ id: 1, name: "n" }]);
    expect(settings).toEqual(new Map([["policy", "{}"]]));
    expect(await store.log({ limit: 9 })).toHaveLength(1);
    const identity = { issuer: "https://id.example", subject: "ada" };
    await store.commit([{ put: "user", value: { ...users[0]!, identity } }]);
    expect((await store.load()).users).toMatchObject([{ identity }]);
    await store.close();
  }
});

test("ST-8 killed at each statement of a migration, it is the old version or the new one", () => {
  const statements = MIGRATIONS[1]!.split(";").filter((text) => text.trim() !== "");
  for (let done = 0; done <= statements.length; done++) {
    const file = newFile();
    const database = new DatabaseSync(file);
    database.exec(`${VERSION_1} PRAGMA journal_mode = WAL; BEGIN IMMEDIATE;`);
    for (const statement of statements.slice(0, done)) database.exec(statement);
    // What a kill leaves on the disk: the files as they are, without an orderly end.
    const left = newFile();
    for (const ending of ["", "-wal"]) if (existsSync(file + ending)) copyFileSync(file + ending, left + ending);
    database.close();
    const found = new DatabaseSync(left);
    expect(found.prepare("PRAGMA user_version").get()).toEqual({ user_version: 1 });
    expect(found.prepare("SELECT count(*) AS columns FROM pragma_table_info('users')").get()).toEqual({ columns: 3 });
    found.close();
  }
});

test("ST-1 kill -9 loses nothing that was acknowledged, and tears no commit", { timeout: 60_000 }, async () => {
  const file = newFile();
  const storeModule = new URL("../../src/coordination/store/sqlite-store.ts", import.meta.url).href;
  const script = `
    const { SqliteCoordinationStore } = await import(${JSON.stringify(storeModule)});
    const store = await SqliteCoordinationStore.open(${JSON.stringify(file)});
    let n = Number((await store.load()).settings.get("x") ?? 0);
    for (;;) {
      n++;
      await store.commit(["x", "y"].map((name) => ({ put: "setting", name, value: String(n) })));
      process.stdout.write(n + "\\n");
    }`;
  let acknowledged = 0;
  for (let round = 0; round < 10; round++) {
    const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const lines = createInterface({ input: child.stdout });
    let left = 3 + round * 7;
    lines.on("line", (line) => {
      acknowledged = Number(line);
      if (--left === 0) child.kill("SIGKILL");
    });
    await once(child, "close");
    const store = await SqliteCoordinationStore.open(file);
    const { settings } = await store.load();
    expect(settings.get("x")).toBe(settings.get("y"));
    expect(Number(settings.get("x"))).toBeGreaterThanOrEqual(acknowledged);
    await store.close();
  }
  expect(acknowledged).toBeGreaterThan(100);
});
