import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { startCa } from "../../test/acme-ca/customer.ts";
import { hastyClock } from "../../test/acme-ca/hasty-clock.ts";
import { Shown } from "../../test/acme-ca/shown.ts";
import type { TestCa } from "../../test/acme-ca/test-ca.ts";
import { until } from "../../test/suites/fake-time.ts";
import { type Clock, systemClock } from "../base/clock.ts";
import { silentLog } from "../base/log.ts";
import { systemRandom } from "../base/random.ts";
import { openAuthority } from "./acme/acme-authority.ts";
import type { CertificateKeeper } from "./keeper.ts";
import { openKeeper } from "./open-keeper.ts";
import { fileCertificateStore } from "./store/file-store.ts";

const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;
const NAMES = ["gate.example", "*.gate.example"];

let folder: string;
let keepers: CertificateKeeper[] = [];
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "sp-keeper-"));
});
afterEach(async () => {
  for (const keeper of keepers) await keeper.close();
  keepers = [];
  rmSync(folder, { recursive: true, force: true });
});

/** A gateway, from its files, with the CAs in this order; `when` is its wall clock. */
async function start(when: () => number, ...cas: readonly (TestCa | string)[]): Promise<CertificateKeeper> {
  const clock: Clock = { ...hastyClock(), wall: when };
  // Whose heartbeats are not to be hurried.
  const store = await fileCertificateStore(folder, { clock: systemClock, random: systemRandom });
  const authorities = cas.map((ca, index) => {
    const directory = typeof ca === "string" ? ca : ca.directory;
    return openAuthority({ id: `ca-${index}`, directory, store, clock, log: silentLog, agreeToTerms: true });
  });
  const roots = cas.flatMap((ca) => (typeof ca === "string" ? [] : [ca.root]));
  const around = { store, clock, random: systemRandom, log: silentLog, roots };
  const keeper = await openKeeper({ ...around, authorities, solvers: [new Shown("dns-01")] });
  keepers.push(keeper);
  await keeper.want([{ names: NAMES, when: "needed" }]);
  return keeper;
}

const files = (): string[] =>
  readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((file) => /\.(?:pem|json)$/.test(file));

test("over ACME, in files: issued, loaded by the next process, renewed when the CA says so, revoked", async () => {
  let now = Date.now();
  const ca = await startCa({ wall: () => now });
  let keeper = await start(() => now, ca);
  const first = await keeper.obtain("a.gate.example");
  expect(first.names).toEqual(NAMES);
  expect(keeper.list()[0]).toMatchObject({ state: "valid", authority: "ca-0", notAfter: first.notAfter });
  await keeper.close();
  keeper = await start(() => now, ca);
  expect(keeper.certificate("gate.example")).toEqual(first);
  await keeper.idle();
  expect(ca.orders).toHaveLength(1);
  // What a CA does that is about to revoke: the window is past.
  await keeper.close();
  now += DAY_MS;
  ca.window = () => ({ start: now - 2 * HOUR_MS, end: now - HOUR_MS });
  keeper = await start(() => now, ca);
  await until(() => keeper.certificate("gate.example")?.chain !== first.chain);
  await keeper.idle();
  expect(ca.orders.map(({ status, replaces }) => [status, typeof replaces])).toEqual([
    ["valid", "undefined"],
    ["valid", "string"],
  ]);
  ca.window = undefined;
  await keeper.revoke("gate.example");
  expect(ca.revoked).toHaveLength(1);
  expect(keeper.certificate("gate.example")).toBeUndefined();
  expect(files().filter((file) => /^(?:certificates|orders)/.test(file))).toEqual([]);
});

test("AC-6 the answer with the certificate is lost: the same order is gone on with, by hand or later", async () => {
  const now = Date.now();
  const ca = await startCa();
  const keeper = await start(() => now, ca);
  ca.loses = ({ resource }) => resource === "certificate";
  await expect(keeper.obtain("gate.example")).rejects.toMatchObject({ code: "CERT_ORDER_UNREACHABLE" });
  expect(files().filter((file) => file.startsWith("orders"))).toHaveLength(1);
  ca.loses = () => false;
  await expect(keeper.obtain("gate.example")).rejects.toMatchObject({ code: "CERT_WAITING" });
  await keeper.renew("gate.example");
  expect(ca.orders.map(({ status }) => status)).toEqual(["valid"]);
  expect(files().filter((file) => file.startsWith("orders"))).toEqual([]);
});

test("AC-5 a CA that says 429 and when is left alone until then, by a restarted gateway too", async () => {
  let now = Date.now();
  const ca = await startCa({ wall: () => now });
  let keeper = await start(() => now, ca);
  const body = { type: "urn:ietf:params:acme:error:rateLimited", detail: "too many certificates" };
  ca.instead = ({ resource }) =>
    resource === "newOrder" ? { status: 429, headers: { "retry-after": "7200" }, body } : undefined;
  await expect(keeper.obtain("gate.example")).rejects.toMatchObject({ code: "CERT_ORDER_RATE_LIMITED" });
  ca.instead = () => undefined;
  await keeper.close();
  now += HOUR_MS;
  keeper = await start(() => now, ca);
  const asked = ca.requests.length;
  const words = expect.stringContaining("too many certificates");
  await expect(keeper.renew("gate.example")).rejects.toMatchObject({ code: "CERT_WAITING", message: words });
  expect(ca.requests).toHaveLength(asked);
  now += HOUR_MS + 1000;
  await keeper.obtain("gate.example");
  expect(ca.orders).toHaveLength(1);
});

test("AC-9 a CA that is not there: the second issues after three failures, with an account of its own", async () => {
  let now = Date.now();
  const [gone, ca] = [await startCa(), await startCa({ wall: () => now })];
  await gone.close().catch(() => undefined);
  const keeper = await start(() => now, gone.directory, ca);
  for (let failures = 0; failures < 3; failures++) {
    await expect(keeper.obtain("gate.example")).rejects.toMatchObject({ code: "CERT_ORDER_UNREACHABLE" });
    now += 15 * 60_000;
  }
  await keeper.obtain("gate.example");
  expect(keeper.list()[0]).toMatchObject({ state: "valid", authority: "ca-1" });
  expect(ca.accounts).toHaveLength(1);
  expect(
    files()
      .filter((file) => file.startsWith("accounts"))
      .sort()[1],
  ).toContain("ca-1");
});
