import { describe, expect, test } from "vitest";
import {
  ahead,
  DAY_MS,
  down,
  HOUR_MS,
  keeperScene,
  MINUTE_MS,
  NAME,
  refused,
  START,
} from "../../test/suites/keeper-scene.ts";
import { Fault } from "../base/fault.ts";
import { AuthorityFault } from "./acme/authority-fault.ts";
import { newCertificateKey } from "./certificate-key.ts";
import type { CertificateStore } from "./store/certificate-store.ts";

describe("AC-5 back-off", () => {
  test("30 days of failure: at most 34 attempts; 100 restarts make them no more", { timeout: 120_000 }, async () => {
    const counts: number[] = [];
    for (const restarts of [0, 100]) {
      const { authority, open, pass } = await keeperScene(11);
      authority.failure = refused;
      let keeper = await open();
      await keeper.want(ahead(NAME));
      for (let i = 0; i < restarts; i++) {
        await pass(i < 50 ? 17_000 : 3 * HOUR_MS);
        await keeper.close();
        keeper = await open();
        await keeper.want(ahead(NAME));
      }
      await pass(30 * DAY_MS - (restarts === 0 ? 0 : 50 * 17_000 + 50 * 3 * HOUR_MS));
      counts.push(authority.attempts.length);
      const minutes = authority.attempts.slice(0, 4).map((at) => (at - START) / MINUTE_MS);
      expect(minutes[1]).toBeCloseTo(1, -0.5);
      expect(minutes[2]).toBeGreaterThanOrEqual(11);
      expect(minutes[2]).toBeLessThan(13);
      expect(minutes[3]).toBeGreaterThanOrEqual(111);
      expect(minutes[3]).toBeLessThan(120);
      expect(keeper.list()[0]).toMatchObject({ state: "waiting", lastFailure: { code: "CERT_ORDER_INVALID" } });
    }
    expect(Math.max(...counts)).toBeLessThanOrEqual(34);
    expect(Math.abs(counts[0]! - counts[1]!)).toBeLessThanOrEqual(1);
  });

  test("too early is said with the reason and the time; by hand it is tried at once", async () => {
    const { authority, clock, open, pass } = await keeperScene(12);
    authority.failure = refused;
    const keeper = await open();
    await keeper.want([{ names: [NAME], when: "needed" }]);
    await expect(keeper.obtain(NAME)).rejects.toMatchObject({ code: "CERT_ORDER_INVALID" });
    const fault = await keeper.obtain(NAME).catch((error: unknown) => error);
    expect(fault).toMatchObject({ code: "CERT_WAITING", message: expect.stringContaining("the order is invalid") });
    expect((fault as { until: number }).until - clock.wall()).toBeLessThanOrEqual(1.06 * MINUTE_MS);
    expect(authority.attempts).toHaveLength(1);
    authority.failure = undefined;
    await keeper.renew(NAME);
    expect(keeper.certificate(NAME)).toBeDefined();
    await pass(DAY_MS);
    expect(authority.issued).toHaveLength(1);
  });

  test("a CA that says when: not before, neither by itself nor by hand", async () => {
    const { authority, open, pass } = await keeperScene(13);
    authority.failure = () => new AuthorityFault("CERT_ORDER_RATE_LIMITED", "too many", { retryAfter: 5 * HOUR_MS });
    const keeper = await open();
    await keeper.want(ahead(NAME));
    await pass(5 * HOUR_MS - MINUTE_MS);
    expect(authority.attempts).toHaveLength(1);
    await expect(keeper.renew(NAME)).rejects.toMatchObject({ code: "CERT_WAITING", until: START + 5 * HOUR_MS });
    authority.failure = undefined;
    await pass(2 * MINUTE_MS);
    expect(authority.issued).toHaveLength(1);
  });

  test("one that says years is asked again after a week", async () => {
    const { authority, open, pass } = await keeperScene(14);
    authority.failure = () => down(10 * 365 * DAY_MS);
    const keeper = await open();
    await keeper.want(ahead(NAME));
    await pass(8 * DAY_MS);
    expect(authority.attempts).toHaveLength(2);
  });

  test("a process that ended in the middle goes on at once; the second time it waits", async () => {
    const { authority, open, pass } = await keeperScene(15);
    let crash = 0;
    authority.failure = () => {
      // As if the process had ended: nobody hears of the result.
      if (crash++ < 3) void keeper.close();
      return undefined;
    };
    let keeper = await open();
    for (let start = 0; start < 4; start++) {
      if (start > 0) keeper = await open();
      await keeper.want(ahead(NAME));
      await pass(20_000);
    }
    expect(authority.attempts.length).toBeLessThanOrEqual(3);
    authority.failure = undefined;
    await pass(DAY_MS);
    expect(keeper.certificate(NAME)).toBeDefined();
  });
});

