import { describe, expect, test } from "vitest";
import { mkey, nodeKey, start } from "../../test/suites/coordination-rig.ts";
import type { Coordinator } from "./coordinator.ts";

describe("other requests", () => {
  const post = (coordinator: Coordinator, path: string, body: object, machine = 1) =>
    coordinator.other(mkey(machine), "POST", path, { NodeKey: nodeKey(1), ...body });

  test("CS-17 set-dns sets the node's own challenge and nothing else", async () => {
    const set: string[][] = [];
    const { coordinator, join } = await start({ setTxt: async (...record) => void set.push(record) });
    await join(1, "ada@example.com");
    const own = "_acme-challenge.host-1.tail.test";
    expect(await post(coordinator, "/machine/set-dns", { Name: own, Type: "TXT", Value: "v-1" })).toEqual({
      status: 200,
      body: {},
    });
    for (const Name of [
      `${own}.`,
      own.toUpperCase(),
      "tail.test",
      "_acme-challenge.tail.test",
      "_acme-challenge.host-2.tail.test",
      "*",
      "",
      5,
    ]) {
      expect((await post(coordinator, "/machine/set-dns", { Name, Type: "TXT", Value: "v" })).status).toBe(403);
    }
    for (const more of [{ Type: "A" }, { Value: "a b" }, { Value: "" }, { Value: 5 }]) {
      expect(
        (await post(coordinator, "/machine/set-dns", { Name: own, Type: "TXT", Value: "v", ...more })).status,
      ).toBe(403);
    }
    await expect(
      post(coordinator, "/machine/set-dns", { Name: own, Type: "TXT", Value: "v" }, 2),
    ).rejects.toMatchObject({ code: "COORDINATION_KEY_FOREIGN" });
    expect(set).toEqual([[own, "v-1"]]);
  });

  test("feature queries are answered from the attributes; paths that are none are 404 and 501", async () => {
    const { coordinator, join } = await start();
    await join(1, "ada@example.com");
    expect(await post(coordinator, "/machine/feature/query", { Feature: "serve" })).toEqual({
      status: 200,
      body: { Complete: true },
    });
    expect(await post(coordinator, "/machine/feature/query", { Feature: "funnel" })).toMatchObject({
      body: { Complete: false, Text: expect.stringContaining('"funnel"') },
    });
    const statuses = ["update-health", "whoami", "tka/init/begin", "set-dns", "nonsense", "__proto__"].map(
      async (path) => (await post(coordinator, `/machine/${path}`, {})).status,
    );
    expect(await Promise.all(statuses)).toEqual([204, 501, 501, 501, 404, 404]);
  });
});
