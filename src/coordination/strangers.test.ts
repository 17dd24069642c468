import { describe, expect, test } from "vitest";
import { mkey, nodeKey, peersOf, Recorder, start } from "../../test/suites/coordination-rig.ts";
import { seededRandom } from "../base/random.ts";
import type { MapRequest, RegisterRequest } from "../wire/tailcfg.ts";
import { statusOfFault } from "./control-handler.ts";
import { compilePolicy } from "./policy/policy.ts";

const codeOf = (asked: Promise<unknown>): Promise<string> =>
  asked.then(
    () => "answered",
    (thrown: { code: string }) => thrown.code,
  );

describe("CS-3 over the channel of another machine", () => {
  test.each<[string, Partial<MapRequest>]>([
    ["a stream", { Stream: true }],
    ["a read-only stream", { Stream: true, ReadOnly: true }],
    ["one whole map", {}],
    ["one read-only map", { ReadOnly: true }],
    ["an update", { OmitPeers: true, Endpoints: ["192.0.2.66:1"] }],
  ])("%s of a node is 401, and not a byte of a map", async (_what, request) => {
    const { coordinator, join } = await start();
    await join(1, "ada@example.com");
    await join(2, "bob@example.com");
    for (const machine of [2, 3]) {
      const sink = new Recorder();
      const asked = coordinator.map(mkey(machine), { Version: 142, NodeKey: nodeKey(1), ...request }, sink);
      expect(statusOfFault(await codeOf(asked))).toBe(401);
      expect(sink.messages).toEqual([]);
    }
    expect(coordinator.node(1)?.endpoints).toEqual([]);
  });

  test.each([
    ["POST", "set-dns"],
    ["PATCH", "set-device-attr"],
    ["POST", "feature/query"],
    ["POST", "audit-log"],
  ])("%s %s in a node's name is 401, in the name of none 404", async (method, path) => {
    const { coordinator, join } = await start({ setTxt: async () => undefined });
    await join(1, "ada@example.com");
    const ask = (key: number) => coordinator.other(mkey(2), method, `/machine/${path}`, { NodeKey: nodeKey(key) });
    expect(statusOfFault(await codeOf(ask(1)))).toBe(401);
    expect(statusOfFault(await codeOf(ask(9)))).toBe(404);
  });

  test("a registration, a renewal and a logout with a node's key are 401; its key as the old one takes nothing over", async () => {
    const { coordinator, ask, join } = await start();
    const before = await join(1, "ada@example.com");
    const { key } = await coordinator.createAuthKey({ user: "ada@example.com", reusable: true }, "root");
    for (const request of [{}, { Auth: { AuthKey: key } }, { Expiry: "1970-01-01T00:02:03Z" }]) {
      expect(statusOfFault(await codeOf(ask(1, request, 2)))).toBe(401);
    }
    expect(await ask(2, { OldNodeKey: nodeKey(1), Auth: { AuthKey: key } })).toMatchObject({ Error: "" });
    expect(coordinator.node(1)).toEqual(before);
    expect(coordinator.node(2)?.ipv4).not.toBe(before.ipv4);
  });
});

describe("CS-7 limits", () => {
  test("the latest stream of a node wins, and there is never a second", async () => {
    const { join, poll } = await start();
    await join(1, "ada@example.com");
    const streams = [];
    for (let i = 0; i < 10; i++) streams.push(await poll(1));
    expect(streams.map(({ ended }) => ended)).toEqual([...new Array<boolean>(9).fill(true), false]);
  });

  test("64 endpoints, and a description of 64 KiB at most", async () => {
    const { coordinator, join, lite } = await start();
    await join(1, "ada@example.com");
    const Endpoints = Array.from({ length: 200 }, (_, i) => `192.0.2.1:${1000 + i}`);
    await lite(1, { Endpoints });
    expect(coordinator.node(1)?.endpoints).toEqual(Endpoints.slice(0, 64));
    const filled = (length: number) => ({ Hostname: "host-1", OS: "x".repeat(length) });
    const overhead = JSON.stringify(filled(0)).length;
    await lite(1, { Hostinfo: filled(65_536 - overhead) });
    expect(coordinator.node(1)?.hostinfo.OS).toHaveLength(65_536 - overhead);
    await lite(1, { Hostinfo: filled(65_537 - overhead) });
    expect(coordinator.node(1)?.hostinfo.OS).toHaveLength(65_536 - overhead);
  });

  test("eight waiting logins of one machine push out its own oldest, nobody else's", async () => {
    const { coordinator, ask } = await start();
    await ask(1);
    for (let seed = 2; seed < 30; seed++) await ask(seed, {}, 2);
    const waiting = coordinator.pendingLogins().map((login) => login.nodeKey);
    expect(waiting).toEqual([1, ...Array.from({ length: 8 }, (_, i) => 22 + i)].map(nodeKey));
  });
});

