import { expect, onTestFinished, test } from "vitest";
import { seededRandom } from "../base/random.ts";
import { memoryStore } from "../base/store.ts";
import { MemoryCoordinationStore } from "../coordination/store/memory-store.ts";
import { funnelRecords } from "./own-relay.ts";
import { Server, type ServerOptions } from "./server.ts";

const WAIT = { timeout: 30_000, interval: 10 };

/** A server with its own ingress, whose stores outlive it. */
function house() {
  const backups: string[][] = [];
  const store = Object.assign(new MemoryCoordinationStore(), {
    close: async () => undefined,
    backup: async (_: string, files: ReadonlyMap<string, Uint8Array>) => void backups.push([...files.keys()]),
  });
  const kept: Pick<ServerOptions, "store" | "state"> = { store, state: memoryStore() };
  const relay = { listeners: [{ address: "127.0.0.1", port: 0, publicPort: 443 }] };
  const open = async (): Promise<Server> => {
    const server = await Server.open({ ...kept, baseDomain: "tail.test", relay });
    onTestFinished(() => server.close());
    return server;
  };
  return { open, backups };
}

const nodes = ({ coordinator }: Server): readonly string[] =>
  coordinator.nodes().map(({ id, name, online }) => `${id} ${name} ${online ? "here" : "away"}`);

test.each<readonly [string, (server: Server) => Promise<unknown>, string]>([
  ["deleted", ({ coordinator }) => coordinator.deleteNode("ingress", "root"), "2 ingress here"],
  ["made to expire", ({ coordinator }) => coordinator.expireNode("ingress", "root"), "1 ingress here"],
  ["left as it was", async () => undefined, "1 ingress here"],
])("the server's own ingress waited for a login for ever once it was %s", async (_, act, after) => {
  const { open } = house();
  const before = await open();
  await expect.poll(() => nodes(before), WAIT).toEqual(["1 ingress here"]);
  await act(before);
  await before.close();
  const again = await open();
  await expect.poll(() => nodes(again), WAIT).toEqual([after]);
  await expect.poll(() => again.relay!.health.isHealthy, WAIT).toBe(true);
});

test.each<readonly [string, (server: Server) => Promise<unknown>]>([
  ["deleted", ({ coordinator }) => coordinator.deleteNode("ingress", "root")],
  ["made to expire", ({ coordinator }) => coordinator.expireNode("ingress", "root")],
])(
  "the server's own ingress brought nobody to any node once it was %s, until the server was restarted",
  async (_, act) => {
    const server = await house().open();
    await expect.poll(() => nodes(server), WAIT).toEqual(["1 ingress here"]);
    for (let i = 0; i < 3; i++) {
      await act(server);
      const isBack = (): boolean => server.coordinator.nodes().some(({ online, expired }) => online && !expired);
      await expect.poll(() => [isBack(), server.relay!.health.problems], WAIT).toEqual([true, []]);
      expect(server.relay!.isAppointed).toBe(true);
    }
  },
);

test("the server's own ingress was another node after a restore: its keys were in no backup", async () => {
  const { open, backups } = house();
  const server = await open();
  await expect.poll(() => nodes(server), WAIT).toEqual(["1 ingress here"]);
  await server.backup("here", "root");
  expect(backups).toEqual([["noise.key", "derp.key", "derp-127.0.0.1.json", "relay.identity.json"]]);
});

test("most visitors came to the ingress whose address stood first in the zone's every answer", () => {
  const here = ["203.0.113.5", "203.0.113.6", "203.0.113.7", "2001:db8::5", "2001:db8::6"];
  const coordinator = { publicPlace: () => "name" as const, relayAddresses: () => here };
  const { named } = funnelRecords(() => coordinator, here, seededRandom(1));
  const firsts = new Map<string, number>();
  for (let i = 0; i < 3000; i++) {
    const records = named("web.mesh.example")!;
    expect(new Set(records).size).toBe(here.length);
    for (const length of [4, 16]) {
      const first = String(records.find(({ data }) => data.length === length)!.data);
      firsts.set(first, (firsts.get(first) ?? 0) + 1);
    }
  }
  expect(firsts.size).toBe(here.length);
  expect(Math.min(...firsts.values())).toBeGreaterThan(800);
});
