import { globSync, readFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";

const root = path.resolve(import.meta.dirname, "..");
const doc = path.join(root, "docs/reliability.md");
const ROW = /^\| ([A-Z][A-Z0-9]-\d+) \| (.*) \| (in part|not yet) \|$/gm;

/** IDs that stand in the tests: whoever removes a test takes its row back too. */
function testedRows(): ReadonlySet<string> {
  const files = ["src/**/*.test.ts", "test/**/*.test.ts", "test/suites/*.ts", "examples/**/*.test.ts"].flatMap(
    (pattern) => globSync(pattern, { cwd: root }),
  );
  const text = files
    .filter((file) => !file.endsWith("reliability.test.ts"))
    .map((file) => readFileSync(path.join(root, file), "utf8"))
    .join("\n");
  return new Set(text.match(/\b[A-Z][A-Z0-9]-\d+\b/g));
}

// `vitest run test/reliability.test.ts -u` writes it anew.
test("docs/reliability.md says of every row whether a test bears its ID", async () => {
  const tested = testedRows();
  const counts = { "in part": 0, "not yet": 0 };
  const text = readFileSync(doc, "utf8")
    .replace(ROW, (_, id: string, row: string) => {
      const state = tested.has(id) ? "in part" : "not yet";
      counts[state]++;
      return `| ${id} | ${row} | ${state} |`;
    })
    .replace(/^\d+ rows in part, \d+ not yet\.$/m, `${counts["in part"]} rows in part, ${counts["not yet"]} not yet.`);
  expect(counts["in part"] + counts["not yet"]).toBe(234);
  await expect(text).toMatchFileSnapshot(doc);
});