test("CS-11 500 names: each node has one of its own, a sound one, for good, and every map goes out", async () => {
  const { coordinator, ask, lite, poll } = await start();
  const random = seededRandom(11);
  const { key } = await coordinator.createAuthKey({ user: "ada@example.com", reusable: true }, "root");
  const bases = [
    "web",
    "Web",
    "web-1",
    "web.local",
    "",
    "-",
    "…",
    "ẞtraße",
    "a\u0000b",
    "x".repeat(63),
    "x".repeat(400),
  ];
  const claims = Array.from({ length: 500 }, (_, i) => {
    const letters = Array.from(random(1 + (random(1)[0]! % 12)), (byte) => String.fromCodePoint(byte * (i % 7)));
    return i % 3 === 0 ? letters.join("") : bases[i % bases.length]!;
  });
  for (const [i, Hostname] of claims.entries()) {
    expect(await ask(i + 1, { Auth: { AuthKey: key }, Hostinfo: { Hostname } })).toMatchObject({ Error: "" });
  }
  const names = coordinator.nodes().map(({ name }) => name);
  expect(new Set(names).size).toBe(500);
  for (const name of names) expect(name).toMatch(/^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/);
  // All of them claim the first one's name, and a restart changes nobody's.
  const [first] = names;
  for (let i = 2; i <= 500; i++) await lite(i, { Hostinfo: { Hostname: claims[0]! } });
  expect(coordinator.node(1)?.name).toBe(first);
  const inOrder = () => coordinator.nodes().toSorted((a, b) => a.id - b.id);
  const settled = inOrder().map(({ name }) => name);
  expect(new Set(settled).size).toBe(500);
  for (let i = 2; i <= 500; i++) await lite(i, { Hostinfo: { Hostname: claims[0]! } });
  expect(inOrder().map(({ name }) => name)).toEqual(settled);
  const shown = peersOf((await poll(1)).take()).map(({ Name }) => Name);
  expect(shown).toEqual(settled.slice(1).map((name) => `${name}.tail.test.`));
}, 30_000);

test("CS-12 a user goes with 20 keys and nodes, and of 20 others nothing changes", async () => {
  const { coordinator, join } = await start();
  const logins = Array.from({ length: 21 }, (_, i) => `u${i}@example.com`);
  for (const login of logins) await coordinator.createUser({ login }, "root");
  for (let i = 0; i < 420; i++) await join(i + 1, logins[i % 21]!);
  await coordinator.createAuthKey({ tags: ["tag:web"] }, "root");
  const gone = coordinator.users().find(({ login }) => login === "u7@example.com")!.id;
  const others = () => ({
    users: coordinator.users().filter(({ id }) => id !== gone),
    keys: coordinator.authKeys().filter(({ userId }) => userId !== gone),
    nodes: coordinator.nodes().filter(({ userId }) => userId !== gone),
  });
  const before = others();
  await coordinator.deleteUser("u7@example.com", "root");
  expect(others()).toEqual(before);
  expect([coordinator.authKeys().length, coordinator.nodes().length]).toEqual([401, 400]);
});

