import { writeFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { scratchFolder } from "../../test/suites/scratch.ts";
import { Screen } from "../../test/suites/typed-command.ts";
import { policy } from "./policy.ts";

const scratch = scratchFolder();

const GOOD = `{"tagOwners": {"tag:web": []},
  "acls": [{"action": "accept", "src": ["ada@example.com"], "dst": ["tag:web:443"]}],
  "tests": [{"src": "ada@example.com", "accept": ["tag:web:443"], "deny": ["tag:web:22"]}]}`;

async function run(text: string, ...words: string[]) {
  const file = path.join(scratch, "policy.hujson");
  writeFileSync(file, text);
  const screen = new Screen();
  const status = await policy([words[0]!, file, ...words.slice(1)], screen.io);
  return { status, stdout: screen.stdout.replaceAll(scratch, "") };
}

test("a sound policy whose tests hold", async () => {
  expect(await run(GOOD, "check")).toEqual({ status: 0, stdout: "/policy.hujson is sound.\n" });
  expect(await run(GOOD, "test")).toEqual({ status: 0, stdout: "/policy.hujson: 1 tests hold.\n" });
});

test("explain says which line, in words and as JSON; its exit status is the answer", async () => {
  expect(await run(GOOD, "explain", "ada@example.com", "tag:web:443")).toEqual({
    status: 0,
    stdout: "ada@example.com may reach tag:web:443: line 2\n",
  });
  expect(await run(GOOD, "explain", "bob@example.com", "tag:web:443")).toEqual({
    status: 1,
    stdout: "bob@example.com may not reach tag:web:443: no rule allows it\n",
  });
  const { stdout } = await run(GOOD, "explain", "ada@example.com", "tag:web:443", "--json");
  expect(JSON.parse(stdout)).toMatchObject({ isAllowed: true, allowedBy: [{ line: 2 }], capabilities: {} });
});

test.each([
  ["a test that fails", GOOD.replace('"deny": ["tag:web:22"]', '"deny": ["tag:web:443"]'), "test", "line 3"],
  ["no tests", "{}", "test", "has no tests"],
  [
    "a tag that is none",
    '{"acls": [\n{"action": "accept", "src": ["tag:x"], "dst": ["*:*"]}]}',
    "check",
    "line 2, column 30",
  ],
  ["a missing bracket", '{"acls": [', "check", "line 1"],
  ["another word", GOOD, "explode", "sallyport policy"],
])("%s is refused, and where", async (_what, text, verb, where) => {
  await expect(run(text, verb)).rejects.toThrow(where);
});
