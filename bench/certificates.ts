// `node bench/certificates.ts [names]`: one gateway's keeper, its certificates in files, a CA of the tests in another process.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { type Clock, systemClock } from "../src/base/clock.ts";
import { silentLog } from "../src/base/log.ts";
import { systemRandom } from "../src/base/random.ts";
import { openAuthority } from "../src/certs/acme/acme-authority.ts";
import type { ChallengeSolver } from "../src/certs/challenges/challenge.ts";
import type { CertificateKeeper } from "../src/certs/keeper.ts";
import { openKeeper } from "../src/certs/open-keeper.ts";
import { fileCertificateStore } from "../src/certs/store/file-store.ts";

const DAY_MS = 86_400_000;
const count = Number(process.argv[2] ?? 1000);
const names = Array.from({ length: count }, (_, i) => `n${i}.gate.example`);
const folder = mkdtempSync(path.join(tmpdir(), "sp-bench-certs-"));
const caModule = JSON.stringify(new URL("../test/acme-ca/test-ca.ts", import.meta.url).href);
const ca = spawn(
  process.execPath,
  [
    "--input-type=module",
    "-e",
    `const { TestCa } = await import(${caModule}); console.log((await TestCa.start()).directory)`,
  ],
  { stdio: ["ignore", "pipe", "inherit"] },
);

/** Believed without a look: what is measured is ours. */
const solver: ChallengeSolver = { type: "dns-01", canProve: () => true, present: async () => async () => {} };
let ahead = 0;
const clock: Clock = { ...systemClock, wall: () => Date.now() + ahead };

async function main(): Promise<void> {
  const [directory] = (await once(ca.stdout, "data")).map(String);
  const store = await fileCertificateStore(folder, { clock, random: systemRandom });
  const authority = openAuthority({
    id: "test",
    directory: directory!.trim(),
    store,
    clock,
    log: silentLog,
    agreeToTerms: true,
  });
  const open = (): Promise<CertificateKeeper> =>
    openKeeper({
      store,
      authorities: [authority],
      solvers: [solver],
      clock,
      random: systemRandom,
      log: silentLog,
      limits: () => undefined,
    });
  const wanted = names.map((name) => ({ names: [name], when: "ahead" as const }));
  const memory = (): string => `${(process.memoryUsage().rss / 2 ** 20).toFixed(0)} MiB resident`;
  let peak = 0;
  const watch = setInterval(() => {
    peak = Math.max(peak, process.memoryUsage().rss);
  }, 100);
  const measured = async (what: string, work: () => Promise<unknown>): Promise<void> => {
    const since = performance.now();
    const cpu = process.cpuUsage();
    await work();
    const { user, system } = process.cpuUsage(cpu);
    const seconds = ((performance.now() - since) / 1000).toFixed(1);
    console.log(`${what}: ${seconds} s, ${((user + system) / 1e6).toFixed(1)} s of processor, ${memory()}`);
  };
  console.log(`before: ${memory()}`);
  let keeper = await open();
  await measured(`${count} names obtained`, async () => {
    await keeper.want(wanted);
    await keeper.idle();
  });
  const first = keeper.certificate(names.at(-1)!)!;
  await keeper.close();
  ahead = 65 * DAY_MS; // past two thirds of their life
  keeper = await open();
  await measured("loaded again", () => keeper.want(wanted));
  await measured(`${count} names renewed`, () => keeper.idle());
  const renewed = names.filter((name) => keeper.certificate(name)!.notBefore >= first.notBefore);
  const valid = keeper.list().filter(({ state, lastFailure }) => state === "valid" && lastFailure === undefined).length;
  const since = performance.now();
  for (let i = 0; i < 1_000_000; i++) keeper.certificate(names[i % count]!);
  console.log(`a look-up: ${(performance.now() - since).toFixed(0)} ns`);
  const files = readdirSync(folder, { recursive: true }).length;
  const counts = keeper.counts().orders.map(({ outcome, count }) => `${outcome} ${count}`);
  console.log(
    `${renewed.length} there, ${valid} valid, orders: ${counts}; ${files} files; peak ${(peak / 2 ** 20).toFixed(0)} MiB`,
  );
  clearInterval(watch);
  await keeper.close();
}

const keepAlive = setInterval(() => {}, 1000); // our timers do not
try {
  await main();
} finally {
  clearInterval(keepAlive);
  ca.kill();
  rmSync(folder, { recursive: true, force: true });
}
