import { createHash } from "node:crypto";
import { copyFile, link, open, readFile, rename, rm } from "node:fs/promises";
import path from "node:path";
import { Fault } from "./fault.ts";
import { type Log, silentLog } from "./log.ts";
import { ownFolder } from "./own-folder.ts";
import type { Store } from "./store.ts";

const HEAD = /^sallyport-state 1 ([0-9a-f]{64}) (\d+)\n/;
const LONGEST_HEAD = 128;

/**
 * A store in one folder (0700), a file (0600) a name, replaced atomically: a crash leaves the old or the new value. Each
 * file says its length and digest, and the value before it is kept: what a disk or a file system tore is noticed, and
 * never taken for an empty beginning (matrix ST-5).
 */
export async function directoryStore(directory: string, log: Log = silentLog): Promise<Store> {
  await written(directory, () => ownFolder(directory));
  const fileOf = (name: string) => path.join(directory, encodeURIComponent(name));
  const last = new Map<string, Promise<void>>();
  return {
    get: (name) => load(fileOf(name), log),
    set(name, value) {
      // One after another: two writers of one name would share its scratch file.
      const write = (last.get(name) ?? Promise.resolve())
        .catch(() => undefined)
        .then(() => written(fileOf(name), () => save(fileOf(name), value)));
      last.set(name, write);
      const forget = () => void (last.get(name) === write && last.delete(name));
      write.then(forget, forget);
      return write;
    },
    async delete(name) {
      // The value itself goes last: while it is there nobody looks at the others.
      for (const ending of [".old", ".new", ""]) await rm(fileOf(name) + ending, { force: true });
      await syncDirectory(directory);
    },
  };
}

async function load(file: string, log: Log): Promise<Uint8Array | undefined> {
  const current = await read(file);
  if (current.kind === "value") return current.value;
  const previous = await read(`${file}.old`);
  // Never written, or deleted: a first write that was cut off leaves only its scratch file.
  if (current.kind === "none" && previous.kind === "none") return undefined;
  const scratch = await read(`${file}.new`);
  const found = current.kind === "none" ? "it is gone" : current.found;
  for (const [ending, copy] of [
    [".new", scratch],
    [".old", previous],
  ] as const) {
    if (copy.kind !== "value") continue;
    log.error("state.damaged", { file, found, used: file + ending });
    return copy.value;
  }
  throw new Fault("STATE_DAMAGED", `Cannot read state "${file}": ${found}, wanted what was written`, {
    hint: "Restore the state folder from a backup. Only if there is none, remove the file: what it held is then lost.",
  });
}

type Reading =
  | { readonly kind: "none" }
  | { readonly kind: "value"; readonly value: Uint8Array }
  | { readonly kind: "damaged"; readonly found: string };

async function read(file: string): Promise<Reading> {
  let bytes: Buffer;
  try {
    bytes = await readFile(file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return { kind: "none" };
    throw new Fault("STATE_UNREADABLE", `Cannot read state "${file}": ${(error as Error).message}`, {
      cause: error,
      hint: "The state folder must belong to the user that runs sallyport.",
    });
  }
  const head = HEAD.exec(bytes.toString("latin1", 0, LONGEST_HEAD));
  if (head === null) return { kind: "damaged", found: bytes.length === 0 ? "it is empty" : "its head is damaged" };
  const value = bytes.subarray(head[0].length);
  if (value.length !== Number(head[2])) {
    return { kind: "damaged", found: `${value.length} of ${head[2]} bytes are there` };
  }
  if (digestOf(value) !== head[1]) return { kind: "damaged", found: "its digest differs" };
  return { kind: "value", value: new Uint8Array(value) };
}

/** @throws {Fault} STATE_UNWRITABLE */
async function written(place: string, write: () => Promise<void>): Promise<void> {
  await write().catch((error: NodeJS.ErrnoException) => {
    if (error instanceof Fault) throw error;
    const hints: Readonly<Record<string, string>> = {
      ENOSPC: "The disk is full.",
      EDQUOT: "The quota of the user that runs sallyport is used up.",
      EROFS: "The file system is mounted read-only.",
    };
    throw new Fault("STATE_UNWRITABLE", `Cannot write state "${place}": ${error.message}`, {
      cause: error,
      hint: hints[error.code ?? ""] ?? "The state folder must belong to the user that runs sallyport.",
    });
  });
}

async function save(file: string, value: Uint8Array): Promise<void> {
  const scratch = `${file}.new`;
  await rm(scratch, { force: true }); // with the mode of who made it
  const handle = await open(scratch, "wx", 0o600);
  try {
    await handle.writeFile(`sallyport-state 1 ${digestOf(value)} ${value.length}\n`);
    await handle.writeFile(value);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await keepPrevious(file);
  await rename(scratch, file);
  await syncDirectory(path.dirname(file));
}

/** A damaged value is not worth keeping, and must not take the place of a sound one. */
async function keepPrevious(file: string): Promise<void> {
  if ((await read(file)).kind !== "value") return;
  await rm(`${file}.old`, { force: true });
  try {
    await link(file, `${file}.old`);
  } catch {
    await copyFile(file, `${file}.old`); // a file system without hard links
  }
}

function digestOf(value: Uint8Array): string {
  return createHash("sha256").update(value).digest("hex");
}

/** The rename itself is durable only once the folder is. */
async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
