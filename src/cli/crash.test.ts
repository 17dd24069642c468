import { spawnSync } from "node:child_process";
import path from "node:path";
import { describe, expect, test } from "vitest";

const here = import.meta.dirname;

function run(source: string) {
  const imports = ["crash.ts", "program-log.ts"].map((file) => JSON.stringify(path.join(here, file)));
  const program = `import { exitOnCrash } from ${imports[0]}; import { programLog } from ${imports[1]};
    exitOnCrash(programLog()); ${source}; setTimeout(() => {}, 10_000);`;
  return spawnSync(process.execPath, ["--input-type=module", "-e", program], { encoding: "utf8", timeout: 20_000 });
}

describe("PR-9 a fault that nobody caught ends the program with one line", () => {
  test.each([
    ["thrown", 'setTimeout(() => { throw new Error("no such thing") })'],
    ["rejected", 'Promise.reject(new Error("no such thing"))'],
    [
      "an error event without listener",
      'new (await import("node:events")).default().emit("error", new Error("no such thing"))',
    ],
  ])("%s", (_, source) => {
    const { status, stderr } = run(source);
    expect(status).toBe(70);
    const lines = stderr.trim().split("\n");
    expect(lines).toHaveLength(1);
    expect(JSON.parse(lines[0]!)).toMatchObject({ msg: "process.crashed", error: "no such thing" });
  });
});
