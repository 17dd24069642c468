import { readFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { Screen } from "../../test/suites/typed-command.ts";
import { main } from "./main.ts";
import { ROOT_USAGE, serveUsage } from "./usage.ts";

const COMMANDS = [...ROOT_USAGE.matchAll(/^ {2}([a-z]+) +[A-Z]/gm)].map((match) => match[1]!);
const GUIDE = readFileSync(path.resolve(import.meta.dirname, "../../docs/cli.md"), "utf8");

test.each(COMMANDS.filter((name) => name !== "help"))(
  "%s --help says how it is called, and does nothing else",
  async (name) => {
    for (const word of ["--help", "-h"]) {
      const screen = new Screen();
      expect(await main([name, word], screen.io)).toBe(0);
      expect(screen.stdout + screen.stderr).toContain(`sallyport ${name}`);
    }
    expect(GUIDE).toMatch(new RegExp(`\`(?:sallyport )?${name}\\b`));
  },
);

test.each(COMMANDS.filter((name) => name !== "help"))(
  "%s with a flag that it does not know ends with 2",
  async (name) => {
    const screen = new Screen();
    expect(await main([name, "--nope"], screen.io)).toBe(2);
    expect(screen.stdout + screen.stderr).not.toBe("");
  },
);

test("docs/cli.md tells of every flag of serve and funnel", () => {
  const flags = [serveUsage("serve"), serveUsage("funnel")].flatMap((text) => text.match(/--[a-z-]+/g) ?? []);
  expect([...new Set(flags)].filter((flag) => !GUIDE.includes(flag))).toEqual([]);
});
