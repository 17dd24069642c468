import { link, mkdir, open, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import path from "node:path";
import type { Clock } from "../../base/clock.ts";
import { Fault } from "../../base/fault.ts";
import { ownFolder } from "../../base/own-folder.ts";
import type { Random } from "../../base/random.ts";
import { type CertificateStore, checkedPath, checkedValue, type Lease } from "./certificate-store.ts";
import { FileLease, FileLocks } from "./file-lock.ts";

const PREVIOUS = ".previous";
const SCRATCH = ".new";
/** Of a process that was killed while it wrote; none writes that long. */
const SCRATCH_LIFE_MS = 86_400_000;

export interface FileCertificateStoreOptions {
  readonly clock: Clock;
  readonly random: Random;
}

/**
 * A store in one folder (0700), a file (0600) a path, plain PEM and JSON: other programs may read it. Written beside,
 * flushed and renamed, so that a crash leaves the old or the new value; the value before is kept as `<file>.previous`.
 */
export async function fileCertificateStore(
  folder: string,
  options: FileCertificateStoreOptions,
): Promise<CertificateStore> {
  const { clock, random } = options;
  await guarded("open", folder, async () => {
    await ownFolder(folder);
    await removeOldScratch(folder, clock.wall() - SCRATCH_LIFE_MS);
  });
  const locks = new FileLocks(path.join(folder, "locks"), options);
  const fileOf = (name: string): string => path.join(folder, checkedPath(name));
  const heldBy = (lease: Lease | undefined) => async (): Promise<void> => {
    if (lease instanceof FileLease) await lease.check();
  };
  return {
    read: async (name) => guarded("read", fileOf(name), readOrNone),
    previous: async (name) => guarded("read", fileOf(name) + PREVIOUS, readOrNone),
    write: async (name, value, lease) =>
      guarded("write", fileOf(name), (file) =>
        replace(file, checkedValue(name, value), `${Buffer.from(random(6)).toString("hex")}${SCRATCH}`, heldBy(lease)),
      ),
    delete: async (name, lease) =>
      guarded("delete", fileOf(name), async (file) => {
        await heldBy(lease)();
        await rm(file, { force: true });
        await rm(file + PREVIOUS, { force: true });
        await syncFolder(path.dirname(file));
      }),
    list: (prefix) => guarded("list", folder, () => walk(folder, prefix)),
    lock: async (name, signal) => locks.acquire(checkedPath(name), signal),
    async close() {},
  };
}

async function readOrNone(file: string): Promise<Uint8Array | undefined> {
  try {
    return new Uint8Array(await readFile(file));
  } catch (error) {
    if (hasCode(error, "ENOENT")) return undefined;
    throw error;
  }
}

async function replace(file: string, value: Uint8Array, ending: string, stillHeld: () => Promise<void>): Promise<void> {
  const before = await readOrNone(file);
  if (before !== undefined && Buffer.compare(before, value) === 0) return stillHeld();
  const scratch = `${file}.${ending}`;
  await mkdir(path.dirname(file), { recursive: true, mode: 0o700 });
  try {
    const handle = await open(scratch, "wx", 0o600);
    try {
      await handle.writeFile(value);
      await handle.sync();
    } finally {
      await handle.close();
    }
    if (before !== undefined) await keepPrevious(file, before, `${file}${PREVIOUS}.${ending}`);
    await stillHeld();
    await rename(scratch, file);
  } catch (error) {
    await rm(scratch, { force: true }).catch(() => undefined);
    throw error;
  }
  await syncFolder(path.dirname(file));
}

/** At every moment there is a value before: a second name of the old file takes the place of the one before that. */
async function keepPrevious(file: string, value: Uint8Array, scratch: string): Promise<void> {
  try {
    await link(file, scratch);
  } catch (error) {
    if (hasCode(error, "ENOENT")) return;
    const handle = await open(scratch, "wx", 0o600); // a file system without hard links
    await handle.writeFile(value).finally(() => handle.close());
  }
  await rename(scratch, file + PREVIOUS);
}

/** The rename itself is durable only once the folder is. */
async function syncFolder(folder: string): Promise<void> {
  try {
    const handle = await open(folder, "r");
    await handle.sync().finally(() => handle.close());
  } catch (error) {
    if (!hasCode(error, "ENOENT")) throw error;
  }
}

async function walk(folder: string, prefix: string): Promise<string[]> {
  const at = path.join(folder, prefix.includes("/") ? checkedPath(prefix.slice(0, prefix.lastIndexOf("/"))) : "");
  const entries = await readdir(at, { recursive: true, withFileTypes: true }).catch((error: unknown) => {
    if (hasCode(error, "ENOENT")) return [];
    throw error;
  });
  return entries
    .filter((entry) => entry.isFile() && !entry.name.endsWith(PREVIOUS) && !entry.name.endsWith(SCRATCH))
    .map((entry) => path.relative(folder, path.join(entry.parentPath, entry.name)).split(path.sep).join("/"))
    .filter((name) => name.startsWith(prefix) && !name.startsWith("locks/"))
    .sort();
}

async function removeOldScratch(folder: string, before: number): Promise<void> {
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    const file = path.join(entry.parentPath, entry.name);
    if (!entry.isFile() || !entry.name.endsWith(SCRATCH)) continue;
    const found = await stat(file).catch(() => undefined);
    if (found !== undefined && found.mtimeMs < before) await rm(file, { force: true });
  }
}

const hasCode = (error: unknown, code: string): boolean => (error as NodeJS.ErrnoException | null)?.code === code;

async function guarded<T>(action: string, file: string, work: (file: string) => Promise<T>): Promise<T> {
  try {
    return await work(file);
  } catch (error) {
    if (error instanceof Fault) throw error;
    throw new Fault("CERT_STORE_FAILED", `Cannot ${action} "${file}": ${(error as Error).message}`, {
      cause: error,
      hint: "The folder must belong to the user that runs sallyport, and its disk must have room.",
    });
  }
}
