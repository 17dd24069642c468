import { X509Certificate } from "node:crypto";
import { expect, onTestFinished, test } from "vitest";
import { scratchFolder } from "../../../test/suites/scratch.ts";
import { testLog } from "../../../test/suites/transparency-log.ts";
import { FakeClock } from "../../base/clock.ts";
import { silentLog } from "../../base/log.ts";
import { systemRandom } from "../../base/random.ts";
import { memoryStore } from "../../base/store.ts";
import { LocalCa } from "../../certs/local-ca.ts";
import { fileCertificateStore } from "../../certs/store/file-store.ts";
import { keyDigest } from "../../certs/transparency/seen-certificate.ts";
import type { MeshNode } from "../../mesh/node.ts";
import { GatewayMetrics } from "../metrics.ts";
import { transparencyText } from "./certificate-report.ts";
import { openCertificateSources } from "./certificate-sources.ts";
import { Certificates } from "./certificates.ts";

const WALL = Date.UTC(2026, 0, 1);
const NAME = "web.tail.test";
const SHARED = "shop.example.org";
const WAIT = { timeout: 30_000, interval: 2 };

test("FN-12 a stranger's certificate is in status, metrics and doctor; ours, those of the shared store and of known keys are not", async () => {
  const folder = scratchFolder(onTestFinished);
  const log = await testLog();
  const clock = new FakeClock(WALL);
  const store = memoryStore();
  const ca = await LocalCa.create({ wall: () => WALL });
  const [strangers, shared, partners] = await Promise.all([ca.issue([NAME]), ca.issue([SHARED]), ca.issue([NAME])]);
  const known = [`sha256:${keyDigest(new X509Certificate(partners.certificate))}`];
  const certificates: Certificates = new Certificates({
    ...{ store, clock, log: silentLog },
    facts: () => ({ ownName: NAME, certDomains: [], ownWildcard: false, served: [NAME], visited: [] }),
    settings: {
      authority: "internal",
      transparency: { logs: [{ url: log.url, key: log.key }], domains: ["example.org"], known, every: "5m" },
    },
    open: (settings) =>
      openCertificateSources(settings, {
        control: { names: () => [], set: async () => {} },
        watched: { names: () => certificates.names, held: () => certificates.all, store },
        ...{ clock, folder, random: systemRandom, log: silentLog, env: {} },
      }),
  });
  onTestFinished(() => certificates.close());
  certificates.refresh();
  await expect.poll(() => certificates.transparency?.logs[0]?.checkedAt, WAIT).toBe(WALL);

  const others = await fileCertificateStore(folder, { clock, random: systemRandom });
  onTestFinished(() => others.close());
  await others.write(`certificates/${SHARED}.pem`, Buffer.from(shared.key + shared.certificate));
  log.promise((await certificates.certificate(NAME)).chain);
  log.promise(shared.certificate);
  log.add(partners.certificate);
  log.add(strangers.certificate);
  log.publish(WALL + 1);
  const asked = log.asked.length;
  await expect
    .poll(() => {
      clock.advance(log.asked.length > asked ? 1000 : 10_000); // what is on its way takes real time
      return certificates.problems;
    }, WAIT)
    .toEqual([
      expect.stringMatching(/^Somebody else has a certificate for web\.tail\.test: by CN=.*, entry 3 of http/),
    ]);
  expect(clock.wall() - WALL).toBeLessThan(3_600_000);

  const node = { state: { kind: "running" }, peerStatus: () => [], counters: {}, isCutOff: false };
  const metrics = await new GatewayMetrics(
    node as unknown as MeshNode,
    () => certificates,
    () => 0,
  ).text();
  expect(metrics).toContain("\nsallyport_certificates_unknown 1\n");
  expect(metrics).toMatch(/\nsallyport_transparency_checked_timestamp_seconds\{log="http:[^"]+"\} 17672\d{5}/);

  const watch = certificates.transparency;
  expect(transparencyText(NAME, watch)).toMatch(
    /^Somebody else has .*\nlog http:\S+: read to its end at 2026-01-01T00:\S+\n$/,
  );
  expect(transparencyText(SHARED, watch)).toMatch(/^No certificate but ours was logged since the watch began\.\nlog /);
  expect(transparencyText(NAME, undefined)).toContain("not looked through");
});
