import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";

const root = path.resolve(import.meta.dirname, "..");
const read = (file: string): string => readFileSync(path.join(root, file), "utf8");

interface Manifest {
  readonly scripts: Readonly<Record<string, string>>;
  readonly dependencies: Readonly<Record<string, string>>;
  readonly optionalDependencies: Readonly<Record<string, string>>;
  readonly devDependencies: Readonly<Record<string, string>>;
}

interface Locked {
  readonly version?: string;
  readonly resolved?: string;
  readonly integrity?: string;
  readonly dev?: boolean;
  readonly link?: boolean;
  readonly hasInstallScript?: boolean;
}

const manifest = JSON.parse(read("package.json")) as Manifest;
const lock = JSON.parse(read("package-lock.json")) as { lockfileVersion: number; packages: Record<string, Locked> };
const installed = Object.entries(lock.packages).filter(([name]) => name !== "");
const direct = { ...manifest.dependencies, ...manifest.optionalDependencies };

describe("supply chain", () => {
  test("SC-1 few direct dependencies, each with its reason, none of them of a foreign place", () => {
    expect(Object.keys(direct).length).toBeLessThanOrEqual(20);
    const reasons = read("docs/dependencies.md");
    expect(Object.keys(direct).filter((name) => !reasons.includes(`\`${name}\``))).toEqual([]);
    const specifiers = Object.entries({ ...direct, ...manifest.devDependencies });
    expect(specifiers.filter(([, version]) => !/^\d+\.\d+\.\d+(-[\w.]+)?$/.test(version))).toEqual([]);
    const foreign = installed.filter(([, { resolved, link }]) => {
      return link === true || (resolved !== undefined && !resolved.startsWith("https://registry.npmjs.org/"));
    });
    expect(foreign).toEqual([]);
  });

  test("SC-1 nothing that users install runs a script of its own", () => {
    const scripted = installed.filter(([, { hasInstallScript, dev }]) => hasInstallScript === true && dev !== true);
    expect(scripted.map(([name]) => name)).toEqual([]);
    const ours = Object.keys(manifest.scripts).filter((name) => /^(pre|post)?(install|prepare|prepublish)/.test(name));
    expect(ours).toEqual([]);
  });

  test("SC-2 installs are frozen, hashed and without scripts", () => {
    expect(lock.lockfileVersion).toBe(3);
    const { dependencies = {}, ...rest } = lock.packages[""] as Partial<Manifest>;
    expect(dependencies).toEqual(manifest.dependencies);
    expect([rest.optionalDependencies, rest.devDependencies]).toEqual([
      manifest.optionalDependencies,
      manifest.devDependencies,
    ]);
    expect(installed.filter(([, { integrity }]) => !integrity?.startsWith("sha512-")).map(([name]) => name)).toEqual(
      [],
    );
    expect(read(".npmrc")).toMatch(/^ignore-scripts=true$/m);
    const installs = [...read("scripts/with-node.mjs").matchAll(/run\("npm", \["(\w+)"/g)].map(([, word]) => word);
    expect(installs).toContain("ci");
    expect(read(".gitignore")).not.toMatch(/package-lock/);
  });

  test("SC-3 a new version of a package waits for seven days", () => {
    // Not in .npmrc: `npm ci` would refuse a reviewed exception that is in the lock file already.
    expect(manifest.scripts["update"]).toMatch(/^npm update\b.*--min-release-age=7\b/);
    const others = Object.entries(manifest.scripts).filter(([, line]) => /npm (i|install|add|update)\b/.test(line));
    expect(others.map(([name]) => name)).toEqual(["update"]);
  });

  test("SC-9 no file of ours holds a live secret", (context) => {
    const { status, stdout } = spawnSync("git", ["ls-files", "-z"], { cwd: root, encoding: "utf8" });
    if (status !== 0) context.skip("this is no git checkout");
    const files = stdout.split("\0").filter((file) => file !== "" && existsSync(path.join(root, file)));
    expect(files.length).toBeGreaterThan(300);
    // Keys of services, and PEM bodies; the word alone stands in code that makes keys.
    const secret =
      /tskey-[a-z]+-\w+-\w{12,}|gh[pousr]_\w{36}|github_pat_\w{22}|AKIA[0-9A-Z]{16}|npm_\w{36}|xox[baprs]-[\w-]{10}|PRIVATE KEY-----\\?n?\s*[A-Za-z0-9+/]{32}/;
    expect(files.filter((file) => secret.test(readFileSync(path.join(root, file), "latin1")))).toEqual([]);
  });

  test("SC-4 no known hole of high or critical weight in what users install", { timeout: 30_000 }, (context) => {
    const words = ["audit", "--omit=dev", "--json", "--fetch-retries=0", "--fetch-timeout=8000"];
    const { stdout } = spawnSync("npm", words, { cwd: root, encoding: "utf8", timeout: 25_000 });
    const report = JSON.parse(stdout.trim() || "{}") as { vulnerabilities?: Record<string, Hole> };
    const holes = report.vulnerabilities ?? context.skip("the registry answers no audit from here");
    const weighty = Object.values(holes).filter(({ severity }) => /^(high|critical)$/.test(severity));
    expect(weighty.map(({ name }) => name).filter((name) => !isExcepted(name))).toEqual([]);
  });
});

interface Hole {
  readonly name: string;
  readonly severity: string;
}

/** Named in docs/dependencies.md as "exception until 2026-12-31: `name` because …". */
function isExcepted(name: string): boolean {
  const lines = read("docs/dependencies.md").matchAll(/exception until (\d{4}-\d{2}-\d{2}): `([^`]+)`/g);
  return [...lines].some(([, until, excepted]) => excepted === name && Date.parse(until!) > Date.now());
}
