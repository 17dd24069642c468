import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { FakeClock, systemClock } from "../../src/base/clock.ts";
import { seededRandom, systemRandom } from "../../src/base/random.ts";
import type { CertificateStore, Lease } from "../../src/certs/store/certificate-store.ts";
import { fileCertificateStore } from "../../src/certs/store/file-store.ts";
import { memoryCertificateStore } from "../../src/certs/store/memory-store.ts";
import { certificateStoreSuite } from "./certificate-store.ts";
import { finish, until } from "./fake-time.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "sp-certs-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const never = new AbortController().signal;
const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));

certificateStoreSuite("certificates in memory", async () => ({ store: memoryCertificateStore() }));

certificateStoreSuite("certificates in files", async () => {
  const another = () => fileCertificateStore(folder, { clock: systemClock, random: systemRandom });
  return { store: await another(), another };
});

test("files are private, plain, and leave nothing beside them", async () => {
  const root = path.join(folder, "certs");
  const store = await fileCertificateStore(root, { clock: new FakeClock(), random: systemRandom });
  for (const text of ["one", "two", "three"]) await store.write("certificates/a.example.pem", bytes(text));
  expect(readdirSync(path.join(root, "certificates")).sort()).toEqual(["a.example.pem", "a.example.pem.previous"]);
  expect(statSync(root).mode & 0o777).toBe(0o700);
  expect(statSync(path.join(root, "certificates")).mode & 0o777).toBe(0o700);
  for (const file of readdirSync(path.join(root, "certificates"))) {
    expect(statSync(path.join(root, "certificates", file)).mode & 0o777, file).toBe(0o600);
  }
});

test("what a killed writer left is cleared away a day later, and never what is being written", async () => {
  const clock = new FakeClock();
  const options = { clock, random: systemRandom };
  const store = await fileCertificateStore(folder, options);
  await store.write("a", bytes("value"));
  for (const [file, ageHours] of [
    ["a.00.new", 25],
    ["a.01.new", 23],
  ] as const) {
    writeFileSync(path.join(folder, file), "half");
    const at = new Date(clock.wall() - ageHours * 3_600_000);
    utimesSync(path.join(folder, file), at, at);
  }
  await fileCertificateStore(folder, options);
  expect(readdirSync(folder).sort()).toEqual(["a", "a.01.new"]);
  expect(await store.list("")).toEqual(["a"]);
});

test("a folder that cannot be used is a fault that names it", async () => {
  writeFileSync(path.join(folder, "file"), "");
  const options = { clock: new FakeClock(), random: systemRandom };
  const opened = fileCertificateStore(path.join(folder, "file"), options);
  await expect(opened).rejects.toMatchObject({ code: "CERT_STORE_FAILED", message: expect.stringContaining("file") });
});

/** The matrix asks for 500; that takes half a minute. */
const ROUNDS = Number(process.env["SALLYPORT_LOCK_ROUNDS"] ?? 100);

/** A process: its own clock, wrong by up to five minutes, that stands still once it is killed. */
interface Process {
  readonly clock: FakeClock;
  readonly store: CertificateStore;
}

async function startProcess(random: (length: number) => Uint8Array): Promise<Process> {
  const skew = ((random(1)[0]! - 128) / 128) * 300_000;
  const clock = new FakeClock(Date.UTC(2026, 0, 1) + skew);
  return { clock, store: await fileCertificateStore(folder, { clock, random }) };
}

