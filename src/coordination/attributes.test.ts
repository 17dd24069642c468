import { describe, expect, test } from "vitest";
import { mkey, nodeKey, peersOf, start } from "../../test/suites/coordination-rig.ts";
import { compilePolicy } from "./policy/policy.ts";

const POLICY = compilePolicy(`{
  "postures": {"posture:good": ["custom:tier == 'prod'", "node:tsVersion >= '1.90'"]},
  "attrConfig": {
    "custom:tier": {"type": "string", "allowSetByNode": true},
    "custom:any": {"allowSetByNode": true},
    "custom:score": {"type": "number"},
  },
  "grants": [{"src": ["ada@example.com"], "dst": ["bob@example.com"], "ip": ["443"], "srcPosture": ["posture:good"]}],
}`);
const ADA = ["100.64.0.1", "fd7a:115c:a1e0::1"];

async function scene() {
  const rig = await start({ policy: POLICY });
  const Hostinfo = { Hostname: "host-1", OS: "linux", IPNVersion: "1.82.5" };
  await rig.join(1, "ada@example.com", { Hostinfo });
  await rig.join(2, "bob@example.com");
  const bob = await rig.poll(2);
  /** Sources that bob lets in after what has happened; undefined: he was told nothing. */
  const told = async () => {
    await rig.settle(1000);
    const filters = bob
      .take()
      .map((message) => message.PacketFilters)
      .filter((filter) => filter !== undefined);
    return filters.at(-1)?.["base"]?.flatMap(({ SrcIPs }) => SrcIPs);
  };
  const set = (Update: unknown, method = "PATCH", machine = 1) =>
    rig.coordinator.other(mkey(machine), method, "/machine/set-device-attr", { NodeKey: nodeKey(1), Update });
  await told();
  return { ...rig, bob, told, set, Hostinfo };
}

test("CS-10 a posture that comes to hold, or no longer does, changes the filters within a second", async () => {
  const { coordinator, lite, told, Hostinfo } = await scene();
  await coordinator.setAttributes(1, { "custom:tier": "prod" }, "root");
  expect(await told()).toBeUndefined();
  await lite(1, { Hostinfo: { ...Hostinfo, IPNVersion: "1.98.2" } });
  expect(await told()).toEqual(ADA);
  await coordinator.setAttributes(1, { "custom:tier": "test" }, "root");
  expect(await told()).toEqual([]);
  await coordinator.setAttributes(1, { "custom:tier": "prod" }, "root");
  expect(await told()).toEqual(ADA);
  await lite(1, { Hostinfo });
  expect(await told()).toEqual([]);
});

describe("set-device-attr", () => {
  test("a node sets what attrConfig leaves to nodes, and its peers feel it", async () => {
    const { coordinator, lite, set, told, Hostinfo } = await scene();
    await lite(1, { Hostinfo: { ...Hostinfo, IPNVersion: "1.98.2" } });
    expect(await set({ "custom:tier": "prod", "custom:any": 3 })).toEqual({ status: 200, body: {} });
    expect(await told()).toEqual(ADA);
    expect(coordinator.node(1)?.attributes).toEqual({ "custom:any": 3, "custom:tier": "prod" });
    expect(await coordinator.adminLog({ limit: 1 })).toMatchObject([{ by: "node:1", action: "node.attributes" }]);
    expect(await set({ "custom:tier": null })).toMatchObject({ status: 200 });
    expect(await told()).toEqual([]);
    expect(coordinator.node(1)?.attributes).toEqual({ "custom:any": 3 });
  });

  test.each<[number, string, unknown]>([
    [403, "a number of the operator", { "custom:score": 1 }],
    [403, "an attribute without a word about it", { "custom:other": "x" }],
    [403, "another type", { "custom:tier": 5 }],
    [403, "one of two", { "custom:any": 1, "custom:score": 1 }],
    [400, "a measured fact", { "node:os": "linux" }],
    [400, "what an address says", { "ip:country": "DE" }],
    [400, "a name with a space", { "custom:a b": "x" }],
    [400, "an object", { __proto__: null, "custom:any": { deep: true } }],
    [400, "a list", { "custom:any": [] }],
    [400, "a control character", { "custom:any": "line\nbreak" }],
    [400, "a long text", { "custom:any": "x".repeat(257) }],
    [400, "65 attributes", Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`custom:a${i}`, 1]))],
    [400, "nothing", undefined],
    [400, "no object", []],
  ])("CS-15 %i for %s, and nothing is set", async (status, _, update) => {
    const { coordinator, set } = await scene();
    expect((await set(update)).status).toBe(status);
    expect(coordinator.node(1)?.attributes).toBeUndefined();
  });

  test("another machine may not, nor by another method", async () => {
    const { set } = await scene();
    await expect(set({ "custom:any": 1 }, "PATCH", 2)).rejects.toMatchObject({ code: "COORDINATION_KEY_FOREIGN" });
    expect((await set({ "custom:any": 1 }, "POST")).status).toBe(404);
  });
});

