import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { expect, onTestFinished, test } from "vitest";

const root = path.resolve(import.meta.dirname, "..");

/** The blocks of code of one language. */
function blocks(file: string, language: string): readonly string[] {
  const text = readFileSync(path.join(root, file), "utf8");
  return [...text.matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)].filter(([, name]) => name === language).map((m) => m[2]!);
}

test("the code of docs/library.md has the types it says", { timeout: 60_000 }, () => {
  const all = blocks("docs/library.md", "ts");
  expect(all.length).toBeGreaterThan(4);
  // Inside the checkout, so that the packages' types are found.
  mkdirSync(path.join(root, "node_modules/.cache"), { recursive: true });
  const folder = mkdtempSync(path.join(root, "node_modules/.cache/documents-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  all.forEach((source, i) => void writeFileSync(path.join(folder, `block-${i + 1}.mts`), source));
  const from = (file: string): string => path.join(root, "src", file);
  const paths = {
    sallyport: [from("index.ts")],
    "sallyport/identity": [from("identity/index.ts")],
    "sallyport/testnet": [from("testnet.ts")],
  };
  const config = {
    extends: path.join(root, "tsconfig.json"),
    compilerOptions: { paths, isolatedDeclarations: false, declaration: false },
    include: ["*.mts"],
  };
  writeFileSync(path.join(folder, "tsconfig.json"), JSON.stringify(config));
  const tsc = path.join(root, "node_modules/.bin/tsc");
  const { stdout } = spawnSync(tsc, ["-p", folder], { encoding: "utf8" });
  // What is wrong in src/ is told by `npm run check`.
  expect(stdout.split("\n").filter((line) => line.includes("block-"))).toEqual([]);
});
