import { spawnSync } from "node:child_process";
import path from "node:path";
import { expect, test } from "vitest";

const root = path.resolve(import.meta.dirname, "..");

test("the demo's tour holds from end to end: two people, a forged header, a tagged machine, a stranger", {
  timeout: 60_000,
}, () => {
  const { status, stdout } = spawnSync(
    process.execPath,
    ["--disable-warning=ExperimentalWarning", path.join(root, "src/bin.ts"), "demo", "--once"],
    { encoding: "utf8", timeout: 50_000 },
  );
  expect(stdout).toContain("Every step held");
  expect(stdout).not.toContain("✗");
  expect(status).toBe(0);
});
