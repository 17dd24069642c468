import "reflect-metadata"; // @peculiar/x509 wants it first
import { webcrypto } from "node:crypto";
import * as x509 from "@peculiar/x509";
import { beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { Issuer } from "../../../test/acme-ca/issuer.ts";
import { type TestLog, testLog } from "../../../test/suites/transparency-log.ts";
import { FakeClock } from "../../base/clock.ts";
import { silentLog } from "../../base/log.ts";
import { memoryStore } from "../../base/store.ts";
import type { Certificate } from "../certificate.ts";
import { openLog } from "./open-log.ts";
import { TransparencyWatch } from "./transparency-watch.ts";
import { WatchedNames } from "./watched-names.ts";

const WALL = Date.UTC(2026, 0, 1);
const HOUR_MS = 3_600_000;
const NAME = "web.mesh.example.org";
const ECDSA = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const WAIT = { timeout: 30_000, interval: 2 };
let issuer: Issuer;

beforeAll(async () => {
  x509.cryptoProvider.set(webcrypto as unknown as Crypto);
  issuer = await Issuer.create(WALL);
});

/** A certificate by the tests' CA; PEM with its chain. */
async function issued(names: readonly string[], keys?: webcrypto.CryptoKeyPair): Promise<Certificate> {
  const own = keys ?? (await webcrypto.subtle.generateKey(ECDSA, true, ["sign", "verify"]));
  const extensions = [new x509.SubjectAlternativeNameExtension(names.map((value) => ({ type: "dns", value })))];
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    keys: own,
    signingAlgorithm: ECDSA,
    extensions,
  });
  const notAfter = WALL + 90 * 24 * HOUR_MS;
  const { chain } = await issuer.issue(request, WALL, notAfter);
  return { names, key: "", chain, notBefore: WALL, notAfter };
}

/** Nothing is on its way: what comes next comes with time. */
const isWaiting = (clock: FakeClock) => expect.poll(() => clock.next, WAIT).toBeLessThan(Number.POSITIVE_INFINITY);

interface Scene {
  readonly log: TestLog;
  readonly clock: FakeClock;
  readonly held: Certificate[];
  readonly lines: string[];
  watch: TransparencyWatch;
  /** Another watch on the same state, as after a restart. */
  restart(): Promise<void>;
}

const KINDS = ["rfc6962", "static"] as const;

async function scene(
  kind: (typeof KINDS)[number] = "rfc6962",
  { domains = [], known = [] }: { domains?: string[]; known?: string[] } = {},
): Promise<Scene> {
  const log = await testLog();
  const clock = new FakeClock(WALL);
  const held: Certificate[] = [];
  const store = memoryStore();
  const lines: string[] = [];
  const error = (event: string): void => void lines.push(event);
  const url = kind === "static" ? `${log.url}/static/` : log.url;
  const open = (): Promise<TransparencyWatch> =>
    TransparencyWatch.open({
      logs: [openLog(url, log.key, kind)],
      names: () => new WatchedNames([NAME, "*.apps.example.org", "shop.example"], domains),
      held: () => held,
      ...{ known, everyMs: 10 * 60_000, store, clock },
      log: { ...silentLog, error, warn: error, with: () => silentLog },
    });
  for (let i = 0; i < 7; i++) log.add((await issued([`other${i}.example.net`])).chain);
  log.publish(WALL);
  const made: Scene = {
    ...{ log, clock, held, lines, watch: await open() },
    restart: async () => {
      await made.watch.close();
      made.watch = await open();
    },
  };
  onTestFinished(() => made.watch.close());
  await isRead(made);
  return made;
}

/** Time goes on until the log was read to its end once more; the pauses between requests are part of it. */
async function isRead({ watch, clock, log }: Scene): Promise<void> {
  const before = watch.logs[0]!.checkedAt;
  const asked = log.asked.length;
  await expect
    .poll(() => {
      // Slowly while an answer is on its way: that takes real time, on a busy machine much.
      const step = log.asked.length > asked ? 250 : 10_000;
      if (watch.logs[0]!.checkedAt === before) clock.advance(step);
      return watch.logs[0]!.checkedAt;
    }, WAIT)
    .toBeGreaterThan(before);
}

/** What is alarmed of within an hour of the log's showing it. */
async function alarmsAfter(made: Scene): Promise<readonly (readonly string[])[]> {
  const { clock, log } = made;
  log.publish(clock.wall());
  const shownAt = clock.wall();
  await isRead(made);
  for (let minute = 0; minute < 7; minute++) {
    clock.advance(60_000);
    await new Promise((resolve) => setImmediate(resolve));
  }
  await expect.poll(() => made.watch.logs[0]!.behind, WAIT).toBe(0);
  expect(clock.wall() - shownAt).toBeLessThan(HOUR_MS);
  return made.watch.alarms.map(({ names }) => names);
}

