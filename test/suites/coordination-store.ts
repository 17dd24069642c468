import { describe, expect, test } from "vitest";
import type { AuthKey, NodeRecord, User } from "../../src/coordination/records.ts";
import type { CoordinationStore } from "../../src/coordination/store/coordination-store.ts";

const user = (id: number, login: string = `user-${id}`): User => ({ id, login, displayName: login, created: 1 });
const key = (id: string, more: Partial<AuthKey> = {}): AuthKey => ({
  id,
  salt: "00",
  hash: "11",
  tags: [],
  reusable: false,
  ephemeral: false,
  created: 1,
  uses: 0,
  ...more,
});
const node = (id: number, more: Partial<NodeRecord> = {}): NodeRecord => ({
  id,
  machineKey: "mkey:1",
  nodeKey: `nodekey:${id}`,
  tags: [],
  name: `node-${id}`,
  nameFixed: false,
  ipv4: `100.64.0.${id}`,
  ipv6: `fd7a:115c:a1e0::${id}`,
  created: 1,
  ephemeral: false,
  hostinfo: { Hostname: "näme" },
  endpoints: [],
  homeDerp: 0,
  capability: 142,
  approvedRoutes: [],
  ...more,
});

/** What every store of the coordinator promises. `reopen` closes the store and opens the same data again. */
export function coordinationStoreSuite(
  name: string,
  open: () => Promise<{ store: CoordinationStore; reopen?: () => Promise<CoordinationStore> }>,
): void {
  describe(name, () => {
    test("keeps what was committed", async () => {
      const { store, reopen } = await open();
      await store.commit([
        { put: "user", value: user(1) },
        { put: "authKey", value: key("a", { userId: 1 }) },
        { put: "node", value: node(1, { userId: 1, expires: 5 }) },
        { put: "resting", value: { ipv4: "100.64.0.9", until: 77 } },
        { put: "setting", name: "policy", value: "{}" },
        { append: "log", value: { at: 1, by: "root", action: "a", target: "t", detail: "d" } },
      ]);
      await store.commit([{ use: "authKey", id: "a", at: 9 }]);
      const again = (await reopen?.()) ?? store;
      expect(await again.load()).toEqual({
        users: [user(1)],
        authKeys: [key("a", { userId: 1, uses: 1, lastUsed: 9 })],
        nodes: [node(1, { userId: 1, expires: 5 })],
        resting: [{ ipv4: "100.64.0.9", until: 77 }],
        settings: new Map([["policy", "{}"]]),
      });
      expect(await again.log({ limit: 5 })).toEqual([
        { sequence: 1, at: 1, by: "root", action: "a", target: "t", detail: "d" },
      ]);
      await again.close();
    });

    test("CS-1 a one-time key is used once, a reusable one often, an unknown one never", async () => {
      const { store } = await open();
      await store.commit([
        { put: "authKey", value: key("once") },
        { put: "authKey", value: key("often", { reusable: true }) },
      ]);
      const uses = await Promise.allSettled(
        Array.from({ length: 20 }, () => store.commit([{ use: "authKey", id: "once", at: 1 }])),
      );
      expect(uses.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
      expect(uses.at(-1)).toMatchObject({ reason: { code: "COORDINATION_KEY_USED" } });
      for (let i = 0; i < 3; i++) await store.commit([{ use: "authKey", id: "often", at: i }]);
      await expect(store.commit([{ use: "authKey", id: "x", at: 1 }])).rejects.toMatchObject({
        code: "COORDINATION_KEY_USED",
      });
      expect((await store.load()).authKeys.map(({ uses: count }) => count)).toEqual([3, 1]);
      await store.close();
    });

    test.each([
      ["login", [{ put: "user", value: user(2, "user-1") }]],
      [
        "identity",
        [
          { put: "user", value: { ...user(2), identity: { issuer: "https://id.example", subject: "s" } } },
          { put: "user", value: { ...user(3), identity: { issuer: "https://id.example", subject: "s" } } },
        ],
      ],
      ["node key", [{ put: "node", value: node(2, { nodeKey: "nodekey:1" }) }]],
      ["name", [{ put: "node", value: node(2, { name: "node-1" }) }]],
      ["IPv4 address", [{ put: "node", value: node(2, { ipv4: "100.64.0.1" }) }]],
      ["IPv6 address", [{ put: "node", value: node(2, { ipv6: "fd7a:115c:a1e0::1" }) }]],
      ["owner that is none", [{ put: "node", value: node(2, { userId: 99 }) }]],
      ["user that owns a node", [{ remove: "user", id: 1 }]],
    ] as const)("a commit that breaks %s changes nothing", async (_what, changes) => {
      const { store } = await open();
      await store.commit([
        { put: "user", value: user(1) },
        { put: "node", value: node(1, { userId: 1 }) },
      ]);
      const before = await store.load();
      const wrong = store.commit([
        { put: "setting", name: "x", value: "y" },
        { append: "log", value: { at: 1, by: "b", action: "a", target: "t" } },
        ...changes,
      ]);
      await expect(wrong).rejects.toMatchObject({ code: "COORDINATION_CONFLICT" });
      expect(await store.load()).toEqual(before);
      expect(await store.log({ limit: 5 })).toEqual([]);
      await store.commit([{ put: "user", value: user(3) }]);
      await store.close();
    });

    test("removes, replaces, and hands a node key over in one commit", async () => {
      const { store } = await open();
      await store.commit([
        { put: "node", value: node(1) },
        { put: "node", value: node(2) },
      ]);
      await store.commit([
        { remove: "node", id: 1 },
        { put: "node", value: node(2, { nodeKey: "nodekey:1", name: "node-1" }) },
      ]);
      expect((await store.load()).nodes).toEqual([node(2, { nodeKey: "nodekey:1", name: "node-1" })]);
      await store.close();
    });

    test("pages through the log, newest first", async () => {
      const { store } = await open();
      for (let at = 1; at <= 5; at++) {
        await store.commit([{ append: "log", value: { at, by: "b", action: "a", target: "t" } }]);
      }
      const first = await store.log({ limit: 2 });
      expect(first.map(({ at }) => at)).toEqual([5, 4]);
      expect((await store.log({ limit: 9, before: first[1]!.sequence })).map(({ at }) => at)).toEqual([3, 2, 1]);
      await store.close();
    });

    test("a closed store says so", async () => {
      const { store } = await open();
      await store.close();
      await expect(store.commit([])).rejects.toMatchObject({ code: "COORDINATION_STORE_CLOSED" });
      await store.close();
    });
  });
}
