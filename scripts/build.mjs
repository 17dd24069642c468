// Builds dist/ from nothing: what a removed source file left behind must not be packed.
import { spawnSync } from "node:child_process";
import { chmodSync, rmSync } from "node:fs";
import path from "node:path";

const root = path.resolve(import.meta.dirname, "..");
// Another folder for tests, so that they never pull dist/ from under someone who runs it.
const out = path.resolve(root, process.argv[2] ?? "dist");
if (path.relative(root, out) === "") throw new Error("the build must not replace the checkout itself");
rmSync(out, { recursive: true, force: true });
const { status } = spawnSync("tsc", ["-p", "tsconfig.build.json", "--outDir", out], { cwd: root, stdio: "inherit" });
if (status !== 0) process.exit(status ?? 1);
chmodSync(path.join(out, "bin.js"), 0o755);