describe("AC-9 a second CA", () => {
  test("is used after three failures of the first, for all names; the first is asked again later", {
    timeout: 120_000,
  }, async () => {
    const { clock, authority, second, open, pass } = await keeperScene(16);
    authority.failure = () => down();
    const keeper = await open({ authorities: [authority, second] });
    await keeper.want(ahead(NAME));
    await pass(HOUR_MS);
    expect(authority.attempts).toHaveLength(3);
    expect(second.issued).toHaveLength(1);
    expect(keeper.list()[0]).toMatchObject({ state: "valid", authority: "second" });
    await keeper.want([...ahead(NAME), ...ahead("other.example")]);
    await pass(MINUTE_MS);
    expect(authority.attempts, "it is known to be down").toHaveLength(3);
    expect(second.issued).toHaveLength(2);
    authority.failure = undefined;
    await pass(62 * DAY_MS);
    expect(authority.issued.map(({ names }) => names[0]).sort()).toEqual([NAME, "other.example"].sort());
    expect(
      authority.issued.every(({ replaces }) => replaces === undefined),
      "it never saw the old ones",
    ).toBe(true);
    expect(clock.wall() - START).toBeLessThan(64 * DAY_MS);
  });

  test("both fail for 30 days: at most 34 attempts, shared", async () => {
    const { authority, second, open, pass } = await keeperScene(17);
    authority.failure = refused;
    second.failure = refused;
    const keeper = await open({ authorities: [authority, second] });
    await keeper.want(ahead(NAME));
    await pass(30 * DAY_MS);
    expect(authority.attempts.length + second.attempts.length).toBeLessThanOrEqual(34);
    expect(Math.min(authority.attempts.length, second.attempts.length)).toBeGreaterThan(10);
  });
});

