import { globSync, readFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";

const root = path.resolve(import.meta.dirname, "..");
const doc = path.join(root, "docs/reliability.md");
const STATES = ["in full", "in part", "not yet"] as const;
const ROW = new RegExp(String.raw`^\| ([A-Z][A-Z0-9]-\d+) \| (.*) \| (${STATES.join("|")}) \|$`, "gm");
const SUMMARY = new RegExp(`^${STATES.map((state) => String.raw`\d+ (?:rows )?${state}`).join(", ")}[.]$`, "m");
/** A row of the last section: what was seen, and by which command. */
const SEEN = /^\| ([A-Z][A-Z0-9]-\d+) \| .* \| .*`.+`.* \|$/gm;

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
test("docs/reliability.md says of every row whether a test bears its ID, and whether it was seen in full", async () => {
  const tested = testedRows();
  const counts = { "in full": 0, "in part": 0, "not yet": 0 };
  const document = readFileSync(doc, "utf8");
  const [rows = "", seen = ""] = document.split("\n## Seen in full\n");
  expect(rows.match(SEEN), "what was seen stands in the last section").toBeNull();
  const whole = new Set(Array.from(seen.matchAll(SEEN), ([, id = ""]) => id));
  const text = document
    .replace(ROW, (_, id: string, row: string) => {
      const state = !tested.has(id) ? "not yet" : whole.has(id) ? "in full" : "in part";
      counts[state]++;
      return `| ${id} | ${row} | ${state} |`;
    })
    .replace(SUMMARY, () => {
      const [full, part, not] = STATES.map((state) => `${counts[state]} ${state}`);
      return `${full?.replace(" ", " rows ")}, ${part}, ${not}.`;
    });
  expect(counts["in full"] + counts["in part"] + counts["not yet"]).toBe(234);
  for (const id of whole) expect(tested, "a row in full has a test that bears its ID").toContain(id);
  await expect(text).toMatchFileSnapshot(doc);
});
