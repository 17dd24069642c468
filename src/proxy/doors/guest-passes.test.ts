import { expect, test } from "vitest";
import { FakeClock } from "../../base/clock.ts";
import { memoryStore } from "../../base/store.ts";
import { GuestPasses } from "./guest-passes.ts";

const HOUR = 3_600_000;
const WISH = { door: "friends", name: "Carol", lifeMs: HOUR, isOnce: true };

test("a link for once survives a restart unspent, and once spent it stays so", async () => {
  const [clock, store] = [new FakeClock(), memoryStore()];
  const { token } = await (await GuestPasses.open(clock, store)).create(WISH);
  expect(Buffer.from((await store.get("door-passes.json"))!).toString()).not.toContain(token);
  const again = await GuestPasses.open(clock, store);
  expect(again.find("friends", token)).toMatchObject({ name: "Carol", isOnce: true });
  expect(again.find("friends", token), "looking spends nothing").toBeDefined();
  const uses = await Promise.all([again.spend("friends", token), again.spend("friends", token)]);
  expect(
    uses.map((link) => link?.name),
    "two uses side by side",
  ).toEqual(["Carol", undefined]);
  expect(await (await GuestPasses.open(clock, store)).spend("friends", token)).toBeUndefined();
});

test("one that cannot be marked as spent lets nobody in", async () => {
  const store = memoryStore();
  const links = await GuestPasses.open(new FakeClock(), store);
  const { token } = await links.create(WISH);
  store.set = () => Promise.reject(new Error("disk full"));
  await expect(links.spend("friends", token)).rejects.toThrow("disk full");
});

test("one that could not be written was listed, though nobody was told how to use it", async () => {
  const store = memoryStore();
  const links = await GuestPasses.open(new FakeClock(), store);
  store.set = () => Promise.reject(new Error("disk full"));
  await expect(links.create(WISH)).rejects.toThrow("disk full");
  expect(links.list()).toEqual([]);
});

test("others last until they expire or are taken back, and are for one door", async () => {
  const clock = new FakeClock();
  const links = await GuestPasses.open(clock, memoryStore());
  const { token, link } = await links.create({ ...WISH, isOnce: false });
  const other = await links.create({ ...WISH, isOnce: false });
  expect(await links.spend("staff", token)).toBeUndefined();
  for (let i = 0; i < 3; i++) expect(await links.spend("friends", token)).toMatchObject({ id: link.id });
  expect([await links.remove(link.id), await links.remove(link.id)]).toEqual([true, false]);
  expect(links.find("friends", token)).toBeUndefined();
  clock.advance(HOUR - 1);
  expect(links.find("friends", other.token)).toBeDefined();
  clock.advance(1);
  expect([links.find("friends", other.token), links.list()]).toEqual([undefined, []]);
});

test.each([
  [{ name: " " }, "name"],
  [{ name: "x".repeat(101) }, "name"],
  [{ name: "Car\u202eol" }, "name"],
  [{ name: "a\nb" }, "name"],
  [{ lifeMs: 0 }, "last"],
  [{ lifeMs: Number.NaN }, "last"],
  [{ lifeMs: 400 * 24 * HOUR }, "last"],
])("%o is refused", async (wish, why) => {
  const links = await GuestPasses.open(new FakeClock(), memoryStore());
  await expect(links.create({ ...WISH, ...wish })).rejects.toMatchObject({
    code: "DOOR_PASS",
    message: expect.stringContaining(why),
  });
});

test("a damaged record stops the start and says which file", async () => {
  const store = memoryStore();
  await store.set("door-passes.json", Buffer.from("{"));
  await expect(GuestPasses.open(new FakeClock(), store)).rejects.toMatchObject({ code: "STATE_DAMAGED" });
});

test("a certificate is no link, nor the other way round", async () => {
  const passes = await GuestPasses.open(new FakeClock(), memoryStore());
  const { token } = await passes.create({ ...WISH, isOnce: false });
  const digest = "ab".repeat(32);
  await passes.add({ ...WISH, isOnce: false }, "certificate", digest);
  expect(passes.holder("friends", digest)?.kind).toBe("certificate");
  expect(passes.find("friends", token)?.kind).toBe("link");
  expect([passes.holder("staff", digest), passes.find("friends", digest)]).toEqual([undefined, undefined]);
});
