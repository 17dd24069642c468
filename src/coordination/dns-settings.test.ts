import { describe, expect, test } from "vitest";
import { start } from "../../test/suites/coordination-rig.ts";
import { changedDns, DEFAULT_DNS, type DnsChange, sharedDnsConfig } from "./dns-settings.ts";
import { Ledger } from "./ledger.ts";
import { MemoryCoordinationStore } from "./store/memory-store.ts";

const told = (...changes: readonly DnsChange[]) => {
  const { Routes, ...config } = sharedDnsConfig(changes.reduce(changedDns, DEFAULT_DNS), "tail.test");
  const routes = Object.fromEntries(Object.entries(Routes ?? {}).filter(([zone]) => !zone.endsWith(".arpa")));
  return { ...config, routes };
};
const PLAIN = { Domains: ["tail.test"], Proxied: true, routes: {} };

describe("what nodes are told", () => {
  test.each<[string, readonly DnsChange[], object]>([
    ["nothing said", [], PLAIN],
    [
      "name servers stand in",
      [{ nameservers: ["1.1.1.1", "[2606:4700::1111]:53"] }],
      { ...PLAIN, FallbackResolvers: [{ Addr: "1.1.1.1" }, { Addr: "[2606:4700::1111]:53" }] },
    ],
    [
      "or take over",
      [{ nameservers: ["1.1.1.1"] }, { override: true }],
      { ...PLAIN, Resolvers: [{ Addr: "1.1.1.1" }] },
    ],
    ["override without a name server is nothing", [{ override: true }], PLAIN],
    [
      "split domains, one answered by records alone",
      [{ split: { "Corp.Example.": ["10.0.0.53"], "lab.example": [] } }],
      { ...PLAIN, routes: { "corp.example": [{ Addr: "10.0.0.53" }], "lab.example": [] } },
    ],
    ["a split domain goes", [{ split: { "a.example": ["10.0.0.53"] } }, { split: { "a.example": null } }], PLAIN],
    [
      "search domains come after the own",
      [{ search: ["Corp.example", "tail.test"] }],
      { ...PLAIN, Domains: ["tail.test", "corp.example"] },
    ],
    [
      "a record, and a way to it where no zone leads there",
      [
        {
          addRecords: [
            { name: "App.example.", value: "10.1.2.3" },
            { name: "app.example", value: "fd00::1" },
          ],
        },
      ],
      {
        ...PLAIN,
        ExtraRecords: [
          { Name: "app.example", Type: "A", Value: "10.1.2.3" },
          { Name: "app.example", Type: "AAAA", Value: "fd00::1" },
        ],
        routes: { "app.example": [] },
      },
    ],
    [
      "a record in the network's own zone, and in a split one, needs no way of its own",
      [
        {
          split: { "corp.example": ["10.0.0.53"] },
          addRecords: [
            { name: "db.tail.test", value: "10.1.2.3" },
            { name: "x.corp.example", value: "10.1.2.4" },
          ],
        },
      ],
      {
        ...PLAIN,
        ExtraRecords: [
          { Name: "db.tail.test", Type: "A", Value: "10.1.2.3" },
          { Name: "x.corp.example", Type: "A", Value: "10.1.2.4" },
        ],
        routes: { "corp.example": [{ Addr: "10.0.0.53" }] },
      },
    ],
    [
      "records go one by one, or all of a name",
      [
        { addRecords: ["10.1.2.3", "10.1.2.3", "10.1.2.4"].map((value) => ({ name: "a.tail.test", value })) },
        {
          addRecords: [
            { name: "b.tail.test", value: "10.1.2.3" },
            { name: "b.tail.test", value: "10.1.2.4" },
          ],
        },
        { removeRecords: [{ name: "a.tail.test", value: "10.1.2.4" }, { name: "b.tail.test" }] },
      ],
      { ...PLAIN, ExtraRecords: [{ Name: "a.tail.test", Type: "A", Value: "10.1.2.3" }] },
    ],
    ["no MagicDNS", [{ magicDns: false }], { Domains: ["tail.test"], routes: {} }],
  ])("%s", (_, changes, wanted) => {
    expect(told(...changes)).toEqual(wanted);
  });
});

test.each<[DnsChange, string]>([
  [{ nameservers: ["dns.example"] }, 'Cannot use resolver "dns.example"'],
  [{ nameservers: ["tls://1.1.1.1"] }, "Cannot use resolver"],
  [{ nameservers: new Array<string>(17).fill("1.1.1.1") }, "Cannot use name servers"],
  [{ split: { "": ["1.1.1.1"] } }, 'Cannot use name ""'],
  [{ split: { "a..b": ["1.1.1.1"] } }, "Cannot use name"],
  [{ split: { "a\nb": [] } }, "Cannot use name"],
  [{ split: { "none.example": null } }, "Cannot use split domain"],
  [{ search: ["-x.example"] }, "Cannot use name"],
  [{ addRecords: [{ name: "a.example", value: "b.example" }] }, "clients know no other records"],
  [{ addRecords: [{ name: `${"a.".repeat(127)}b`, value: "10.0.0.1" }] }, "Cannot use name"],
  [{ removeRecords: [{ name: "a.example" }] }, 'Cannot use record "a.example"'],
  [
    { addRecords: Array.from({ length: 2001 }, (_, i) => ({ name: `r${i}.example`, value: "10.0.0.1" })) },
    "Cannot use records",
  ],
])("%j is refused", (change, message) => {
  expect(() => changedDns(DEFAULT_DNS, change)).toThrow(message);
});

describe("in a running network", () => {
  test("a change is a delta of its own within a second, is there after a restart, and says who made it", async () => {
    const store = new MemoryCoordinationStore();
    const { coordinator, join, poll, settle } = await start({ store });
    await join(1, "ada@example.com");
    const one = await poll(1);
    one.take();
    await coordinator.changeDns({ split: { "corp.example": ["10.0.0.53"] } }, "root");
    await settle(1000);
    const [delta, ...rest] = one.take();
    expect([Object.keys(delta!), rest]).toEqual([["DNSConfig", "ControlTime"], []]);
    expect(delta!.DNSConfig!.Routes).toMatchObject({ "corp.example": [{ Addr: "10.0.0.53" }] });
    expect(await coordinator.adminLog({ limit: 1 })).toMatchObject([{ by: "root", action: "dns.set" }]);
    expect((await Ledger.open(store)).settings.get("dns")).toContain("corp.example");
  });

  test("CS-11 a record never takes the name of a node, nor a node that of a record", async () => {
    const { coordinator, join, lite } = await start();
    await join(1, "ada@example.com");
    const record = (name: string) => coordinator.changeDns({ addRecords: [{ name, value: "10.0.0.1" }] }, "root");
    await expect(record("Host-1.tail.test.")).rejects.toThrow("a name that no node has");
    await record("host-2.tail.test");
    await record("db.tail.test");
    expect((await join(2, "bob@example.com")).name).toBe("host-2-1");
    await lite(1, { Hostinfo: { Hostname: "db" } });
    expect(coordinator.node(1)?.name).toBe("db-1");
    await expect(coordinator.renameNode(1, "db", "root")).rejects.toThrow("a DNS record has it");
  });
});