describe("roles", () => {
  const policy = compilePolicy(`{
    "tagOwners": {"tag:infra": ["autogroup:admin"]},
    "nodeAttrs": [{"target": ["autogroup:admin"], "attr": ["example.com/console"]}],
    "autoApprovers": {"routes": {"10.0.0.0/8": ["autogroup:network-admin"]}},
    "grants": [{"src": ["autogroup:admin"], "dst": ["*"], "ip": ["22"]}],
  }`);

  test("CS-10 a role opens what the policy gives it, on every node of the user, and closes it again", async () => {
    const { coordinator, join, poll, settle } = await start({ policy });
    await join(1, "ada@example.com");
    await join(2, "bob@example.com");
    const [ada, bob] = [await poll(1), await poll(2)];
    const capMap = async () => {
      await settle(1000);
      return Object.keys(ada.messages.findLast(({ Node }) => Node !== undefined)!.Node!.CapMap!);
    };
    const sources = () =>
      bob.messages
        .findLast(({ PacketFilters }) => PacketFilters !== undefined)!
        .PacketFilters!["base"]!.flatMap(({ SrcIPs }) => SrcIPs);
    expect(await capMap()).not.toContain("example.com/console");
    await coordinator.setUser("ada@example.com", { role: "owner" }, "root");
    expect(await capMap()).toEqual(
      expect.arrayContaining([
        "example.com/console",
        "https://tailscale.com/cap/is-admin",
        "https://tailscale.com/cap/is-owner",
      ]),
    );
    expect(sources()).toEqual(ADA);
    expect(peersOf(bob.messages).map(({ ID }) => ID)).toContain(1);
    await coordinator.setUser("ada@example.com", { role: "auditor" }, "root");
    expect(await capMap()).not.toContain("https://tailscale.com/cap/is-admin");
    expect(sources()).toEqual([]);
    await coordinator.setUser("ada@example.com", { displayName: "Ada L." }, "root");
    expect(coordinator.users()[0]).toMatchObject({ role: "auditor", displayName: "Ada L." });
    await coordinator.setUser("ada@example.com", { role: "member" }, "root");
    expect(coordinator.users()[0]).not.toHaveProperty("role");
    await expect(coordinator.setUser("ada@example.com", { role: "root" }, "root")).rejects.toThrow("there is none");
  });

  test("who has the role may give its tags, and is an approver", async () => {
    const { coordinator, ask, join, lite } = await start({ policy });
    const { key } = await coordinator.createAuthKey({ user: "ada@example.com", reusable: true }, "root");
    const tagged = () => ask(3, { Auth: { AuthKey: key }, Hostinfo: { Hostname: "i", RequestTags: ["tag:infra"] } });
    expect((await tagged()).Error).toContain("not permitted");
    await coordinator.setUser("ada@example.com", { role: "admin" }, "root");
    expect((await tagged()).Error).toBe("");
    await coordinator.setUser("bob@example.com", { role: "network-admin" }, "root");
    const { id } = await join(2, "bob@example.com");
    await lite(2, { Hostinfo: { Hostname: "host-2", RoutableIPs: ["10.2.0.0/16"] } });
    expect(coordinator.node(id)?.servedRoutes).toEqual(["10.2.0.0/16"]);
  });
});

test("CS-10 a new policy's autoApprovers approve what was advertised before it", async () => {
  const { coordinator, join, lite } = await start({ policy: compilePolicy("{}") });
  await join(1, "ada@example.com");
  await lite(1, { Hostinfo: { Hostname: "host-1", RoutableIPs: ["10.2.0.0/16", "10.3.0.0/16"] } });
  expect(coordinator.node(1)?.servedRoutes).toEqual([]);
  const source = `{"autoApprovers": {"routes": {"10.2.0.0/15": ["ada@example.com"]}}}`;
  await coordinator.setPolicy(compilePolicy(source), source, "root");
  expect(coordinator.node(1)?.servedRoutes).toEqual(["10.2.0.0/16", "10.3.0.0/16"]);
  // What a policy approved stays approved (control-protocol §7.7).
  await coordinator.setPolicy(compilePolicy("{}"), "{}", "root");
  expect(coordinator.node(1)?.servedRoutes).toEqual(["10.2.0.0/16", "10.3.0.0/16"]);
});
