import { expect, test } from "vitest";
import { mkey, nodeKey, type Rig, start } from "../../test/suites/coordination-rig.ts";
import { isResting } from "./certificate-names.ts";
import { Ledger } from "./ledger.ts";
import { MemoryCoordinationStore } from "./store/memory-store.ts";

const DAY = 86_400_000;
const host = (Hostname: string) => ({ Hostinfo: { Hostname } });

async function prove({ coordinator }: Rig, seed: number, name: string): Promise<number> {
  const record = { NodeKey: nodeKey(seed), Name: `_acme-challenge.${name}`, Type: "TXT", Value: "v" };
  return (await coordinator.other(mkey(seed), "POST", "/machine/set-dns", record)).status;
}

const open = (store = new MemoryCoordinationStore()) => start({ setTxt: async () => {}, store });

test("a freed name rests until its last certificate is surely over: nobody else is called so", async () => {
  const rig = await open();
  const node = await rig.join(1, "ada@example.com", host("web"));
  expect(await prove(rig, 1, "web.tail.test")).toBe(200);
  await rig.coordinator.deleteNode(node.id, "root");
  expect((await rig.join(2, "bob@example.com", host("web"))).name).toBe("web-1");
  await expect(rig.coordinator.renameNode("web-1", "web", "root")).rejects.toMatchObject({
    message: expect.stringContaining("certificate of its last owner"),
  });
  await expect(rig.coordinator.createService("svc:web", "root")).rejects.toMatchObject({
    code: "COORDINATION_SERVICE",
  });
  rig.clock.advance(200 * DAY);
  expect((await rig.coordinator.renameNode("web-1", "web", "root")).name).toBe("web");
});

test("its last owner has it back at once, and so do the same tags", async () => {
  const rig = await open();
  const first = await rig.join(1, "ada@example.com", host("web"));
  await prove(rig, 1, "web.tail.test");
  await rig.coordinator.deleteNode(first.id, "root");
  expect((await rig.join(2, "ada@example.com", host("web"))).name).toBe("web");
  const { key } = await rig.coordinator.createAuthKey({ tags: ["tag:b", "tag:a"], reusable: true }, "root");
  const joinTagged = async (seed: number) => {
    await rig.ask(seed, { Auth: { AuthKey: key }, ...host("db") });
    return rig.coordinator.nodes().find((node) => node.nodeKey === nodeKey(seed))!;
  };
  const tagged = await joinTagged(3);
  await prove(rig, 3, "db.tail.test");
  await rig.coordinator.deleteNode(tagged.id, "root");
  expect((await rig.join(4, "ada@example.com", host("db"))).name).toBe("db-1");
  expect((await joinTagged(5)).name).toBe("db");
});

test("a name that was never proved is free; a node given to another person keeps its name", async () => {
  const rig = await open();
  const node = await rig.join(1, "ada@example.com", host("web"));
  await rig.coordinator.deleteNode(node.id, "root");
  const other = await rig.join(2, "bob@example.com", host("web"));
  expect(other.name).toBe("web");
  await prove(rig, 2, "web.tail.test");
  await rig.coordinator.assignNode(other.id, "ada@example.com", "root");
  await rig.ask(2, host("web"));
  expect(rig.coordinator.node(other.id)?.name).toBe("web");
});

test("it outlives the server, and an administrator can release it", async () => {
  const store = new MemoryCoordinationStore();
  const rig = await open(store);
  const node = await rig.join(1, "ada@example.com", host("web"));
  await prove(rig, 1, "web.tail.test");
  await rig.coordinator.deleteNode(node.id, "root");
  const ledger = await Ledger.open(store);
  expect(["user:2", "user:1"].map((owner) => isResting(ledger, "web", owner, rig.clock.wall()))).toEqual([true, false]);
  expect((await rig.join(2, "bob@example.com", host("web"))).name).toBe("web-1");
  expect(await rig.coordinator.releaseName("web", "root")).toBe(true);
  expect(await rig.coordinator.releaseName("web", "root")).toBe(false);
  expect((await rig.coordinator.renameNode("web-1", "web", "root")).name).toBe("web");
  expect((await rig.coordinator.adminLog({ limit: 5 })).some(({ action }) => action === "name.release")).toBe(true);
});

test("a value of an order is written down once a day, not at each proof", async () => {
  const store = new MemoryCoordinationStore();
  const rig = await open(store);
  await rig.join(1, "ada@example.com", host("web"));
  let commits = 0;
  const commit = store.commit.bind(store);
  store.commit = (changes) => {
    commits++;
    return commit(changes);
  };
  for (let i = 0; i < 5; i++) await prove(rig, 1, "web.tail.test");
  expect(commits).toBe(1);
  rig.clock.advance(2 * DAY);
  await prove(rig, 1, "web.tail.test");
  expect(commits).toBe(2);
});
