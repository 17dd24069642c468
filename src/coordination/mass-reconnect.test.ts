import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterAll, beforeAll, expect, test } from "vitest";
import { hex, never } from "../../test/suites/coordination-rig.ts";
import { FakeClock } from "../base/clock.ts";
import { silentLog } from "../base/log.ts";
import { seededRandom } from "../base/random.ts";
import type { MapResponse } from "../wire/tailcfg.ts";
import { Coordinator } from "./coordinator.ts";
import { compilePolicy } from "./policy/policy.ts";
import { MemoryCoordinationStore } from "./store/memory-store.ts";

/** Forty teams of fifty, each of which sees itself. */
const NODES = 2000;
const TEAMS = 40;
const ROUNDS = 10;
/** A round must end in 60 s of the clock on the wall; processor time is what does not depend on who else is busy. */
const MOST_CPU_MS = 30_000;

const clock = new FakeClock();
let coordinator: Coordinator;
/** Peers that each node's last full map showed. */
const shown = new Map<number, number>();
let deltas = 0;

class Stream {
  readonly #abort = new AbortController();
  readonly closed: AbortSignal = this.#abort.signal;
  readonly #node: number;
  constructor(node: number) {
    this.#node = node;
  }
  send({ Peers, PeersChanged, PeersChangedPatch }: MapResponse): boolean {
    if (Peers != null) shown.set(this.#node, Peers.length);
    if (PeersChanged !== undefined || PeersChangedPatch !== undefined) deltas++;
    return true;
  }
  end(): void {
    this.#abort.abort();
  }
}

const connect = (i: number) =>
  void coordinator.map(
    `mkey:${hex(i)}`,
    { Version: 142, NodeKey: `nodekey:${hex(i)}`, Stream: true, KeepAlive: true },
    new Stream(i),
  );

/** Lets the coordinator work through what is due within `ms`. */
async function settle(ms: number): Promise<void> {
  const end = clock.now() + ms;
  while (clock.next <= end) {
    clock.advance(clock.next - clock.now());
    await new Promise((resolve) => setImmediate(resolve));
  }
  clock.advance(end - clock.now());
}

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

beforeAll(async () => {
  coordinator = await Coordinator.open({
    store: new MemoryCoordinationStore(),
    clock,
    random: seededRandom(14),
    log: silentLog,
    serverUrl: "https://control.example",
    baseDomain: "tail.test",
    derpMap: () => ({ Regions: {} }),
    policy: compilePolicy('{"acls": [{"action": "accept", "src": ["autogroup:member"], "dst": ["autogroup:self:*"]}]}'),
  });
  const keys: string[] = [];
  for (let i = 0; i < TEAMS; i++) {
    const user = `team${i}@example.com`;
    await coordinator.createUser({ login: user }, "test");
    keys.push((await coordinator.createAuthKey({ user, reusable: true }, "test")).key);
  }
  for (let i = 1; i <= NODES; i++) {
    const Auth = { AuthKey: keys[i % TEAMS]! };
    const request = { Version: 142, NodeKey: `nodekey:${hex(i)}`, Hostinfo: { Hostname: `host-${i}` }, Auth };
    await coordinator.register(`mkey:${hex(i)}`, request, never);
  }
}, 60_000);
afterAll(() => coordinator.close());

test("CS-14 2,000 nodes come back at once, ten times: each has its map, nobody hears of it, and memory comes back", {
  timeout: 600_000,
}, async () => {
  const cpu: number[] = [];
  const heap: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    shown.clear();
    deltas = 0;
    const start = process.threadCpuUsage();
    for (let i = 1; i <= NODES; i++) connect(i);
    await settle(2000);
    const { user, system } = process.threadCpuUsage(start);
    cpu.push(Math.round((user + system) / 1000));
    expect([shown.size, new Set(shown.values())]).toEqual([NODES, new Set([NODES / TEAMS - 1])]);
    // Only at first does anybody come online: a stream that replaces another is no news.
    if (round > 0) expect(deltas).toBe(0);
    expect(coordinator.nodes().every(({ online }) => online)).toBe(true);
    if (round !== 1 && round !== ROUNDS - 1) continue;
    collectGarbage();
    heap.push(process.memoryUsage().heapUsed / 2 ** 20);
  }
  expect(Math.max(...cpu)).toBeLessThan(MOST_CPU_MS);
  expect(heap[1]! / heap[0]!, heap.map(Math.round).join()).toBeLessThan(1.5);
  const idle = process.threadCpuUsage();
  await settle(60_000); // keep-alives of all
  const { user, system } = process.threadCpuUsage(idle);
  expect((user + system) / 1000, "of the minute after it").toBeLessThan(0.8 * 60_000);
});