describe("AC-7 a lock whose holder is gone", () => {
  test(`is taken over within 30 s of the waiter's time, ${ROUNDS} times, whatever the clocks say`, {
    timeout: 240_000,
  }, async () => {
    const random = seededRandom(7);
    let longest = 0;
    let shortest = Infinity;
    let holder = await startProcess(random);
    let lease = await finish(holder.store.lock("order", never), holder.clock);
    for (let round = 0; round < ROUNDS; round++) {
      // The holder is killed: its clock is never moved again.
      const waiter = await startProcess(random);
      const waiting = waiter.store.lock("order", never);
      const from = waiter.clock.now();
      const next = await finish(waiting, waiter.clock);
      longest = Math.max(longest, waiter.clock.now() - from);
      shortest = Math.min(shortest, waiter.clock.now() - from);
      await expect(holder.store.write("value", bytes("late"), lease), "fenced").rejects.toMatchObject({
        code: "CERT_LEASE_LOST",
      });
      await waiter.store.write("value", bytes(`${round}`), next);
      [holder, lease] = [waiter, next];
    }
    expect(longest).toBeLessThanOrEqual(30_000);
    expect(shortest, "a live holder that beats every 5 s is never overtaken").toBeGreaterThan(8_000);
    expect(readdirSync(path.join(folder, "locks/order")).length, "old generations are cleared away").toBeLessThan(5);
  });

  test("a holder that was only stopped learns that it lost the lock before it writes again", async () => {
    const random = seededRandom(3);
    const [stopped, waiter] = [await startProcess(random), await startProcess(random)];
    const lease = await finish(stopped.store.lock("order", never), stopped.clock);
    const taken = await finish(waiter.store.lock("order", never), waiter.clock);
    await expect(stopped.store.write("a", bytes("late"), lease)).rejects.toMatchObject({ code: "CERT_LEASE_LOST" });
    expect(lease.lost.aborted).toBe(true);
    await lease.release();
    await waiter.store.write("a", bytes("in time"), taken);
    expect(taken.lost.aborted).toBe(false);
  });

  test("a holder that cannot say that it lives gives up before anybody takes it for dead", async () => {
    const { clock, store } = await startProcess(seededRandom(5));
    const lease = await finish(store.lock("order", never), clock);
    rmSync(path.join(folder, "locks"), { recursive: true });
    clock.advance(7_999);
    expect(lease.lost.aborted).toBe(false);
    clock.advance(1);
    expect(lease.lost.aborted).toBe(true);
  });

  test("a holder that beats keeps it for as long as it likes", async () => {
    const random = seededRandom(9);
    const [holder, waiter] = [await startProcess(random), await startProcess(random)];
    const lease = await finish(holder.store.lock("order", never), holder.clock);
    let second: Lease | undefined;
    const waiting = waiter.store.lock("order", never).then((got) => {
      second = got;
    });
    const file = path.join(folder, "locks/order/000000000001");
    for (let passed = 0; passed < 60_000; passed += 250) {
      const before = readFileSync(file, "latin1");
      holder.clock.advance(250);
      if ((passed + 250) % 5_000 === 0) await until(() => readFileSync(file, "latin1") !== before);
      waiter.clock.advance(250);
      await until(() => waiter.clock.next !== Infinity || second !== undefined);
    }
    expect(lease.lost.aborted).toBe(false);
    expect(second).toBeUndefined();
    await lease.release();
    await finish(waiting, waiter.clock);
    expect(second).toBeDefined();
  });

  test("two who find it dead at the same moment: one is next", async () => {
    const random = seededRandom(11);
    for (let round = 0; round < 20; round++) {
      const dead = await startProcess(random);
      await finish(dead.store.lock(`order-${round}`, never), dead.clock);
      const waiters = await Promise.all([startProcess(random), startProcess(random), startProcess(random)]);
      const got: Lease[] = [];
      const abort = new AbortController();
      const waiting = waiters.map(({ store }) =>
        store.lock(`order-${round}`, abort.signal).then(
          (lease) => void got.push(lease),
          () => undefined,
        ),
      );
      await finish(Promise.race(waiting), ...waiters.map(({ clock }) => clock));
      await until(() => got.length > 0);
      expect(got).toHaveLength(1);
      abort.abort(new Error("enough"));
      await Promise.all(waiting);
      await got[0]!.release();
    }
  });
});
