import { describe, expect, test } from "vitest";
import { mkey, peersOf, type Recorder, type RigOptions, start } from "../../test/suites/coordination-rig.ts";
import type { MapResponse } from "../wire/tailcfg.ts";
import { compilePolicy } from "./policy/policy.ts";

const POLICY = compilePolicy(`{
  "tagOwners": {"tag:host": [], "tag:other": []},
  "autoApprovers": {"services": {"svc:web": ["tag:host"]}},
  "grants": [{"src": ["ada@example.com"], "dst": ["svc:web"], "ip": ["tcp:443"]}],
}`);
const WEB = { Name: "svc:web", Ports: ["tcp:443"], Active: true };

/** Ada (1) and Bob (2), and two machines with a tag (3 and 4), all with streams. */
async function scene(more: RigOptions = {}) {
  const rig = await start({ policy: POLICY, ...more });
  const { coordinator, ask, join, poll, settle } = rig;
  await join(1, "ada@example.com");
  await join(2, "bob@example.com");
  const { key } = await coordinator.createAuthKey({ tags: ["tag:host"], reusable: true }, "root");
  for (const seed of [3, 4]) await ask(seed, { Auth: { AuthKey: key } });
  const streams = new Map<number, Recorder & { done: Promise<void> }>();
  for (const seed of [1, 2, 3, 4]) streams.set(seed, await poll(seed));
  /** What a node was asked since it was last looked at. */
  const asked = (seed: number) =>
    streams
      .get(seed)!
      .messages.flatMap(({ PingRequest }) => PingRequest ?? [])
      .map(({ URL, Payload }) => ({
        path: new globalThis.URL(URL).pathname,
        request: Buffer.from(Payload ?? "", "base64").toString(),
      }));
  const reply = (path: string, body: unknown, machine: number) =>
    coordinator.other(
      mkey(machine),
      "POST",
      path,
      `HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n${JSON.stringify(body)}`,
    );
  /** Node `seed` hosts these services: it says so, and answers when it is asked. */
  const host = async (seed: number, hash: string, services: unknown) => {
    await rig.lite(seed, { Hostinfo: { Hostname: `host-${seed}`, ServicesHash: hash } });
    const { path } = asked(seed).at(-1)!;
    await reply(path, { VIPServices: services, ServicesHash: hash }, seed);
    await settle(1000);
  };
  const last = <T>(seed: number, find: (message: MapResponse) => T | null | undefined): T | undefined =>
    streams
      .get(seed)!
      .messages.map(find)
      .findLast((found) => found != null) ?? undefined;
  const shown = (seed: number, id: number) => peersOf(streams.get(seed)!.messages).findLast(({ ID }) => ID === id);
  const names = (seed: number) =>
    (last(seed, ({ DNSConfig }) => DNSConfig)?.ExtraRecords ?? []).map(({ Name }) => Name);
  const serviceHost = (seed: number) => last(seed, ({ Node }) => Node)?.CapMap?.["service-host"];
  return { ...rig, streams, asked, reply, host, last, shown, names, serviceHost };
}

test("CS-17 who hosts an approved service proves its name too, and nobody else does", async () => {
  const { coordinator, host, last } = await scene({ setTxt: async () => {} });
  await coordinator.createService("svc:web", "root");
  await coordinator.createService("svc:db", "root");
  await host(3, "h1", [WEB, { ...WEB, Name: "svc:db" }]);
  expect(last(3, ({ DNSConfig }) => DNSConfig?.CertDomains)).toEqual(["host-3.tail.test", "web.tail.test"]);
  const set = async (seed: number, name: string) => {
    const { nodeKey } = coordinator.nodes().find(({ machineKey }) => machineKey === mkey(seed))!;
    const record = { NodeKey: nodeKey, Name: `_acme-challenge.${name}`, Type: "TXT", Value: "v" };
    return (await coordinator.other(mkey(seed), "POST", "/machine/set-dns", record)).status;
  };
  expect(await set(3, "web.tail.test")).toBe(200);
  // Told by the node, but approved by nobody; hosted by another.
  expect([await set(3, "db.tail.test"), await set(4, "web.tail.test")]).toEqual([403, 403]);
  expect(["web.tail.test", "db.tail.test", "x.tail.test"].map((name) => coordinator.mayHaveCertificate(name))).toEqual([
    true,
    true,
    false,
  ]);
});

