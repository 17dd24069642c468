import { afterAll, beforeAll, expect, test } from "vitest";
import { FakeClock } from "../base/clock.ts";
import { silentLog } from "../base/log.ts";
import { seededRandom } from "../base/random.ts";
import { encodeMapFrame } from "../wire/control-map.ts";
import type { MapRequest, MapResponse } from "../wire/tailcfg.ts";
import type { MapSink } from "./control-handler.ts";
import { Coordinator } from "./coordinator.ts";
import { compilePolicy } from "./policy/policy.ts";
import { MemoryCoordinationStore } from "./store/memory-store.ts";

/** Half of them are servers, which see each other; the laptops of five of twenty people see the servers too. */
const NODES = 1000;
const PEOPLE = 20;
/** Processor time for one change: on a busy machine the clock on the wall says nothing. CS-10 allows 10 s. */
const MOST_CPU_MS = 5000;

const policy = (port: number): string => `{
  "groups": {"group:eng": ["p0@example.com", "p1@example.com", "p2@example.com", "p3@example.com", "p4@example.com"]},
  "tagOwners": {"tag:server": ["group:eng"]},
  "acls": [
    {"action": "accept", "src": ["group:eng"], "dst": ["tag:server:${port}"]},
    {"action": "accept", "src": ["autogroup:member"], "dst": ["autogroup:self:*"]},
    {"action": "accept", "src": ["tag:server"], "dst": ["tag:server:*"]},
  ],
}`;

const hex = (seed: number): string => seed.toString(16).padStart(64, "0");
const never = new AbortController().signal;
const clock = new FakeClock();
let coordinator: Coordinator;
let keys: string[];
let sent: { message: MapResponse; bytes: number }[] | undefined;

const sink = (): MapSink => ({
  closed: never,
  end: () => undefined,
  send(message) {
    sent?.push({ message, bytes: encodeMapFrame(message, "zstd").length });
    return true;
  },
});
const map = (i: number, request: Partial<MapRequest>) =>
  coordinator.map(`mkey:${hex(i)}`, { Version: 142, NodeKey: `nodekey:${hex(i)}`, ...request }, sink());
const describeSelf = (i: number, endpoint: string) =>
  map(i, {
    OmitPeers: true,
    DiscoKey: `discokey:${hex(i)}`,
    Endpoints: [endpoint, `10.0.${i >> 8}.${i & 255}:41641`],
    Hostinfo: { Hostname: `host-${i}`, OS: "linux", NetInfo: { PreferredDERP: 900 } },
  });
const join = (i: number) =>
  coordinator.register(
    `mkey:${hex(i)}`,
    {
      Version: 142,
      NodeKey: `nodekey:${hex(i)}`,
      Hostinfo: { Hostname: `host-${i}`, OS: "linux" },
      Auth: { AuthKey: i % 2 === 1 ? keys[PEOPLE]! : keys[(i / 2) % PEOPLE]! },
    },
    never,
  );

/** What one change puts on the wire, at most a second later. */
async function costOf(change: () => Promise<unknown>) {
  sent = [];
  const start = process.threadCpuUsage();
  await change();
  const due = clock.now() + 1000;
  // The clock stands still while a round is under way, so a round has one part.
  while (clock.next <= due) {
    clock.advance(clock.next - clock.now());
    await new Promise((resolve) => setImmediate(resolve));
  }
  clock.advance(due - clock.now());
  const { user, system } = process.threadCpuUsage(start);
  const messages = sent.map(({ message }) => message);
  const sizes = sent.map(({ bytes }) => bytes);
  sent = undefined;
  const kinds = new Set(messages.flatMap((message) => Object.keys(message)));
  kinds.delete("ControlTime");
  return { messages, kinds: [...kinds].toSorted(), largest: Math.max(0, ...sizes), cpuMs: (user + system) / 1000 };
}

