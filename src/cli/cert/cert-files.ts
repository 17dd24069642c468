import { randomBytes } from "node:crypto";
import { open, readFile, rename, rm } from "node:fs/promises";
import type { CliIo } from "../io.ts";

/** Whole or not at all: another program may read it at any moment. The result: was it new. */
export async function writeIfChanged(
  file: string,
  content: string | Uint8Array,
  mode: number,
  io: CliIo,
): Promise<boolean> {
  if (file === "-") {
    io.stdout(String(content));
    return false;
  }
  const old = await readFile(file).catch(() => undefined);
  if (old?.equals(Buffer.from(content))) return false;
  const scratch = `${file}.${randomBytes(6).toString("hex")}.new`;
  const handle = await open(scratch, "wx", mode);
  try {
    await handle.writeFile(content);
    await handle.chmod(mode); // whatever the umask is
    await handle.sync();
    await handle.close();
    await rename(scratch, file);
  } catch (error) {
    await handle.close().catch(() => {});
    await rm(scratch, { force: true });
    throw error;
  }
  return true;
}
