import { describe, expect, test } from "vitest";
import { hex, mkey, never, nodeKey, open, ownOnly, peersOf, start } from "../../test/suites/coordination-rig.ts";
import { FakeClock } from "../base/clock.ts";
import { silentLog } from "../base/log.ts";
import { seededRandom } from "../base/random.ts";
import type { MapResponse } from "../wire/tailcfg.ts";
import { Coordinator } from "./coordinator.ts";
import { compilePolicy } from "./policy/policy.ts";
import { MemoryCoordinationStore } from "./store/memory-store.ts";

describe("SSH", () => {
  const withSsh = (action: string) =>
    compilePolicy(`{"acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}],
      "ssh": [{"action": "${action}", "src": ["autogroup:member"], "dst": ["autogroup:self"], "users": ["autogroup:nonroot"]}]}`);
  const capsOf = (messages: readonly MapResponse[]) => Object.keys(messages[0]!.Node!.CapMap!);

  test("a policy without `ssh` promises nothing, and says no policy", async () => {
    const { join, poll } = await start();
    await join(1, "ada@example.com");
    const first = (await poll(1)).take();
    expect(capsOf(first).filter((name) => name.includes("ssh"))).toEqual([]);
    expect(first[0]).not.toHaveProperty("SSHPolicy");
  });

  test("rules go to their destinations, and are taken back when the policy drops them", async () => {
    const { coordinator, join, poll, settle } = await start({ policy: withSsh("accept") });
    await join(1, "ada@example.com");
    await join(2, "ada@example.com");
    await join(3, "bob@example.com");
    const one = await poll(1);
    const [first] = one.take();
    expect(capsOf([first!])).toEqual(expect.arrayContaining(["https://tailscale.com/cap/ssh-rule-in"]));
    expect(first!.SSHPolicy!.rules).toMatchObject([
      {
        principals: ["100.64.0.1", "100.64.0.2", "fd7a:115c:a1e0::1", "fd7a:115c:a1e0::2"].map((nodeIP) => ({
          nodeIP,
        })),
        sshUsers: { root: "", "*": "=" },
        action: { accept: true },
      },
    ]);
    await coordinator.setPolicy(withSsh("check"), "check", "root");
    await settle(300);
    const checked = one.take()[0]!.SSHPolicy!.rules![0]!;
    expect(String(checked.action["holdAndDelegate"])).toMatch(/^https:\/\/unused\/machine\/ssh\/action\//);
    expect(
      await coordinator.other(mkey(1), "GET", "/machine/ssh/action/1/to/2?local_user=ada", undefined),
    ).toMatchObject({
      status: 200,
      body: { reject: true },
    });
    await coordinator.setPolicy(open, "none", "root");
    await settle(300);
    expect(one.take()).toMatchObject([{ SSHPolicy: { rules: [] } }]);
  });
});

test("CS-11 names are sanitised and never taken from another node", async () => {
  const { coordinator, ask } = await start();
  const { key } = await coordinator.createAuthKey({ tags: ["tag:x"], reusable: true }, "root");
  const names = ["bad_name!", "Bad_Name", "", "!!!", "x".repeat(300), "a.local", "MacBook von Ada", "node-1"];
  for (const [i, Hostname] of names.entries()) await ask(i + 1, { Auth: { AuthKey: key }, Hostinfo: { Hostname } });
  expect(coordinator.nodes().map(({ name }) => name)).toEqual([
    "bad-name",
    "bad-name-1",
    "node",
    "node-1",
    "x".repeat(63),
    "a",
    "macbook-von-ada",
    "node-1-1",
  ]);
});

test("CS-17 a member whose host name was the server's own got its name, and could have its certificate", async () => {
  const store = new MemoryCoordinationStore();
  const before = await start({ store });
  await before.join(1, "ada@example.com", { Hostinfo: { Hostname: "Control" } });
  const ownNames = ["control.tail.test", "ns1.tail.test", "tail.test"];
  const { coordinator, join, lite } = await start({ store, ownNames, hasUsers: true });
  await join(2, "bob@example.com", { Hostinfo: { Hostname: "ns1" } });
  await join(3, "bob@example.com", { Hostinfo: { Hostname: "CONTROL.local" } });
  const names = (): readonly string[] =>
    coordinator
      .nodes()
      .map(({ name }) => name)
      .toSorted();
  expect(names()).toEqual(["control", "control-1", "ns1-1"]);
  await lite(1, { Hostinfo: { Hostname: "Control" } }); // which had it from a release that let it
  expect(names()).toEqual(["control-1", "control-2", "ns1-1"]);
  const refused = "the server itself is called so, wanted a free name";
  await expect(coordinator.renameNode(2, "ns1", "root")).rejects.toThrow(refused);
  await expect(coordinator.createService("svc:ns1", "root")).rejects.toMatchObject({ code: "COORDINATION_SERVICE" });
});

test("CS-12 deleting a user takes that user's nodes and keys only", async () => {
  const { coordinator, join } = await start();
  await join(1, "ada@example.com");
  await join(2, "bob@example.com");
  await coordinator.deleteUser("ada@example.com", "root");
  expect(coordinator.nodes().map(({ id }) => id)).toEqual([2]);
  expect(coordinator.authKeys().map(({ userId }) => userId)).toEqual([2]);
  expect(coordinator.users().map(({ login }) => login)).toEqual(["bob@example.com"]);
});

test("everything is there again after a restart, and ids go on", async () => {
  const store = new MemoryCoordinationStore();
  const { coordinator, join, lite } = await start({ store });
  await join(1, "ada@example.com");
  await lite(1, { DiscoKey: `discokey:${hex(5)}`, Endpoints: ["192.0.2.1:1"], Hostinfo: { Hostname: "renamed" } });
  await coordinator.setPolicy(ownOnly, "{}", "root");
  const before = coordinator.nodes();
  const clock = new FakeClock();
  const options = {
    store,
    clock,
    random: seededRandom(1),
    log: silentLog,
    serverUrl: "https://c.example",
    baseDomain: "tail.test",
  };
  const again = await Coordinator.open({ ...options, derpMap: () => ({ Regions: {} }), policy: ownOnly });
  expect(again.nodes()).toEqual(before);
  expect(again.policySource()).toBe("{}");
  const known = await again.register(mkey(1), { Version: 142, NodeKey: nodeKey(1) }, never);
  expect(known).toMatchObject({ MachineAuthorized: true, User: { DisplayName: "Ada" } });
  expect(await again.createUser({ login: "eve" }, "root")).toMatchObject({ id: 3 });
});

test.each([
  ["user without a login", (c: Coordinator) => c.createUser({ login: "" }, "root")],
  ["user with a line break", (c: Coordinator) => c.createUser({ login: "a\nb" }, "root")],
  ["user that exists", (c: Coordinator) => c.createUser({ login: "ada@example.com" }, "root")],
  ["key for nobody", (c: Coordinator) => c.createAuthKey({}, "root")],
  ["key with a wrong tag", (c: Coordinator) => c.createAuthKey({ tags: ["web"] }, "root")],
  ["key that expired before", (c: Coordinator) => c.createAuthKey({ user: "ada@example.com", expiryMs: -1 }, "root")],
  ["name with a dot", (c: Coordinator) => c.renameNode(1, "a.b", "root")],
  ["route with host bits", (c: Coordinator) => c.setRoutes(1, ["10.0.0.1/8"], "root")],
  ["no tags", (c: Coordinator) => c.tagNode(1, [], "root")],
])("an administrator is told what is wrong: %s", async (_what, act) => {
  const { coordinator } = await start();
  await expect(act(coordinator)).rejects.toMatchObject({ code: "COORDINATION_ARGUMENT" });
});

test("ST-6 a disk that is full fails the change that it cannot keep, and nothing else; with room again all goes on", async () => {
  const store = new (class extends MemoryCoordinationStore {
    isFull = false;
    override commit(...args: Parameters<MemoryCoordinationStore["commit"]>): Promise<void> {
      return this.isFull ? Promise.reject(new Error("ENOSPC")) : super.commit(...args);
    }
  })();
  const { coordinator, ask, join, poll, lite, settle } = await start({ store });
  await join(1, "ada@example.com");
  await join(2, "ada@example.com");
  const { key } = await coordinator.createAuthKey({ user: "ada@example.com" }, "root");
  const one = await poll(1);
  one.take();
  store.isFull = true;
  await expect(ask(3, { Auth: { AuthKey: key } })).rejects.toThrow("ENOSPC");
  await expect(lite(2, { Endpoints: ["192.0.2.1:1"] })).rejects.toThrow("ENOSPC");
  await expect(coordinator.renameNode(2, "x", "root")).rejects.toThrow("ENOSPC");
  await expect(coordinator.deleteNode(2, "root")).rejects.toThrow("ENOSPC");
  await settle(300);
  expect(one.take(), "nobody hears of what was not kept").toEqual([]);
  expect([one.ended, coordinator.node(2)?.name]).toEqual([false, "host-2"]);
  expect(await ask(1)).toMatchObject({ MachineAuthorized: true });
  store.isFull = false;
  expect(await ask(3, { Auth: { AuthKey: key } })).toMatchObject({ MachineAuthorized: true });
  await coordinator.renameNode(2, "x", "root");
  await settle(300);
  expect(peersOf(one.take()).map(({ Name }) => Name)).toEqual(expect.arrayContaining(["x.tail.test."]));
});

test("ST-9 after a logout a copy of the node's keys is worth nothing", async () => {
  const { coordinator, ask, join, poll, settle } = await start();
  await join(1, "ada@example.com");
  await join(2, "ada@example.com");
  const peer = await poll(2);
  peer.take();
  await ask(1, { Expiry: "1970-01-01T00:02:03Z" });
  expect(coordinator.isKnownNodeKey(hex(1)), "the relay").toBe(false);
  expect(await ask(1), "a login with the copy").toMatchObject({ NodeKeyExpired: true, MachineAuthorized: false });
  await settle(300);
  expect(peersOf(peer.take()), "its peers").toMatchObject([{ ID: 1, Expired: true }]);
  const [map] = (await poll(1)).take();
  expect(map, "a map with the copy").toMatchObject({ Node: { Expired: true } });
  expect(map).not.toHaveProperty("Peers");
});
