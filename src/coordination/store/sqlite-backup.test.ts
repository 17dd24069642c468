import { existsSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import { DatabaseSync } from "node:sqlite";
import { beforeEach, expect, test } from "vitest";
import { scratchFolder } from "../../../test/suites/scratch.ts";
import { restoreBackup } from "./sqlite-backup.ts";
import { SqliteCoordinationStore } from "./sqlite-store.ts";

const scratch = scratchFolder();
let file: string;
let backup: string;
let made = 0;
beforeEach(() => {
  file = path.join(scratch, `${++made}.db`);
  backup = path.join(scratch, `${made}.backup`);
});

const setting = (name: string, value: string) => ({ put: "setting", name, value }) as const;
const user = (id: number) =>
  ({ put: "user", value: { id, login: `u${id}@example.com`, displayName: "U", created: 1 } }) as const;
const keys = new Map([["noise.key", Uint8Array.from({ length: 32 }, (_, i) => i)]]);
const restore = () => restoreBackup(backup, file, 1000, "root");

async function write(...changes: Parameters<SqliteCoordinationStore["commit"]>[0][number][]): Promise<void> {
  const store = await SqliteCoordinationStore.open(file);
  await store.commit(changes);
  if (!existsSync(backup)) await store.backup(backup, keys);
  await store.close();
}

test("ST-7 ten rounds of backup under write load: each is of one moment, private, and one file", async () => {
  const store = await SqliteCoordinationStore.open(file);
  for (let round = 0; round < 10; round++) {
    const writes = Array.from({ length: 20 }, (_, i) =>
      store.commit([setting("x", `${round}-${i}`), setting("y", `${round}-${i}`)]),
    );
    const target = `${backup}${round}`;
    await Promise.all([...writes.slice(0, 10), store.backup(target, keys), ...writes.slice(10)]);
    expect(statSync(target).mode & 0o777).toBe(0o600);
    using copy = new DatabaseSync(target, { readOnly: true });
    const values = copy.prepare("SELECT value FROM settings ORDER BY name").all();
    expect(values[0]).toEqual(values[1]);
    expect(copy.prepare("PRAGMA journal_mode").get()).toEqual({ journal_mode: "delete" });
  }
  await store.close();
  expect(readdirSync(scratch).filter((name) => /part|backup\d-/.test(name))).toEqual([]);
});

test("ST-7 restore brings back what was, keeps what it replaces, and gives no number out again", async () => {
  await write(user(1), setting("nextNode", "8"), setting("addressCursor", "7"));
  await write(user(2), setting("nextNode", "9"));
  expect(restore()).toEqual({ users: 1, nodes: 0, files: keys });
  const store = await SqliteCoordinationStore.open(file);
  const { users, settings } = await store.load();
  expect(users).toHaveLength(1);
  expect(Number(settings.get("nextNode"))).toBeGreaterThan(1000);
  expect(Number(settings.get("addressCursor"))).toBeGreaterThan(1000);
  expect(await store.log({ limit: 1 })).toMatchObject([{ action: "server.restore", by: "root" }]);
  await store.close();
  const replaced = await SqliteCoordinationStore.open(`${file}.before-restore`);
  expect((await replaced.load()).users).toHaveLength(2);
  await replaced.close();
});

test("restore refuses while a server has the database, and changes nothing", async () => {
  await write(user(1));
  const running = await SqliteCoordinationStore.open(file);
  expect(restore).toThrow(expect.objectContaining({ code: "BACKUP_SERVER_RUNS" }));
  await running.commit([user(2)]);
  await running.close();
  expect(existsSync(`${file}.before-restore`)).toBe(false);
});

test("restore works over a damaged database, and keeps its bytes", async () => {
  await write(user(1));
  writeFileSync(file, "x".repeat(8192));
  expect(restore().users).toBe(1);
  expect(statSync(`${file}.before-restore`).size).toBe(8192);
});

test("ST-8 restore refuses a newer schema, damage, and what is no backup; the database stays", async () => {
  await write(user(1));
  const untouched = statSync(file).mtimeMs;
  const newer = new DatabaseSync(backup);
  newer.exec("PRAGMA user_version = 99");
  newer.close();
  expect(restore).toThrow(expect.objectContaining({ code: "COORDINATION_STORE_NEWER" }));
  for (const content of ["", "not a database", "SQLite format 3\0".padEnd(5000, "\xff")]) {
    writeFileSync(backup, content);
    expect(restore, content.slice(0, 20)).toThrow(expect.objectContaining({ code: "BACKUP_UNREADABLE" }));
  }
  rmSync(backup);
  expect(restore).toThrow(expect.objectContaining({ code: "BACKUP_UNREADABLE" }));
  expect(statSync(file).mtimeMs).toBe(untouched);
});

test("a backup never overwrites a file, and leaves no part of itself behind when it fails", async () => {
  await write(user(1));
  const store = await SqliteCoordinationStore.open(file);
  await expect(store.backup(backup, keys)).rejects.toMatchObject({ code: "BACKUP_EXISTS" });
  await expect(store.backup(path.join(scratch, "none", "x"), keys)).rejects.toMatchObject({ code: "BACKUP_FAILED" });
  await store.commit([user(2)]);
  await store.close();
});
