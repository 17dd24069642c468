import { chmod, mkdir, stat } from "node:fs/promises";

/** A folder that its owner alone may look into. On a read-only file system one that is so already is good as it is. */
export async function ownFolder(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const { mode } = await stat(folder);
  if ((mode & 0o7777) !== 0o700) await chmod(folder, 0o700);
}