describe("AC-8 the old one serves until the new one is good", () => {
  test("a bad new certificate is not installed, the old one stays, and the fault is seen", async () => {
    const { authority, open, pass } = await keeperScene(18);
    const keeper = await open();
    await keeper.want(ahead(NAME));
    await pass(MINUTE_MS);
    const old = keeper.certificate(NAME);
    authority.instead = async (right) => ({ ...right, key: await newCertificateKey() });
    await pass(62 * DAY_MS);
    expect(keeper.certificate(NAME)).toBe(old);
    expect(keeper.list()[0]).toMatchObject({
      state: "valid",
      lastFailure: { code: "CERT_REJECTED", message: expect.stringContaining("key is another") },
      nextAttempt: expect.any(Number),
    });
    authority.instead = undefined;
    await pass(2 * DAY_MS);
    expect(keeper.certificate(NAME)!.notAfter).toBeGreaterThan(old!.notAfter);
    expect(keeper.list()[0]!.lastFailure).toBeUndefined();
  });

  test("a store that does not take it: the old one stays, and it is fetched again, not ordered again", async () => {
    const { store, authority, open, pass } = await keeperScene(19);
    let broken = false;
    const keeper = await open({
      store: {
        ...store,
        async write(path, value, lease) {
          if (broken && path.startsWith("certificates/")) throw new Error("disk full");
          await store.write(path, value, lease);
        },
      },
    });
    await keeper.want(ahead(NAME));
    await pass(MINUTE_MS);
    const old = keeper.certificate(NAME);
    broken = true;
    const keys = new Set<string>();
    authority.failure = ({ progress }) => void keys.add(progress.key) as undefined;
    await pass(62 * DAY_MS);
    expect(keeper.certificate(NAME)).toBe(old);
    broken = false;
    await pass(2 * DAY_MS);
    expect(keeper.certificate(NAME)!.notAfter).toBeGreaterThan(old!.notAfter);
    expect(keys.size, "one key, so one order").toBe(1);
  });

  test("what is damaged in the store: the one before it, else a new one", async () => {
    const { store, authority, open, pass } = await keeperScene(20);
    let keeper = await open();
    await keeper.want(ahead(NAME));
    await pass(62 * DAY_MS);
    expect(authority.issued).toHaveLength(2);
    const bytes = (await store.read(`certificates/${NAME}.pem`))!;
    const previous = await store.previous(`certificates/${NAME}.pem`);
    await keeper.close();
    const damaged: CertificateStore = {
      ...store,
      read: async (path) => (path.startsWith("certificates/") ? bytes.slice(0, bytes.length / 2) : store.read(path)),
      previous: async () => previous,
    };
    keeper = await open({ store: damaged });
    await keeper.want([{ names: [NAME], when: "needed" }]);
    expect(keeper.certificate(NAME)?.notAfter).toBe(authority.issued[0]!.at - HOUR_MS + 90 * DAY_MS);
    await keeper.close();
    keeper = await open({ store: { ...damaged, previous: async () => undefined } });
    await keeper.want([{ names: [NAME], when: "needed" }]);
    expect(keeper.certificate(NAME)).toBeUndefined();
  });
});

test("ST-6 the store fails at each of its calls, once or for a day: the old one serves, and it comes right by itself", {
  timeout: 120_000,
}, async () => {
  const failing = (store: CertificateStore, fails: () => boolean): CertificateStore => {
    const guard = <Args extends unknown[], T>(call: (...args: Args) => Promise<T>) => {
      return async (...args: Args): Promise<T> => {
        if (fails()) throw new Fault("CERT_STORE_FAILED", "Cannot write: no space left on device");
        return call(...args);
      };
    };
    const { read, write, previous, delete: remove, list, lock, close } = store;
    return {
      read: guard(read),
      write: guard(write),
      previous: guard(previous),
      delete: guard(remove),
      list: guard(list),
      lock: guard(lock),
      close,
    };
  };
  let calls = Infinity;
  for (let failAt = 1; failAt <= calls; failAt++) {
    for (const lastsForADay of [false, true]) {
      const { store, clock, authority, open, pass } = await keeperScene(30 + failAt);
      let [call, isArmed, failedAt] = [0, false, 0];
      const fails = (): boolean => {
        if (!isArmed || ++call < failAt) return false;
        if (call === failAt) failedAt = clock.now();
        return call === failAt || (lastsForADay && clock.now() - failedAt < DAY_MS);
      };
      const keeper = await open({ store: failing(store, fails) });
      await keeper.want(ahead(NAME));
      await pass(HOUR_MS);
      const old = keeper.certificate(NAME);
      isArmed = true;
      await keeper.renew(NAME).catch((error: unknown) => expect(error).toMatchObject({ code: "CERT_STORE_FAILED" }));
      if (call < failAt) calls = call; // the renewal has no more calls than that
      expect(keeper.certificate(NAME), `call ${failAt}`).toBeDefined();
      await pass(70 * DAY_MS);
      expect(keeper.certificate(NAME)!.notAfter, `call ${failAt}`).toBeGreaterThan(old!.notAfter);
      expect(keeper.list()[0], `call ${failAt}`).toMatchObject({ state: "valid" });
      expect(keeper.list()[0]!.lastFailure, `call ${failAt}`).toBeUndefined();
      expect(authority.issued.length, `call ${failAt}`).toBeLessThanOrEqual(4);
    }
  }
});
