import { readFileSync } from "node:fs";
import path from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { idleGateway } from "../../test/suites/local-gateway.ts";
import { scratchFolder } from "../../test/suites/scratch.ts";
import { Screen } from "../../test/suites/typed-command.ts";
import { silentLog } from "../base/log.ts";
import { openLocalApi } from "../gateway/localapi/index.ts";
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

test("a program that refused to begin kept to itself what to do about it", async () => {
  const screen = new Screen();
  expect(await main(["ingress"], screen.io)).toBe(2);
  expect(screen.stderr).toBe(
    "Cannot relay without a coordination server: wanted --login-server URL\nFor example --login-server https://mesh.example.com\n",
  );
});

test("docs/cli.md tells of every flag of serve and funnel", () => {
  const flags = [serveUsage("serve"), serveUsage("funnel")].flatMap((text) => text.match(/--[a-z-]+/g) ?? []);
  expect([...new Set(flags)].filter((flag) => !GUIDE.includes(flag))).toEqual([]);
});

test("who may not change anything was told so, and not what to do", async () => {
  const socketPath = path.join(scratchFolder(), "s.sock");
  const api = await openLocalApi({
    ...{ socketPath, backend: idleGateway, log: silentLog },
    credentials: () => ({ pid: 1, uid: 65_534, gid: 65_534 }),
  });
  onTestFinished(() => api.close());
  const said = async (uid: number, ...words: readonly string[]): Promise<string> => {
    const screen = new Screen({ uid });
    expect(await main(["--socket", socketPath, ...words], screen.io)).toBe(1);
    return screen.stderr;
  };
  const denied = "sending serve config: Access denied: serve config denied\n";
  const advice = (line: string): string =>
    `\nUse 'sudo sallyport ${line}'.\nTo not require root, use 'sudo sallyport set --operator=$USER' once.\n`;
  expect(await said(1000, "serve", "reset")).toBe(`${denied}${advice(`--socket ${socketPath} serve reset`)}`);
  expect(await said(0, "serve", "reset")).toBe(denied);
  expect(await said(1000, "up", "--auth-key", "sp-auth-secret")).toContain(advice("…"));
});
