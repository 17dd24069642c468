import path from "node:path";
import { describe, expect, test } from "vitest";
import { scratchFolder } from "../../test/suites/scratch.ts";
import { FakeClock } from "../base/clock.ts";
import { silentLog } from "../base/log.ts";
import { seededRandom } from "../base/random.ts";
import type { RegisterResponse } from "../wire/tailcfg.ts";
import { Coordinator } from "./coordinator.ts";
import { compilePolicy } from "./policy/policy.ts";
import type { CoordinationStore } from "./store/coordination-store.ts";
import { MemoryCoordinationStore } from "./store/memory-store.ts";
import { SqliteCoordinationStore } from "./store/sqlite-store.ts";

const ROUNDS = 20;
const DAY_MS = 86_400_000;
const scratch = scratchFolder();

const hex = (seed: number): string => seed.toString(16).padStart(64, "0");
const never = new AbortController().signal;

async function open(store: CoordinationStore, addressPoolSize?: number) {
  const clock = new FakeClock();
  const coordinator = await Coordinator.open({
    store,
    clock,
    random: seededRandom(11),
    log: silentLog,
    serverUrl: "https://control.example",
    baseDomain: "tail.test",
    derpMap: () => ({ Regions: {} }),
    policy: compilePolicy(""),
    ...(addressPoolSize === undefined ? {} : { addressPoolSize }),
  });
  await coordinator.createUser({ login: "ada@example.com" }, "test");
  let seed = 0;
  /** A machine that nobody has seen before. */
  const join = (AuthKey: string): Promise<RegisterResponse> => {
    const own = hex(++seed);
    const Hostinfo = { Hostname: `host-${seed}` };
    return coordinator.register(
      `mkey:${own}`,
      { Version: 142, NodeKey: `nodekey:${own}`, Hostinfo, Auth: { AuthKey } },
      never,
    );
  };
  const key = async (reusable: boolean) =>
    (await coordinator.createAuthKey({ user: "ada@example.com", reusable }, "test")).key;
  return { coordinator, clock, join, key };
}

const admitted = (answers: readonly RegisterResponse[]) => answers.filter((answer) => answer.MachineAuthorized);

describe.each([
  ["memory", async () => new MemoryCoordinationStore()],
  ["SQLite", () => SqliteCoordinationStore.open(path.join(scratch, "keys.db"))],
] as const)("in %s", (_name, store) => {
  test(`CS-1 of 100 machines at once with one one-time key, one gets in: ${ROUNDS} rounds`, {
    timeout: 60_000,
  }, async () => {
    const { coordinator, join, key } = await open(await store());
    for (let round = 1; round <= ROUNDS; round++) {
      const once = await key(false);
      const answers = await Promise.all(Array.from({ length: 100 }, () => join(once)));
      expect(admitted(answers)).toHaveLength(1);
      expect(answers.filter((answer) => answer.Error === "authkey already used")).toHaveLength(99);
      expect(coordinator.nodes()).toHaveLength(round);
    }
    await coordinator.close();
  });
});

/** Offsets 0 and 0x53 of the pool are never given out. */
const RESERVED = 2;

test(`CS-2 no address twice while machines come and go at once in a pool that is almost full: ${ROUNDS} rounds`, async () => {
  const size = 200 + RESERVED;
  const { coordinator, clock, join, key } = await open(new MemoryCoordinationStore(), size);
  const reusable = await key(true);
  const free = () => size - RESERVED - coordinator.nodes().length;
  for (let round = 0; round < ROUNDS; round++) {
    const wanted = free() + 10;
    const leaving = coordinator.nodes().filter((_, i) => i % 7 === round % 7);
    const gone = new Set(leaving.map(({ ipv4 }) => ipv4));
    const [answers] = await Promise.all([
      Promise.all(Array.from({ length: wanted }, () => join(reusable))),
      Promise.all(leaving.map(({ id }) => coordinator.deleteNode(id, "test"))),
    ]);
    const full = answers.filter(({ MachineAuthorized }) => !MachineAuthorized);
    expect(full.length, "the pool is full, and says so").toBeGreaterThanOrEqual(10);
    expect(new Set(full.map((answer) => answer.Error))).toEqual(new Set(["no address is free"]));
    const nodes = coordinator.nodes();
    expect(new Set(nodes.map(({ ipv4 }) => ipv4)).size).toBe(nodes.length);
    expect(new Set(nodes.map(({ ipv6 }) => ipv6)).size).toBe(nodes.length);
    expect(
      nodes.filter(({ ipv4 }) => gone.has(ipv4)),
      "what was released rests",
    ).toEqual([]);
    clock.advance(DAY_MS - 1);
    if (leaving.length > 0) expect((await join(reusable)).Error).toBe("no address is free");
    clock.advance(1);
  }
  await coordinator.close();
});

test("CS-2 1,000 machines at once get 1,000 addresses", async () => {
  const { coordinator, join, key } = await open(new MemoryCoordinationStore());
  const reusable = await key(true);
  expect(admitted(await Promise.all(Array.from({ length: 1000 }, () => join(reusable))))).toHaveLength(1000);
  const nodes = coordinator.nodes();
  for (const member of ["ipv4", "ipv6", "name", "nodeKey"] as const) {
    expect(new Set(nodes.map((node) => node[member])).size, member).toBe(1000);
  }
  await coordinator.close();
});
