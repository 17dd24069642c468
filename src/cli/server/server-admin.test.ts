import { describe, expect, test } from "vitest";
import { askedServer } from "../../../test/suites/asked-server.ts";
import { Screen } from "../../../test/suites/typed-command.ts";
import { administer } from "./server-admin.ts";
import { parseServerArgs } from "./server-flags.ts";

const NODE = {
  id: 3,
  name: "web",
  ipv4: "100.64.0.3",
  tags: [],
  user: { login: "alice@example.com" },
  online: true,
  expired: false,
  expires: Date.UTC(2030, 0, 1),
  advertisedRoutes: ["10.1.0.0/16", "10.2.0.0/16"],
  servedRoutes: ["10.1.0.0/16"],
  attributes: { "custom:tier": "pr\u001bod" },
};

async function run(command: string, answer: unknown = null, isTerminal = false) {
  const { asked, client } = askedServer(answer);
  const screen = new Screen({ isTerminal });
  const { values, positionals } = parseServerArgs(command.split(" "));
  const status = await administer(values, positionals, client, screen.io);
  return { status, stdout: screen.stdout, asked };
}

describe("sallyport server", () => {
  test.each([
    ["users create a@x --name A --role admin", "users.create", { login: "a@x", displayName: "A", role: "admin" }],
    ["users role a@x member", "users.set", { login: "a@x", role: "member" }],
    ["nodes approve 3", "nodes.approve", { id: "3", user: undefined }],
    ["nodes approve abc --user a@x", "nodes.approve", { id: "abc", user: "a@x" }],
    ["nodes approval", "nodes.approval", {}],
    ["nodes approval off", "nodes.approval", { isOn: false }],
    ["nodes routes 3 none", "nodes.routes", { node: "3", routes: [] }],
    [
      'nodes attr web custom:a=text custom:b=2 custom:c=true custom:d= custom:e="2" custom:f=a=b',
      "nodes.attr",
      {
        node: "web",
        update: {
          "custom:a": "text",
          "custom:b": 2,
          "custom:c": true,
          "custom:d": null,
          "custom:e": "2",
          "custom:f": "a=b",
        },
      },
    ],
  ])("%s", async (command, verb, args) => {
    expect((await run(command)).asked).toEqual([[verb, args]]);
  });

  test("a list is a table on a terminal: what waits for approval is in brackets, what is hostile is harmless", async () => {
    const { stdout } = await run("nodes list", [NODE], true);
    expect(stdout).toBe(`ID  NAME  ADDRESS     OWNER              STATE   EXPIRES     ROUTES
3   web   100.64.0.3  alice@example.com  online  2030-01-01  10.1.0.0/16,(10.2.0.0/16)
`);
    const line = (await run("nodes attr web custom:tier=x", NODE, true)).stdout;
    expect(line).toBe(
      "web (3, 100.64.0.3) of alice@example.com: online, key until 2030-01-01, routes 10.1.0.0/16, custom:tier=pr\\u{1b}od.\n",
    );
  });

  test("a key says whose it is and whether it still lets anybody in", async () => {
    const key = { id: "k", tags: [], reusable: false, ephemeral: true, uses: 0, user: "alice@example.com" };
    const keys = [key, { ...key, uses: 1 }, { ...key, expires: 1 }, { ...key, revoked: 1, tags: ["tag:a"] }];
    const { stdout } = await run("keys list", keys, true);
    expect(stdout.split("\n").map((row) => row.split(/ {2,}/).at(-1))).toEqual([
      "STATE",
      "good",
      "used",
      "expired",
      "revoked",
      "",
    ]);
    expect(stdout).toContain("alice@example.com  once, ephemeral");
  });

  test("waiting logins can be copied from the terminal, and the log be read there", async () => {
    const login = {
      id: "ab".repeat(24),
      nodeKey: `nodekey:${"0".repeat(56)}cafe1234`,
      hostinfo: { Hostname: "lap" },
      created: 0,
    };
    const { stdout } = await run("nodes waiting", [login], true);
    expect(stdout.split("\n")[1]).toBe(`${"ab".repeat(24)}  lap     -       00000000cafe1234  1970-01-01 00:00`);
    const entry = { at: 0, by: "root", action: "node.delete", target: "node:3", detail: "web" };
    expect((await run("log", [entry], true)).stdout).toContain("1970-01-01 00:00  root  node.delete  node:3  web");
  });

  test("of claims it is shown who holds them, who waits, and what was released", async () => {
    const held = { claim: "2222", node: "web", state: "held", isOnline: false, isReleased: true };
    const waits = { claim: "a.example.org", node: "db", state: "taken", isOnline: true, isReleased: false };
    const own = { ...waits, claim: "hs.example.org", state: "ungranted", isServers: true };
    expect((await run("claims list", [own], true)).stdout).toContain("may not: it is the server's own name\n");
    expect((await run("claims list", [held, waits], true)).stdout).toBe(`CLAIM          NODE  STATE
2222           web   holds it, until another asks, offline
a.example.org  db    waits: another node holds it
`);
    const { stdout, asked } = await run("claims release 2222", held, true);
    expect(asked).toEqual([["claims.release", { claim: "2222" }]]);
    expect(stdout).toBe("2222 goes to the next node that asks; web has it until then.\n");
    const now = await run("claims release 2222", { ...held, node: "db", isReleased: false }, true);
    expect(now.stdout).toBe("db holds 2222 now.\n");
  });

  test.each([
    ["users create", "Wanted: sallyport server users create LOGIN"],
    ["users delete a b", "Wanted: sallyport server users delete LOGIN"],
    ["nodes rename 5", "Wanted: sallyport server nodes rename NODE NAME"],
    ["nodes approval maybe", "wanted on or off"],
    ["nodes attr 5 custom", "wanted NAME=VALUE"],
    ["keys create", "wanted --user LOGIN, or --tags"],
    ["keys create --user a --expiry soon", "such as 90m"],
    ["policy set /nonexistent", 'Cannot read "/nonexistent": ENOENT'],
    [
      "users frobnicate",
      "There is no `sallyport server users frobnicate`. There are:\n  sallyport server users list\n",
    ],
    ["users", "There are:"],
    ["nodes share 3 b@elsewhere", "this server is one network and knows no other"],
  ])("%s: the refusal says what is wanted", async (command, message) => {
    await expect(run(command)).rejects.toThrow(message);
  });

  test.each(["nonsense", "nonsense list", "__proto__", "toString x"])("%s is no command", async (command) => {
    expect((await run(command)).status).toBeUndefined();
  });
});
