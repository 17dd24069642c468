import { describe, expect, test } from "vitest";
import type { CertificateForm } from "../../test/suites/fake-authority.ts";
import { until } from "../../test/suites/fake-time.ts";
import {
  ahead,
  DAY_MS,
  HOUR_MS,
  keeperScene,
  MINUTE_MS,
  NAME,
  refused,
  START,
} from "../../test/suites/keeper-scene.ts";
import { newCertificateKey } from "./certificate-key.ts";
import type { CertificateStore } from "./store/certificate-store.ts";

describe("AC-3 renewal as the CA suggests", () => {
  test("a year of renewals: none missed, none early, asked at least twice a day", { timeout: 120_000 }, async () => {
    const { clock, authority, open, pass } = await keeperScene(3);
    // As Let's Encrypt: two days around two thirds of the life, asked again after six hours.
    const windows = new Map<string, { start: number; end: number; retryAfter: number }>();
    authority.window = (chain) => {
      const now = authority.issued.at(-1)!.at;
      const middle = now + 60 * DAY_MS;
      const window = windows.get(chain) ?? { start: middle - DAY_MS, end: middle + DAY_MS, retryAfter: 6 * HOUR_MS };
      windows.set(chain, window);
      return window;
    };
    const keeper = await open();
    await keeper.want(ahead(NAME));
    const chains = new Set<string>();
    for (let day = 0; day < 365; day++) {
      await pass(DAY_MS);
      expect(keeper.list()[0]).toMatchObject({ state: "valid" });
      chains.add(keeper.certificate(NAME)!.chain);
    }
    const times = authority.issued.map(({ at }) => at);
    expect(times).toHaveLength(7); // at days 0, 60, 120, … 360
    for (const [index, at] of times.slice(1).entries()) {
      expect(at - times[index]!).toBeGreaterThanOrEqual(59 * DAY_MS);
      expect(at - times[index]!).toBeLessThanOrEqual(61 * DAY_MS + 10 * MINUTE_MS);
    }
    expect(authority.issued.slice(1).every(({ replaces }, i) => replaces === [...chains][i])).toBe(true);
    const gaps = authority.queries.slice(1).map((at, i) => ({ ms: at - authority.queries[i]!, at }));
    expect(Math.max(...gaps.map(({ ms }) => ms))).toBeLessThan(12 * HOUR_MS);
    // A new certificate is asked about at once.
    const usual = gaps.filter(({ at }) => !times.some((issuedAt) => at - issuedAt < HOUR_MS && at >= issuedAt));
    expect(Math.min(...usual.map(({ ms }) => ms)), "its Retry-After").toBeGreaterThanOrEqual(6 * HOUR_MS);
    expect(clock.wall()).toBe(START + 365 * DAY_MS);
  });

  test("restarts and replicas keep the moment that was drawn", async () => {
    const { authority, open, pass } = await keeperScene(4);
    authority.window = () => ({ start: START + 20 * DAY_MS, end: START + 80 * DAY_MS, retryAfter: 6 * HOUR_MS });
    let keeper = await open();
    await keeper.want(ahead(NAME));
    await pass(HOUR_MS);
    const { renewAt } = keeper.list()[0]!;
    for (let restart = 0; restart < 20; restart++) {
      await keeper.close();
      keeper = await open();
      await keeper.want(ahead(NAME));
      await pass(7 * HOUR_MS);
      expect(keeper.list()[0]!.renewAt).toBe(renewAt);
    }
    expect(authority.issued).toHaveLength(1);
  });

  test("a CA that wants everything renewed all the time gets two orders a day", { timeout: 120_000 }, async () => {
    const { authority, clock, open, pass } = await keeperScene(5);
    authority.window = () => ({ start: clock.wall() - 2 * DAY_MS, end: clock.wall() - DAY_MS, retryAfter: 0 });
    const keeper = await open();
    await keeper.want(ahead(NAME));
    await pass(4 * DAY_MS);
    expect(authority.issued.length).toBeGreaterThan(4);
    expect(authority.issued.length).toBeLessThanOrEqual(10);
    expect(authority.queries.length, "once a minute at most").toBeLessThan(4 * 24 * 60);
  });

  test("one that gives what is due already gets an order an hour, not one a second", async () => {
    const { authority, open, pass, clock, signer } = await keeperScene(6);
    const right = { ...(await signedFor({ notBefore: START - 80 * DAY_MS, notAfter: START + 10 * DAY_MS })) };
    authority.instead = async ({ key }) => ({
      ...right,
      key,
      chain: (await signer.sign({ ...right, key })) + signer.chain.join(""),
    });
    const keeper = await open({ limits: () => undefined });
    await keeper.want(ahead(NAME));
    await pass(DAY_MS);
    expect(clock.wall()).toBe(START + DAY_MS);
    expect(authority.issued.length).toBeLessThanOrEqual(26);
  });
});

async function signedFor(life: { notBefore: number; notAfter: number }): Promise<CertificateForm> {
  return { names: [NAME], key: await newCertificateKey(), ...life };
}