beforeAll(async () => {
  coordinator = await Coordinator.open({
    store: new MemoryCoordinationStore(),
    clock,
    random: seededRandom(1),
    log: silentLog,
    serverUrl: "https://control.example",
    baseDomain: "tail.test",
    derpMap: () => ({ Regions: {} }),
    policy: compilePolicy(policy(22)),
  });
  keys = [];
  for (let i = 0; i < PEOPLE; i++) {
    const user = `p${i}@example.com`;
    await coordinator.createUser({ login: user }, "test");
    keys.push((await coordinator.createAuthKey({ user, reusable: true }, "test")).key);
  }
  keys.push((await coordinator.createAuthKey({ tags: ["tag:server"], reusable: true }, "test")).key);
  for (let i = 1; i <= NODES; i++) {
    await join(i);
    await describeSelf(i, `192.0.2.${i & 255}:${1024 + i}`);
  }
  for (let i = 1; i <= NODES; i++) void map(i, { Stream: true, KeepAlive: true });
  await costOf(async () => undefined);
}, 60_000);
afterAll(() => coordinator.close());

const SERVERS = NODES / 2;
const ENGINEERS = (NODES / 2 / PEOPLE) * 5;

test("CS-10 1,000 nodes: a full map is what a delta is compared with", async () => {
  const { messages, largest } = await costOf(async () => void map(1, { Stream: true }));
  const [full] = messages;
  expect(full!.Peers).toHaveLength(SERVERS - 1 + ENGINEERS);
  expect(largest).toBeGreaterThan(10_000);
});

test.each([
  [
    "a server's address changes",
    () => describeSelf(3, "203.0.113.9:41641"),
    ["Node", "PeersChangedPatch"],
    450,
    SERVERS + ENGINEERS,
  ],
  [
    "a server is renamed",
    () => coordinator.renameNode(5, "db", "test"),
    ["Node", "PeersChanged"],
    450,
    SERVERS + ENGINEERS,
  ],
  ["a server joins", () => join(NODES + 1), ["PacketFilters", "PeersChanged"], 3000, SERVERS + ENGINEERS],
  ["a laptop joins", () => join(NODES + 2), ["PacketFilters", "PeersChanged"], 3000, undefined],
  // `Node`: to the deleted one, that its key has ended.
  [
    "a server is deleted",
    () => coordinator.deleteNode(7, "test"),
    ["Node", "PacketFilters", "PeersRemoved"],
    3000,
    undefined,
  ],
  ["a laptop's key expires", () => coordinator.expireNode(2, "test"), undefined, 3000, undefined],
  [
    "the policy moves a port",
    () => coordinator.setPolicy(compilePolicy(policy(443)), policy(443), "test"),
    ["PacketFilters"],
    3000,
    undefined,
  ],
  [
    "the same policy is set again",
    () => coordinator.setPolicy(compilePolicy(policy(443)), policy(443), "test"),
    [],
    0,
    0,
  ],
] as const)("CS-10 1,000 nodes: %s, and a delta says it", async (_what, change, kinds, mostBytes, receivers) => {
  const cost = await costOf(change);
  if (kinds !== undefined) expect(cost.kinds).toEqual(kinds);
  for (const whole of ["Peers", "DERPMap", "DNSConfig"]) expect(cost.kinds).not.toContain(whole);
  expect(cost.largest).toBeLessThanOrEqual(mostBytes);
  if (receivers !== undefined) expect(cost.messages).toHaveLength(receivers);
  expect(cost.cpuMs).toBeLessThan(MOST_CPU_MS);
});

test("CS-14 1,000 nodes come back at once, each to a full map of its own", async () => {
  const cost = await costOf(async () => {
    for (const { machineKey } of coordinator.nodes()) {
      const i = Number.parseInt(machineKey.slice("mkey:".length), 16);
      if (!coordinator.node(i)?.expired) void map(i, { Stream: true, KeepAlive: true });
    }
  });
  const full = cost.messages.filter(({ Peers }) => Peers !== undefined);
  expect(full.length).toBeGreaterThanOrEqual(NODES - 2);
  expect(cost.messages.length, "nobody is told that the others were away").toBeLessThan(2 * NODES);
  expect(cost.cpuMs).toBeLessThan(4 * MOST_CPU_MS);
});