test("a node that hosts a service gets its addresses, who may reach it a route and a name, all others nothing", async () => {
  const { coordinator, host, shown, names, serviceHost, last, settle } = await scene();
  const { ipv4, ipv6 } = await coordinator.createService("svc:web", "root");
  expect([ipv4, ipv6]).toEqual(["100.64.0.5", "fd7a:115c:a1e0::5"]);
  await host(3, "h1", [WEB]);
  expect(serviceHost(3)).toEqual([{ "svc:web": [ipv4, ipv6] }]);
  expect(last(3, ({ PacketFilters }) => PacketFilters)!["base"]).toMatchObject([
    {
      SrcIPs: ["100.64.0.1", "fd7a:115c:a1e0::1"],
      DstPorts: [{ IP: ipv4, Ports: { First: 443, Last: 443 } }, { IP: ipv6 }],
    },
  ]);
  expect(shown(1, 3)).toMatchObject({ AllowedIPs: expect.arrayContaining([`${ipv4}/32`, `${ipv6}/128`]) });
  expect(shown(1, 3)).not.toHaveProperty("PrimaryRoutes");
  expect(names(1)).toEqual(["web.tail.test", "web.tail.test"]);
  expect([shown(2, 3), names(2)]).toEqual([undefined, []]);
  expect(coordinator.services()).toMatchObject([
    { name: "svc:web", hosts: [{ node: "host-3", ports: ["tcp:443"], isActive: true, isApproved: true }] },
  ]);
  await host(3, "h2", [{ ...WEB, Active: false }]);
  expect([serviceHost(3), names(1)]).toEqual([undefined, []]);
  await host(3, "h3", [WEB]);
  expect(names(1)).toHaveLength(2);
  await coordinator.deleteService("svc:web", "root");
  await settle(1000);
  expect([serviceHost(3), names(1)]).toEqual([undefined, []]);
});

test("of two hosts one carries the service, and the other one when that is gone", async () => {
  const { coordinator, host, shown, streams, settle } = await scene();
  const { ipv4 } = await coordinator.createService("svc:web", "root");
  const carriers = () => [3, 4].filter((id) => shown(1, id)?.AllowedIPs?.includes(`${ipv4}/32`));
  await host(3, "h1", [WEB]);
  await host(4, "h1", [WEB]);
  expect(carriers()).toEqual([3]);
  streams.get(3)!.hangUp();
  await streams.get(3)!.done;
  await settle(10_000);
  await settle(1000);
  expect(carriers()).toEqual([4]);
});

test("what the policy does not approve by itself waits for an administrator; revoked is gone", async () => {
  const { coordinator, host, serviceHost, settle } = await scene();
  await host(3, "h1", [{ ...WEB, Name: "svc:db" }, WEB]);
  expect(coordinator.services()).toMatchObject([
    { name: "svc:db", ipv4: "" },
    { name: "svc:web", ipv4: "" },
  ]);
  await coordinator.createService("svc:db", "root");
  await coordinator.createService("svc:web", "root");
  await settle(1000);
  expect(Object.keys(serviceHost(3)![0] as object)).toEqual(["svc:web"]);
  await coordinator.approveHost("svc:db", 3, true, "root");
  await settle(1000);
  expect(Object.keys(serviceHost(3)![0] as object)).toEqual(["svc:db", "svc:web"]);
  await coordinator.approveHost("svc:db", 3, false, "root");
  await settle(1000);
  expect(Object.keys(serviceHost(3)![0] as object)).toEqual(["svc:web"]);
});

