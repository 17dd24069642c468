import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, open, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { DatabaseSync } from "node:sqlite";
import { afterAll, expect, test } from "vitest";
import { MemoryCoordinationStore } from "../../src/coordination/store/memory-store.ts";
import { SqliteCoordinationStore } from "../../src/coordination/store/sqlite-store.ts";
import { coordinationStoreSuite } from "./coordination-store.ts";

const folder = await mkdtemp(path.join(tmpdir(), "coordination-store-"));
afterAll(() => rm(folder, { recursive: true, force: true }));
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
