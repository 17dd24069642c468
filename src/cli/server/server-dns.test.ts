import { expect, test } from "vitest";
import { askedServer } from "../../../test/suites/asked-server.ts";
import { Screen } from "../../../test/suites/typed-command.ts";
import type { DnsSettings } from "../../coordination/dns-settings.ts";
import { dns } from "./server-dns.ts";

const SETTINGS: DnsSettings = {
  magicDns: true,
  nameservers: ["1.1.1.1"],
  override: true,
  split: { "corp.example": ["10.0.0.53"], "lab.example": [] },
  search: [],
  records: [{ name: "db.tail.test", type: "A", value: "10.1.2.3" }],
};

async function run(command: string, isTerminal = false) {
  const { asked, client } = askedServer(SETTINGS);
  const screen = new Screen({ isTerminal });
  const words = command.split(" ").filter((word) => word !== "");
  const status = await dns({}, words, client, screen.io);
  return { status, stdout: screen.stdout, asked };
}

test.each([
  ["nameservers 1.1.1.1,9.9.9.9", { nameservers: ["1.1.1.1", "9.9.9.9"] }],
  ["nameservers none", { nameservers: [] }],
  ["override on", { override: true }],
  ["magic off", { magicDns: false }],
  ["search a.example,b.example", { search: ["a.example", "b.example"] }],
  ["split corp.example 10.0.0.53,10.0.0.54", { split: { "corp.example": ["10.0.0.53", "10.0.0.54"] } }],
  ["split lab.example none", { split: { "lab.example": [] } }],
  ["split corp.example off", { split: { "corp.example": null } }],
  ["record add db.tail.test 10.1.2.3", { addRecords: [{ name: "db.tail.test", value: "10.1.2.3" }] }],
  ["record remove db.tail.test", { removeRecords: [{ name: "db.tail.test" }] }],
  ["record remove db.tail.test 10.1.2.3", { removeRecords: [{ name: "db.tail.test", value: "10.1.2.3" }] }],
])("sallyport server dns %s", async (command, change) => {
  const { status, asked, stdout } = await run(command);
  expect([status, asked]).toEqual([0, [["dns.set", change]]]);
  expect(JSON.parse(stdout)).toEqual(SETTINGS);
});

test.each(["", "show"])("sallyport server dns %s shows what is in force", async (command) => {
  const { stdout, asked } = await run(command, true);
  expect(asked).toEqual([["dns.get", undefined]]);
  expect(stdout).toBe(`WHAT                 VALUE
MagicDNS             on
name servers         1.1.1.1 (override)
search domains       -
split corp.example   10.0.0.53
split lab.example    -
record db.tail.test  A 10.1.2.3
`);
});

test.each(["x", "nameservers", "split a", "record add a", "record", "record change a b", "show all", "search a b"])(
  "%s is no command",
  async (command) => {
    expect((await run(command)).status).toBeUndefined();
  },
);

test("a switch is on or off", async () => {
  await expect(run("override yes")).rejects.toThrow("wanted on or off");
});
