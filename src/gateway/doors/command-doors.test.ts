import { expect, test } from "vitest";
import { memoryStore } from "../../base/store.ts";
import type { ServeConfig } from "../../wire/serve-config.ts";
import { CommandDoors } from "./command-doors.ts";

const SITE = "web.tail.test:443";
const isDeclared = (door: string): boolean => door === "friends";
const serving = (...sites: readonly string[]): ServeConfig => ({
  Web: Object.fromEntries(sites.map((site) => [site, { Handlers: {} }])),
});
const at = (doors: CommandDoors, site: string, mount = "/"): string | undefined => {
  const [name = "", port = ""] = site.split(":");
  return doors.at({ name, port: Number(port), mount });
};

test("a door that a command has set stands until it is taken away, over restarts", async () => {
  const store = memoryStore();
  const doors = await CommandDoors.open(store, isDeclared);
  await doors.set("Web.Tail.Test:443", "friends");
  await doors.set("*.apps.test:8443", "friends");
  const again = await CommandDoors.open(store, isDeclared);
  for (const [site, door] of [
    [SITE, "friends"],
    ["web.tail.test:8443", undefined],
    ["shop.apps.test:8443", "friends"],
    ["a.shop.apps.test:8443", undefined],
  ] as const)
    expect(at(again, site), site).toBe(door);
  await again.set(SITE, undefined);
  expect(at(await CommandDoors.open(store, isDeclared), SITE)).toBeUndefined();
});

test("a door stands before a mount and what is below it, until something else is said there", async () => {
  const store = memoryStore();
  const doors = await CommandDoors.open(store, () => true);
  await doors.set("*.tail.test:443", "wild");
  await doors.set("*.tail.test:443", "deep", "/deep");
  await doors.set(SITE, "friends");
  await doors.set(SITE, undefined, "/open");
  await doors.set(SITE, "staff", "/open/staff");
  await doors.set(SITE, "boss", "/Admin/");
  const again = await CommandDoors.open(store, () => true);
  for (const [site, mount, door] of [
    [SITE, "/", "friends"],
    [SITE, "/other", "friends"],
    [SITE, "/opened", "friends"],
    [SITE, "/open", undefined],
    [SITE, "/open/", undefined],
    [SITE, "/open/more", undefined],
    [SITE, "/open/staff", "staff"],
    [SITE, "/open/staff/a/", "staff"],
    [SITE, "/Admin", "friends"],
    [SITE, "/Admin/", "boss"],
    [SITE, "/deep", "friends"],
    ["api.tail.test:443", "/", "wild"],
    ["api.tail.test:443", "/deep/er", "deep"],
    ["web.tail.test:8443", "/open/staff", undefined],
  ] as const)
    expect(at(again, site, mount), site + mount).toBe(door);
  await again.set(SITE, undefined);
  expect([at(again, SITE), at(again, SITE, "/open/staff")], "the wildcard's is taken away, too").toEqual([
    undefined,
    "staff",
  ]);
});

test("what was said of a mount is renamed with the node", async () => {
  const doors = await CommandDoors.open(memoryStore(), () => true);
  await doors.set(SITE, "friends", "/a:1/b");
  await doors.rename("web.tail.test", "www.tail.test");
  expect([at(doors, SITE, "/a:1/b"), at(doors, "www.tail.test:443", "/a:1/b")]).toEqual([undefined, "friends"]);
});

test("what was said of a mount goes with the mount", async () => {
  const doors = await CommandDoors.open(memoryStore(), () => true);
  const both: ServeConfig = { Web: { [SITE]: { Handlers: { "/": { Text: "a" }, "/open": { Text: "b" } } } } };
  const one: ServeConfig = { Web: { [SITE]: { Handlers: { "/": { Text: "a" } } } } };
  await doors.set(SITE, "friends");
  await doors.set(SITE, undefined, "/open");
  await doors.settle(both, one);
  expect(at(doors, SITE, "/open")).toBe("friends");
});

test.each<readonly [string, string, string]>([
  ["a door that is not declared", "other", SITE],
  ["a place without port", "friends", "web.tail.test"],
  ["a port that is none", "friends", "web.tail.test:70000"],
  ["a name that is none", "friends", "we b:443"],
])("%s is refused", async (_, door, site) => {
  const doors = await CommandDoors.open(memoryStore(), isDeclared);
  await expect(doors.set(site, door)).rejects.toThrow(/^Cannot put/);
});

test("the door goes with its place, and with no other change", async () => {
  const doors = await CommandDoors.open(memoryStore(), isDeclared);
  await doors.set(SITE, "friends");
  await doors.settle(serving("other.test:443"), serving()); // somebody else's change, before ours has come
  expect(at(doors, SITE)).toBe("friends");
  await doors.settle(serving(), serving(SITE));
  await doors.settle(serving(SITE), { Foreground: { a: serving(SITE) } });
  expect(at(doors, SITE)).toBe("friends");
  await doors.settle({ Foreground: { a: serving(SITE) } }, null);
  expect(at(doors, SITE)).toBeUndefined();
});

test.each([
  "",
  "{",
  "null",
  "[]",
  '"friends"',
  '{"web.tail.test:443":null}',
  '{"web.tail.test":"friends"}',
  '{"web.tail.test:443/":"friends"}',
])("what is damaged opens nothing: %j", async (text) => {
  const store = memoryStore();
  await store.set("command-doors.json", Buffer.from(text));
  await expect(CommandDoors.open(store, isDeclared)).rejects.toMatchObject({ code: "STATE_DAMAGED" });
});

test("256 places have a door, and no more", async () => {
  const doors = await CommandDoors.open(memoryStore(), isDeclared);
  for (let port = 1; port <= 256; port++) await doors.set(`web.tail.test:${port}`, "friends");
  await expect(doors.set(SITE, "friends")).rejects.toMatchObject({ code: "DOOR_PLACE" });
  await doors.set("web.tail.test:1", "friends"); // another in its place is none more
  await doors.set("web.tail.test:1", undefined);
  await doors.set(SITE, "friends");
  expect(at(doors, SITE)).toBe("friends");
});