describe("CS-15 100 requests that bring more than they may", () => {
  const policy = compilePolicy(`{
    "tagOwners": {"tag:web": ["group:none"]}, "groups": {"group:none": ["nobody@example.com"]},
    "autoApprovers": {"routes": {"10.9.0.0/16": ["bob@example.com"]}},
    "attrConfig": {"custom:x": {}},
    "acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}],
  }`);
  const wishes: Readonly<Record<string, unknown>> = {
    ID: 1,
    id: 1,
    StableID: "1",
    User: 1,
    UserID: 1,
    userId: 1,
    Login: { ID: 1, LoginName: "ada@example.com" },
    LoginName: "ada@example.com",
    Role: "owner",
    role: "owner",
    Roles: ["admin"],
    IsAdmin: true,
    Tags: ["tag:web"],
    tags: ["tag:web"],
    ForcedTags: ["tag:web"],
    Owner: "ada@example.com",
    Sharer: 1,
    KeyExpiry: "2999-01-01T00:00:00Z",
    expires: null,
    MachineAuthorized: true,
    isUnapproved: false,
    Expired: false,
    Addresses: ["100.64.0.1/32"],
    AllowedIPs: ["0.0.0.0/0"],
    PrimaryRoutes: ["10.1.0.0/16"],
    ApprovedRoutes: ["10.1.0.0/16"],
    approvedRoutes: ["10.1.0.0/16"],
    Name: "ada.tail.test.",
    name: "host-1",
    nameFixed: true,
    Capabilities: ["https://tailscale.com/cap/is-admin"],
    CapMap: { funnel: [] },
    attributes: { "custom:x": 1 },
    ephemeral: false,
    gateways: [1],
    IsWireGuardOnly: true,
    UnsignedPeerAPIOnly: true,
    authKeyId: "x",
    preapproved: true,
  };

  test("nothing of it is taken, in whatever request and place", async () => {
    const { coordinator, ask, clock, join, lite, settle } = await start({ policy });
    await join(1, "ada@example.com");
    await coordinator.setDeviceApproval(true, "root");
    const { key } = await coordinator.createAuthKey({ user: "bob@example.com", ephemeral: true }, "root");
    await ask(2, { Auth: { AuthKey: key } });
    const routes = ["10.1.0.0/16", "10.9.1.0/24", "0.0.0.0/0", "::/0"];
    await lite(2, { Hostinfo: { Hostname: "host-2", RoutableIPs: routes } });
    const own = () => {
      const {
        hostinfo: _told,
        advertisedRoutes: _asked,
        servedRoutes: _served,
        capability,
        ...kept
      } = coordinator.node(2)!;
      return { ...kept, capability: capability > 0 };
    };
    const before = own();
    expect(before).toMatchObject({ userId: 2, tags: [], ephemeral: true, isUnapproved: true });
    expect(before.approvedRoutes).toEqual(["10.9.1.0/24"]);
    const users = coordinator.users();
    const hostinfo = { Hostname: "host-2", RoutableIPs: routes };
    const sink = new Recorder();
    const requests: ((extra: object) => Promise<unknown>)[] = [
      (extra) => ask(2, extra as Partial<RegisterRequest>),
      (extra) => ask(2, { Auth: { AuthKey: key }, Hostinfo: { ...hostinfo, ...extra } } as Partial<RegisterRequest>),
      (extra) => ask(2, { Auth: { AuthKey: key, ...extra } } as Partial<RegisterRequest>),
      (extra) => lite(2, extra as Partial<MapRequest>),
      (extra) => lite(2, { Hostinfo: { ...hostinfo, ...extra } } as Partial<MapRequest>),
      (extra) => lite(2, { Node: extra, Self: extra } as Partial<MapRequest>),
      (extra) =>
        coordinator.other(mkey(2), "PATCH", "/machine/set-device-attr", { NodeKey: nodeKey(2), Update: extra }),
      (extra) => coordinator.other(mkey(2), "POST", "/machine/audit-log", { NodeKey: nodeKey(2), ...extra }),
    ];
    let tries = 0;
    for (const [i, name] of Object.keys(wishes).entries()) {
      for (let turn = 0; turn < 3; turn++) {
        // One wish, two, or all at once; none overwrites what finds the node.
        const more = Object.keys(wishes)[(i * 7 + 3) % Object.keys(wishes).length]!;
        const extra =
          turn === 0 ? { [name]: wishes[name] } : turn === 1 ? { [name]: wishes[name], [more]: wishes[more] } : wishes;
        await requests[(i + turn) % requests.length]!(extra);
        tries++;
        expect(own(), `${name}, try ${tries}`).toEqual(before);
      }
    }
    expect(tries).toBeGreaterThanOrEqual(100);
    expect(coordinator.users()).toEqual(users);
    void coordinator.map(mkey(2), { Version: 142, NodeKey: nodeKey(2), Stream: true, ...wishes }, sink);
    await settle(1000);
    const { MachineAuthorized, CapMap } = sink.take()[0]!.Node!;
    expect([MachineAuthorized, Object.keys(CapMap ?? {}).filter((cap) => /admin|owner|funnel/.test(cap))]).toEqual([
      undefined,
      [],
    ]);
    expect(clock.wall()).toBeLessThan(before.expires!);
  });
});
