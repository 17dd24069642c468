import { describe, expect, test } from "vitest";
import { ahead, DAY_MS, down, HOUR_MS, keeperScene, MINUTE_MS, NAME, refused } from "../../test/suites/keeper-scene.ts";
import { seededRandom } from "../base/random.ts";
import { letsEncryptLimits } from "./budget.ts";

describe("obtaining", () => {
  test("what is wanted ahead is there soon, what is needed only when it is needed", async () => {
    const { authority, open, pass } = await keeperScene(1);
    const keeper = await open();
    await keeper.want([...ahead(NAME, `*.${NAME}`), { names: ["later.example"], when: "needed" }]);
    await pass(MINUTE_MS);
    expect(authority.issued.map(({ names }) => names)).toEqual([[NAME, `*.${NAME}`]]);
    expect(keeper.certificate(NAME)?.names).toEqual([NAME, `*.${NAME}`]);
    expect(keeper.certificate("A.Gate.Example.")).toBe(keeper.certificate(NAME));
    expect(keeper.certificate("a.b.gate.example"), "a wildcard is one label").toBeUndefined();
    expect(keeper.certificate("later.example")).toBeUndefined();
    const [one, same] = await Promise.all([keeper.obtain("later.example"), keeper.obtain("LATER.example.")]);
    expect(one).toBe(same);
    expect(keeper.certificate("later.example")).toBe(one);
    expect(authority.issued).toHaveLength(2);
    expect(keeper.list().map(({ id, state }) => [id, state])).toEqual([
      [expect.stringMatching(/^gate\.example\+[0-9a-f]{8}$/), "valid"],
      ["later.example", "valid"],
    ]);
  });

  test("AC-10 strangers' names order nothing: 100,000 hellos, and names below ours", { timeout: 120_000 }, async () => {
    const { authority, open, pass } = await keeperScene(1);
    const keeper = await open();
    await keeper.want(ahead(NAME));
    await pass(MINUTE_MS);
    const random = seededRandom(10);
    for (let i = 0; i < 100_000; i++) {
      const word = Buffer.from(random(6)).toString("latin1");
      const name = [word, `${word}.example`, `${i}.${NAME}`, `*.${NAME}`, "", ".", `.${NAME}`, `${NAME}..`][i % 8]!;
      expect(keeper.certificate(name)).toBeUndefined();
    }
    for (const name of ["a.gate.example", "other.example", "", "*.gate.example", "127.0.0.1"]) {
      await expect(keeper.obtain(name)).rejects.toMatchObject({ code: "CERT_NAME_UNKNOWN" });
      await expect(keeper.renew(name)).rejects.toMatchObject({ code: "CERT_NAME_UNKNOWN" });
    }
    await pass(DAY_MS);
    expect(authority.issued).toHaveLength(1);
  });

  test("what nobody needed is not ordered, whatever the clock does; what was revoked is not needed any more", async () => {
    const { authority, clock, store, open, pass } = await keeperScene(28);
    let keeper = await open();
    await keeper.want([{ names: [NAME], when: "needed" }]);
    await pass(40 * DAY_MS);
    expect(authority.attempts).toEqual([]);
    authority.failure = () => refused();
    await expect(keeper.obtain(NAME)).rejects.toMatchObject({ code: "CERT_ORDER_INVALID" });
    await keeper.close();
    keeper = await open(); // which asked for nothing, and finds an attempt of the future
    clock.offset = -30 * DAY_MS;
    await keeper.want([{ names: [NAME], when: "needed" }]);
    authority.failure = undefined;
    await pass(2 * DAY_MS);
    expect(authority.attempts).toHaveLength(1);
    await keeper.renew(NAME);
    await keeper.revoke(NAME);
    await pass(2 * DAY_MS);
    expect(authority.issued).toHaveLength(1);
    expect(await store.list("certificates/")).toEqual([]);
  });

  test("who asks may stop waiting; the order goes on", async () => {
    const { authority, open, pass } = await keeperScene(1);
    const keeper = await open();
    await keeper.want([{ names: [NAME], when: "needed" }]);
    const abort = new AbortController();
    const asking = keeper.obtain(NAME, { signal: abort.signal });
    abort.abort(new Error("gone"));
    await expect(asking).rejects.toThrow("gone");
    await pass(MINUTE_MS);
    expect(authority.issued).toHaveLength(1);
    expect(keeper.certificate(NAME)).toBeDefined();
  });

  test("more life is wanted than is left: renewed at once, and only then", async () => {
    const { authority, open, pass } = await keeperScene(1);
    const keeper = await open();
    await keeper.want(ahead(NAME));
    await pass(40 * DAY_MS);
    const before = keeper.certificate(NAME);
    expect(await keeper.obtain(NAME, { minValidity: 49 * DAY_MS })).toBe(before);
    const after = await keeper.obtain(NAME, { minValidity: 51 * DAY_MS });
    expect(after.notAfter).toBeGreaterThan(before!.notAfter);
    expect(authority.issued.map(({ replaces }) => replaces)).toEqual([undefined, before!.chain]);
  });

  test("names added to a certificate: the old one serves its names until the new one is there", async () => {
    const { authority, open, pass } = await keeperScene(1);
    const keeper = await open();
    await keeper.want(ahead(NAME));
    await pass(MINUTE_MS);
    const old = keeper.certificate(NAME);
    authority.failure = () => down();
    await keeper.want(ahead(NAME, "more.example"));
    await pass(MINUTE_MS);
    expect(keeper.certificate(NAME)?.chain).toBe(old!.chain);
    expect(keeper.certificate("more.example")).toBeUndefined();
    authority.failure = undefined;
    await pass(DAY_MS);
    expect(keeper.certificate(NAME)?.names).toEqual([NAME, "more.example"]);
    await keeper.want([]);
    expect(keeper.certificate(NAME), "wanted no more").toBeUndefined();
  });

  test("names that no CA would take are refused", async () => {
    const keeper = await (await keeperScene(1)).open();
    for (const name of [
      "",
      "localhost",
      "A.example",
      "a..example",
      "-a.example",
      "1.2.3.4",
      "*.example",
      "a.*.example",
      "a_b.example",
      "a.example.",
      `${"x".repeat(64)}.example`,
      "a b.example",
      "a.example\n",
    ]) {
      await expect(keeper.want(ahead(name)), name).rejects.toMatchObject({ code: "CERT_NAME" });
    }
    await expect(keeper.want(ahead(NAME, NAME))).rejects.toMatchObject({ code: "CERT_NAME" });
  });
});