describe("questions to nodes", () => {
  test("a node is asked when its hash is news, once, also when it was away at the time", async () => {
    const { asked, host, lite, poll, reply, streams } = await scene();
    await host(3, "h1", [WEB]);
    expect(asked(3)).toMatchObject([{ request: "GET /vip-services HTTP/1.1\r\nHost: c2n\r\n\r\n" }]);
    await lite(3, { Hostinfo: { Hostname: "host-3", ServicesHash: "h1" } });
    expect(asked(3)).toHaveLength(1);
    streams.get(3)!.hangUp();
    await streams.get(3)!.done;
    await lite(3, { Hostinfo: { Hostname: "host-3", ServicesHash: "h2" } });
    const again = await poll(3);
    const [ping] = again.messages.flatMap(({ PingRequest }) => PingRequest ?? []);
    expect(again.messages[0]).toHaveProperty("Node");
    expect(await reply(new URL(ping!.URL).pathname, { VIPServices: [] }, 3)).toEqual({ status: 200 });
  });

  test("a node that does not answer is asked again while it has a stream", async () => {
    const { asked, coordinator, lite, reply, settle, streams } = await scene();
    await lite(3, { Hostinfo: { Hostname: "host-3", ServicesHash: "h1" } });
    for (let i = 0; i < 36; i++) await settle(1000);
    expect(asked(3)).toHaveLength(2);
    await reply(asked(3)[1]!.path, { VIPServices: [WEB] }, 3);
    for (let i = 0; i < 60; i++) await settle(1000);
    expect(asked(3)).toHaveLength(2);
    expect(coordinator.services()).toMatchObject([{ name: "svc:web", hosts: [{ node: "host-3" }] }]);
    await lite(4, { Hostinfo: { Hostname: "host-4", ServicesHash: "h1" } });
    streams.get(4)!.hangUp();
    for (let i = 0; i < 60; i++) await settle(1000);
    expect(asked(4)).toHaveLength(1);
  });

  test("CS-3 an answer counts once, from the node that was asked, and in time", async () => {
    const { asked, clock, coordinator, lite, reply } = await scene();
    await lite(3, { Hostinfo: { Hostname: "host-3", ServicesHash: "h1" } });
    const { path } = asked(3)[0]!;
    expect((await reply(path, { VIPServices: [WEB] }, 4)).status).toBe(404);
    expect((await reply(`${path}0`, { VIPServices: [WEB] }, 3)).status).toBe(404);
    expect((await reply(path, { VIPServices: [WEB] }, 3)).status).toBe(200);
    expect((await reply(path, { VIPServices: [] }, 3)).status).toBe(404);
    await lite(4, { Hostinfo: { Hostname: "host-4", ServicesHash: "h1" } });
    clock.advance(30_000);
    expect((await reply(asked(4)[0]!.path, { VIPServices: [WEB] }, 4)).status).toBe(404);
    expect(coordinator.services()).toMatchObject([{ name: "svc:web", hosts: [{ node: "host-3" }] }]);
  });

  test.each([
    ["no response", "{}"],
    ["a refusal", "HTTP/1.1 404 Not Found\r\n\r\n{}"],
    ["no end of the head", 'HTTP/1.1 200 OK\r\n{"VIPServices":[]}'],
    ["no JSON", "HTTP/1.1 200 OK\r\n\r\n<html>"],
    ["another shape", 'HTTP/1.1 200 OK\r\n\r\n{"VIPServices":{"Name":"svc:web"}}'],
    ["an object", {}],
  ])("CS-15 %s teaches nothing", async (_, body) => {
    const { asked, coordinator, lite, settle } = await scene();
    await lite(3, { Hostinfo: { Hostname: "host-3", ServicesHash: "h1" } });
    expect((await coordinator.other(mkey(3), "POST", asked(3)[0]!.path, body)).status).toBe(200);
    await settle(1000);
    expect(coordinator.services()).toEqual([]);
  });

  test("CS-15 of what a node tells, services with a name are kept, 64 at most", async () => {
    const { coordinator, host } = await scene();
    const names = ["svc:ok", "ok", "svc:", "svc:-a", "svc:A", "svc:a.b", 5, null, "__proto__"];
    const many = Array.from({ length: 100 }, (_, i) => ({ Name: `svc:s${i}`, Ports: null, Active: true }));
    await host(3, "h1", [...names.map((Name) => ({ Name, Ports: [5, "tcp:1"], Active: "yes" })), null, 7]);
    expect(coordinator.services().map(({ name, hosts }) => [name, hosts])).toEqual([
      ["svc:ok", [{ node: "host-3", ports: ["tcp:1"], isActive: false, isApproved: false }]],
    ]);
    await host(3, "h2", many);
    expect(coordinator.services()).toHaveLength(64);
  });
});

test("CS-2, CS-11 a service's addresses and name are nobody else's", async () => {
  const { coordinator, join } = await scene();
  await expect(coordinator.createService("svc:host-1", "root")).rejects.toThrow("a node or record is called host-1");
  await expect(coordinator.createService("web", "root")).rejects.toThrow("no name for one");
  const { ipv4 } = await coordinator.createService("svc:host-9", "root");
  await expect(coordinator.createService("svc:host-9", "root")).rejects.toThrow("it is there");
  const node = await join(9, "ada@example.com");
  expect(node.name).toBe("host-9-1");
  expect(node.ipv4).not.toBe(ipv4);
  await coordinator.deleteService("svc:host-9", "root");
  expect((await join(10, "ada@example.com")).ipv4).not.toBe(ipv4);
});