describe("AC-13 what must be replaced before its time", () => {
  test("the CA moved the window to the past, as it does when it revokes: replaced at the next question", async () => {
    const { authority, clock, open, pass } = await keeperScene(7);
    const keeper = await open();
    await keeper.want(ahead(NAME));
    authority.window = () => ({ start: START + 50 * DAY_MS, end: START + 60 * DAY_MS, retryAfter: HOUR_MS });
    await pass(10 * DAY_MS);
    const movedAt = clock.wall();
    const first = authority.issued.length;
    const old = keeper.certificate(NAME)!.chain;
    authority.window = (chain) =>
      chain === old ? { start: movedAt - 2 * HOUR_MS, end: movedAt - HOUR_MS, retryAfter: HOUR_MS } : undefined;
    await pass(HOUR_MS + 10 * MINUTE_MS);
    expect(authority.issued).toHaveLength(first + 1);
    expect(authority.issued.at(-1)!.replaces).toBe(old);
    expect(keeper.certificate(NAME)!.chain).not.toBe(old);
    await pass(10 * DAY_MS);
    expect(authority.issued).toHaveLength(first + 1);
  });

  test("revoked by hand: forgotten, and another is ordered at once", async () => {
    const { authority, store, open, pass } = await keeperScene(8);
    const keeper = await open();
    await keeper.want(ahead(NAME));
    await pass(DAY_MS);
    const old = keeper.certificate(NAME)!.chain;
    await keeper.revoke(NAME);
    expect(authority.revoked).toEqual([old]);
    await pass(MINUTE_MS);
    expect(authority.issued).toHaveLength(2);
    expect(keeper.certificate(NAME)!.chain).not.toBe(old);
    expect(Buffer.from((await store.read(`certificates/${NAME}.pem`))!).toString()).not.toContain(old.slice(0, 200));
  });

  test("replaced by another gateway: this one serves the new one within the hour", async () => {
    const { open, pass } = await keeperScene(9);
    const [here, there] = [await open(), await open()];
    await here.want(ahead(NAME));
    await there.want(ahead(NAME));
    await pass(DAY_MS);
    const renewed = await there.renew(NAME);
    await pass(HOUR_MS + 10 * MINUTE_MS);
    expect(here.certificate(NAME)!.chain).toBe(renewed.chain);
  });
});

describe("a clock that jumps", () => {
  test("a month ahead and back: nothing is lost, and there is no storm", { timeout: 120_000 }, async () => {
    const { clock, authority, open, pass } = await keeperScene(21);
    const keeper = await open({ limits: () => undefined });
    const names = Array.from({ length: 8 }, (_, i) => `n${i}.example`);
    await keeper.want(names.flatMap((name) => ahead(name)));
    await pass(45 * DAY_MS);
    expect(authority.issued).toHaveLength(8);
    clock.offset += 31 * DAY_MS;
    await pass(HOUR_MS);
    expect(authority.issued, "all are past two thirds of their life by this clock").toHaveLength(16);
    await pass(DAY_MS);
    expect(authority.issued).toHaveLength(16);
    clock.offset -= 31 * DAY_MS;
    await pass(10 * DAY_MS);
    expect(authority.issued).toHaveLength(16);
    expect(
      authority.queries.some((at) => at > START + 50 * DAY_MS && at < START + 56 * DAY_MS),
      "it goes on asking",
    ).toBe(true);
    for (const name of names) expect(keeper.certificate(name)).toBeDefined();
  });

  test("failures while it was a month ahead do not make a month of waiting", async () => {
    const { clock, authority, open, pass } = await keeperScene(22);
    authority.failure = refused;
    const keeper = await open();
    clock.offset = 31 * DAY_MS;
    await keeper.want(ahead(NAME));
    await pass(5 * HOUR_MS);
    expect(keeper.certificate(NAME)).toBeUndefined();
    clock.offset = 0;
    authority.failure = undefined;
    await pass(25 * HOUR_MS + 30 * MINUTE_MS);
    expect(keeper.certificate(NAME)).toBeDefined();
  });
});

test("a look at the store that ends after a renewal began takes nothing back", async () => {
  const { store, clock, open, pass } = await keeperScene(27);
  let held: Promise<void> | undefined;
  let release = (): void => {};
  const slow: CertificateStore = {
    ...store,
    async read(path) {
      const value = await store.read(path);
      const wait = path.startsWith("life/") ? held : undefined;
      if (wait !== undefined) {
        held = undefined;
        await wait;
      }
      return value;
    },
  };
  const keeper = await open({ store: slow });
  await keeper.want(ahead(NAME));
  await pass(HOUR_MS - MINUTE_MS);
  held = new Promise((resolve) => {
    release = resolve;
  });
  clock.advance(11 * MINUTE_MS); // the hour's look begins, and waits for its disk
  expect(held).toBeDefined();
  const renewed = await keeper.renew(NAME);
  expect(held, "the look has read what was there before").toBeUndefined();
  release();
  await keeper.idle();
  expect(keeper.certificate(NAME)).toBe(renewed);
  expect(keeper.list()[0]!.notAfter).toBe(renewed.notAfter);
  const used = (await keeper.budget()).find(({ limit }) => limit === "identicalWeek");
  expect(used).toMatchObject({ used: 2 });
});

test("a look in the middle of a revocation does no harm", async () => {
  const { store, clock, authority, open, pass } = await keeperScene(29);
  let held: Promise<void> | undefined;
  let release = (): void => {};
  const slow: CertificateStore = {
    ...store,
    async write(path, value, lease) {
      await held;
      await store.write(path, value, lease);
    },
  };
  const keeper = await open({ store: slow });
  await keeper.want(ahead(NAME));
  await pass(HOUR_MS);
  held = new Promise((resolve) => {
    release = resolve;
  });
  const revoking = keeper.revoke(NAME);
  await until(() => keeper.certificate(NAME) === undefined);
  clock.advance(11 * MINUTE_MS);
  expect(keeper.list()[0]!.state).toBe("none");
  held = undefined;
  release();
  await revoking;
  await keeper.idle();
  expect(authority.issued).toHaveLength(2);
});