describe("what a CA allows", () => {
  test("is not asked for more than that; the rest waits its turn, and the budget says so", {
    timeout: 120_000,
  }, async () => {
    const { clock, authority, open, pass } = await keeperScene(23);
    const limits = { ...letsEncryptLimits, certificatesPerDomainWeek: 10 };
    const keeper = await open({ limits: () => limits });
    const names = Array.from({ length: 25 }, (_, i) => `n${i}.tail1.ts.net`);
    await keeper.want([...names.flatMap((name) => ahead(name)), ...ahead(NAME)]);
    await pass(HOUR_MS);
    expect(authority.issued).toHaveLength(11);
    expect(keeper.certificate(NAME), "another domain").toBeDefined();
    const line = (await keeper.budget()).find(({ subject }) => subject === "tail1.ts.net");
    expect(line).toMatchObject({ limit: "certificatesPerDomainWeek", used: 10, allowed: 10 });
    expect(line!.freeAt! - clock.wall()).toBeGreaterThan(6.9 * DAY_MS);
    await pass(15 * DAY_MS);
    expect(authority.issued).toHaveLength(26);
    expect(names.every((name) => keeper.certificate(name) !== undefined)).toBe(true);
  });

  test("the budget counts what other gateways used, and after a restart", async () => {
    const { open, pass } = await keeperScene(24);
    const [here, there] = [await open(), await open()];
    await there.want(["a", "b", "c"].flatMap((label) => ahead(`${label}.example.org`)));
    await pass(MINUTE_MS);
    const used = (await here.budget()).find(({ limit }) => limit === "certificatesPerDomainWeek");
    expect(used).toMatchObject({ subject: "example.org", used: 3, allowed: 50 });
    expect((await here.budget()).find(({ limit }) => limit === "ordersPerThreeHours")).toMatchObject({ used: 3 });
  });
});

describe("AC-6 gateways that share a store", () => {
  test("50 of them, 20 names: 20 orders, and all serve all", { timeout: 120_000 }, async () => {
    const { authority, open, pass } = await keeperScene(25);
    const names = Array.from({ length: 20 }, (_, i) => `n${i}.example`);
    const keepers = await Promise.all(Array.from({ length: 50 }, () => open()));
    await Promise.all(keepers.map((keeper) => keeper.want(names.flatMap((name) => ahead(name)))));
    await pass(HOUR_MS);
    expect(authority.issued).toHaveLength(20);
    for (const keeper of keepers) {
      for (const name of names) {
        expect(keeper.certificate(name)!.chain).toBe(keepers[0]!.certificate(name)!.chain);
      }
    }
  });
});

test("counts and events say what was done; a listener that throws does no harm", async () => {
  const { authority, open, pass } = await keeperScene(26);
  const keeper = await open();
  const seen: string[] = [];
  keeper.subscribe(() => {
    throw new Error("listener");
  });
  const stop = keeper.subscribe(({ kind }) => void seen.push(kind));
  authority.failure = refused;
  await keeper.want(ahead(NAME));
  await pass(1_000);
  authority.failure = undefined;
  await pass(2 * MINUTE_MS);
  expect(seen).toEqual(["ordering", "failed", "ordering", "installed", "issued", "asked"]);
  expect(keeper.counts()).toEqual({
    orders: [
      { authority: "first", outcome: "CERT_ORDER_INVALID", count: 1 },
      { authority: "first", outcome: "issued", count: 1 },
    ],
    renewalQueries: 1,
  });
  stop();
  await keeper.renew(NAME);
  expect(seen).toHaveLength(6);
  await keeper.close();
});
