import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll } from "vitest";

/** A folder that is gone at the end: of the file or group of tests that asks, or of one test by its `onTestFinished`. */
export function scratchFolder(atEnd: (end: () => void) => void = afterAll): string {
  const folder = mkdtempSync(path.join(tmpdir(), "sp-"));
  atEnd(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}