describe.each(KINDS)("FN-12 a log of the kind %s", (kind) => {
  test("a certificate for a public name with another key is alarmed of within the hour, promised or issued", async () => {
    const made = await scene(kind);
    const { log, watch } = made;
    log.promise((await issued([NAME, "unrelated.example"])).chain);
    const both = await issued(["*.mesh.example.org"]);
    log.promise(both.chain);
    log.add(both.chain);
    expect(await alarmsAfter(made)).toEqual([[NAME], ["*.mesh.example.org"]]);
    const [first] = watch.alarms;
    expect(first).toMatchObject({ issuer: "CN=Test intermediate", serial: expect.stringMatching(/^5A/), index: 7 });
    expect(watch.problems[0]).toBe(
      `Somebody else has a certificate for ${NAME}: by CN=Test intermediate, serial ${first!.serial}, key sha256:${first!.key}, entry 7 of ${watch.logs[0]!.url}`,
    );
    expect(made.lines).toEqual(["certificates.unknown", "certificates.unknown"]);
  });

  test("ours are known, also those that are ordered right now and those of before", async () => {
    const made = await scene(kind);
    const [old, current, coming] = await Promise.all([issued([NAME]), issued([NAME]), issued([NAME])]);
    made.held.push(old);
    made.clock.advance(60_000);
    await new Promise((resolve) => setImmediate(resolve));
    made.held.splice(0, 1, current);
    for (const one of [old, current, coming]) made.log.promise(one.chain);
    made.log.publish(made.clock.wall());
    await isRead(made);
    made.held.splice(0, 1, coming); // it came with the next breath
    expect(await alarmsAfter(made)).toEqual([]);
  });

  test("over 256 entries, over a restart, and over one in the middle of reading, none is passed over", async () => {
    const made = await scene(kind);
    const { log, clock } = made;
    const filler = Buffer.from("no certificate");
    for (let i = 0; i < 300; i++) log.addLeaf(filler);
    log.promise((await issued(["one.apps.example.org"])).chain);
    for (let i = 0; i < 250; i++) log.addLeaf(filler);
    log.publish(clock.wall());
    await made.restart();
    log.faults.status = 503;
    await expect.poll(() => made.lines.includes("certificates.log_unread"), WAIT).toBe(true);
    delete log.faults.status;
    clock.advance(10 * 60_000);
    await expect.poll(() => made.watch.logs[0]!.behind, WAIT).toBeGreaterThan(0);
    await made.restart();
    expect(await alarmsAfter(made)).toEqual([["one.apps.example.org"]]);
    await made.restart();
    expect(made.watch.alarms).toHaveLength(1);
  });

  test("a log that shows other entries than it has signed is told of, and is read on", async () => {
    const made = await scene(kind);
    const { log, clock } = made;
    for (let i = 0; i < 20; i++) log.addLeaf(Buffer.of(i));
    log.faults.hides = 15;
    log.publish(clock.wall());
    clock.advance(10 * 60_000);
    await expect.poll(() => made.watch.problems, WAIT).toEqual([expect.stringContaining("that it has not signed")]);
    delete log.faults.hides;
    await made.restart();
    await isRead(made);
    log.add((await issued([NAME])).chain);
    expect(await alarmsAfter(made)).toEqual([[NAME]]);
    expect(made.watch.problems).toHaveLength(2);
  });

  test("a head that somebody else has signed is no head", async () => {
    const made = await scene(kind);
    const { clock } = made;
    const other = await testLog();
    await made.watch.close();
    const watch = await TransparencyWatch.open({
      logs: [openLog(made.watch.logs[0]!.url, other.key, kind)],
      names: () => new WatchedNames([NAME], []),
      ...{ held: () => [], known: [], everyMs: 10 * 60_000, store: memoryStore(), clock, log: silentLog },
    });
    onTestFinished(() => watch.close());
    await isWaiting(clock);
    for (let minute = 0; minute < 70; minute++) {
      clock.advance(60_000);
      await isWaiting(clock);
    }
    await expect.poll(() => watch.problems, WAIT).toEqual([expect.stringContaining("no signature by the key")]);
  });
});

describe("FN-12 what is watched", () => {
  test.each<[names: string[], isOurs: boolean]>([
    [["WEB.mesh.example.org"], true],
    [["*.mesh.example.org"], true],
    [["mesh.example.org"], false],
    [["web.mesh.example.org.evil.example"], false],
    [["deep.web.mesh.example.org"], false],
    [["a.apps.example.org"], true],
    [["*.apps.example.org"], true],
    [["a.b.apps.example.org"], false],
    [["apps.example.org"], false],
    [["shop.example"], true],
    [["www.shop.example"], false],
    [["below.of.all.example.com"], true],
    [["*.all.example.com"], true],
    [["small.example.com"], false],
  ])("%j: %j", async (names, isOurs) => {
    const made = await scene("rfc6962", { domains: ["all.example.com"] });
    made.log.add((await issued(names)).chain);
    expect(await alarmsAfter(made)).toHaveLength(isOurs ? 1 : 0);
  });

  test("a key that the operator names is ours, and takes the alarm back", async () => {
    const made = await scene();
    made.log.add((await issued([NAME])).chain);
    expect(await alarmsAfter(made)).toHaveLength(1);
    const { key } = made.watch.alarms[0]!;
    const again = await scene("rfc6962", { known: [key] });
    again.log.add((await issued([NAME])).chain);
    expect(await alarmsAfter(again)).toHaveLength(1); // another key
    expect(again.watch.alarms[0]!.key).not.toBe(key);
  });

  test("an alarm ends with its certificate", async () => {
    const made = await scene();
    made.log.add((await issued([NAME])).chain);
    await alarmsAfter(made);
    made.clock.advance(91 * 24 * HOUR_MS);
    await expect
      .poll(() => {
        made.clock.advance(60_000);
        return made.watch.alarms;
      }, WAIT)
      .toEqual([]);
  });

  test("a log that cannot be read is told of when an hour is over, and asked no faster for it", async () => {
    const made = await scene();
    const { log, clock } = made;
    log.faults.status = 500;
    const before = log.asked.length;
    for (let minute = 0; minute < 62; minute++) {
      clock.advance(60_000);
      await isWaiting(clock);
    }
    await expect
      .poll(() => made.watch.problems, WAIT)
      .toEqual([expect.stringMatching(/was not read to its end for 6\d minutes: .*status 500/)]);
    expect(log.asked.length - before).toBeLessThanOrEqual(7);
  });
});
