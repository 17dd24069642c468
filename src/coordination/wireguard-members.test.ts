import { describe, expect, test } from "vitest";
import { FakeClock } from "../base/clock.ts";
import { silentLog } from "../base/log.ts";
import { seededRandom } from "../base/random.ts";
import type { MapRequest, MapResponse } from "../wire/tailcfg.ts";
import { Coordinator } from "./coordinator.ts";
import { compilePolicy } from "./policy/policy.ts";
import { MemoryCoordinationStore } from "./store/memory-store.ts";
import type { WireGuardMemberRequest } from "./wireguard-members.ts";

const DAY_MS = 86_400_000;
const hex = (seed: number): string => seed.toString(16).padStart(64, "0");
const never = new AbortController().signal;
const keyOf = (seed: number): string => Buffer.from(hex(seed), "hex").toString("base64");

/** Two nodes, `gw` and `other`, of which `gw` has reported `endpoints`. */
async function start(endpoints: readonly string[] = ["192.0.2.1:41641"]) {
  const clock = new FakeClock();
  const coordinator = await Coordinator.open({
    store: new MemoryCoordinationStore(),
    clock,
    random: seededRandom(3),
    log: silentLog,
    serverUrl: "https://control.example",
    baseDomain: "tail.test",
    derpMap: () => ({ Regions: {} }),
    policy: compilePolicy(""),
  });
  const told: MapResponse[] = [];
  const map = (i: number, request: Partial<MapRequest>) =>
    coordinator.map(
      `mkey:${hex(i)}`,
      { Version: 142, NodeKey: `nodekey:${hex(i)}`, ...request },
      { closed: never, end: () => undefined, send: (message) => told.push(message) > 0 },
    );
  await coordinator.createUser({ login: "ada@example.com" }, "test");
  const { key } = await coordinator.createAuthKey({ tags: ["tag:gw"], reusable: true }, "test");
  for (const [i, Hostname] of [
    [1, "gw"],
    [2, "other"],
  ] as const) {
    await coordinator.register(
      `mkey:${hex(i)}`,
      { Version: 142, NodeKey: `nodekey:${hex(i)}`, Hostinfo: { Hostname }, Auth: { AuthKey: key } },
      never,
    );
  }
  await map(1, { OmitPeers: true, Endpoints: [...endpoints] });
  const settle = async (ms: number) => {
    for (let i = 0; i < 20; i++) await Promise.resolve();
    clock.advance(ms);
    for (let i = 0; i < 20; i++) await Promise.resolve();
  };
  const add = (more: Partial<WireGuardMemberRequest> = {}) =>
    coordinator.addWireGuardMember(
      { name: "phone", user: "ada@example.com", gateways: ["gw"], publicKey: keyOf(9), ...more },
      "root",
    );
  return { coordinator, add, map, settle, told };
}

describe("adding a device with plain WireGuard", () => {
  test.each([
    [["10.0.0.1:1", "192.0.2.1:2", "[2001:db8::1]:3"], "192.0.2.1:2"],
    [["10.0.0.1:1", "[2001:db8::1]:3"], "[2001:db8::1]:3"],
    [["[fd00::1]:3", "192.168.1.1:2", "127.0.0.1:1"], "192.168.1.1:2"],
    [["100.64.9.9:1", "172.16.0.1:2", "172.32.0.1:3"], "172.32.0.1:3"],
    [["127.0.0.1:1"], "127.0.0.1:1"],
  ])("of %j the device is led to %s", async (endpoints, chosen) => {
    const { add } = await start(endpoints);
    const { carriers, node } = await add();
    expect(carriers).toEqual([
      { name: "gw", publicKey: keyOf(1), endpoint: chosen, addresses: ["100.64.0.1", "fd7a:115c:a1e0::1"] },
    ]);
    expect(node.expires! - node.created).toBe(180 * DAY_MS);
  });

  test.each([
    ["no gateway", { gateways: [] }, "COORDINATION_WIREGUARD_GATEWAY"],
    ["a gateway that is none", { gateways: ["nobody"] }, "COORDINATION_NODE_UNKNOWN"],
    ["a gateway whose port is not known", { gateways: ["other"] }, "COORDINATION_WIREGUARD_ENDPOINT"],
    ["an endpoint without port", { endpoints: { gw: "vpn.example.com" } }, "COORDINATION_ARGUMENT"],
    ["an endpoint with a newline", { endpoints: { gw: "a:1\nPostUp = x" } }, "COORDINATION_ARGUMENT"],
    ["port 0", { endpoints: { gw: "a.example:0" } }, "COORDINATION_ARGUMENT"],
    ["port 65536", { endpoints: { gw: "a.example:65536" } }, "COORDINATION_ARGUMENT"],
    ["a user who is none", { user: "eve@example.com" }, "COORDINATION_USER_UNKNOWN"],
    ["no key", { publicKey: "" }, "COORDINATION_WIREGUARD_KEY"],
    ["the zero key", { publicKey: keyOf(0) }, "COORDINATION_WIREGUARD_KEY"],
    ["a key of 31 bytes", { publicKey: keyOf(9).slice(4) }, "COORDINATION_WIREGUARD_KEY"],
    ["the key of a node", { publicKey: keyOf(2) }, "COORDINATION_CONFLICT"],
    ["a life of eleven years", { expiryMs: 11 * 365 * DAY_MS }, "COORDINATION_ARGUMENT"],
    ["a life that is over", { expiryMs: -1 }, "COORDINATION_ARGUMENT"],
  ])("%s is refused, and nothing is kept", async (_what, wrong, code) => {
    const { coordinator, add } = await start();
    await expect(async () => add(wrong)).rejects.toMatchObject({ code });
    expect(coordinator.nodes()).toHaveLength(2);
    await add();
  });

  test("a name of one's own, an endpoint by name, and several gateways", async () => {
    const { coordinator, add } = await start();
    const { carriers } = await add({ gateways: ["gw", "100.64.0.2", 1], endpoints: { 2: "vpn.example.com:7" } });
    expect(carriers.map(({ name, endpoint }) => [name, endpoint])).toEqual([
      ["gw", "192.0.2.1:41641"],
      ["other", "vpn.example.com:7"],
    ]);
    const { node } = await add({ publicKey: keyOf(10) });
    expect(node.name).toBe("phone-1");
    await expect(add({ gateways: ["phone"], publicKey: keyOf(11) })).rejects.toMatchObject({
      code: "COORDINATION_WIREGUARD_GATEWAY",
    });
    await expect(coordinator.removeWireGuardMember("gw", "root")).rejects.toMatchObject({
      code: "COORDINATION_WIREGUARD_NONE",
    });
    expect(JSON.stringify(await coordinator.adminLog())).toContain("phone of ada@example.com via gw, other");
  });

  test("a member never speaks to the server, and leaves its gateway's map when its time is over", async () => {
    const { coordinator, add, map, settle, told } = await start();
    const { node } = await add({ expiryMs: DAY_MS });
    expect(coordinator.isKnownNodeKey(node.nodeKey), "the relay").toBe(false);
    await expect(map(9, { Stream: true })).rejects.toMatchObject({ code: "COORDINATION_KEY_FOREIGN" });
    void map(1, { Stream: true });
    await settle(300);
    expect(told[0]!.Peers).toEqual(
      expect.arrayContaining([expect.objectContaining({ ID: node.id, IsWireGuardOnly: true })]),
    );
    told.length = 0;
    await settle(DAY_MS);
    await settle(300);
    expect(told.flatMap(({ PeersRemoved }) => PeersRemoved ?? [])).toEqual([node.id]);
  });
});
