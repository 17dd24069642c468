import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { createSelfSigned } from "../src/certs/self-signed.ts";
import { cpuSeconds, freePort, LOAD_CORE, OwnProcess, residentMb, SUBJECT_CORE } from "./processes.ts";
import { median } from "./rounds.ts";
import type { Figure, Group } from "./table.ts";

const HOST = "gw.bench.test";
/** Longer than a head may take: whoever is closed for it has come again. */
const SECONDS = Number(process.env["SALLYPORT_BENCH_SLOW_SECONDS"] ?? 15);
const ROUNDS = 3;
const OTHERS = { seconds: SECONDS, atOnce: 2, everyMs: 10 };
const ATTACKS = [
  { kind: "head", peers: 1, each: 5000 },
  { kind: "head", peers: 50, each: 200 },
  { kind: "body", peers: 1, each: 3000 },
  // The kernel holds some 4 MB of each, and slows all of TCP on this machine down once that is 1.5 GB.
  { kind: "read", peers: 1, each: 200 },
] as const;

interface Subject {
  readonly port: number;
  readonly proxy: OwnProcess;
  readonly others: OwnProcess;
}

interface Seen {
  readonly p50: number;
  readonly p99: number;
  readonly failed: number;
  /** Of one core. */
  readonly load: number;
  readonly mb: number;
}

/**
 * Connections that take their time, by thousands; how is it for callers of another peer (H1-14)? Beside it the same in the
 * same seconds with a second proxy on the same core that nobody attacks, so that the machine's other work falls on both.
 */
async function* run(): AsyncIterable<Figure> {
  const scratch = mkdtempSync(path.join(tmpdir(), "spb-"));
  const pem = path.join(scratch, "pem");
  const { key, certificate } = await createSelfSigned(HOST, Date.now());
  writeFileSync(pem, key + certificate);
  const backendPort = await freePort();
  const backend = OwnProcess.start(LOAD_CORE, "slow-backend-process.ts", [String(backendPort)]);
  const slow = OwnProcess.start(LOAD_CORE, "slow-callers-process.ts");
  const all = [backend, slow];
  const start = async (): Promise<Subject> => {
    const port = await freePort();
    const args = [String(port), String(await freePort()), `http://127.0.0.1:${backendPort}`, pem];
    const proxy = OwnProcess.start(SUBJECT_CORE, "proxy-process.ts", args);
    const others = OwnProcess.start(LOAD_CORE, "steady-callers-process.ts");
    all.push(proxy, others);
    return { port, proxy, others };
  };
  try {
    const [attacked, spared] = [await start(), await start()];
    for (const one of all) await one.next();
    const look = () => Promise.all([seenAt(attacked), seenAt(spared)]);
    const tell = (what: object) => slow.ask(JSON.stringify({ port: attacked.port, host: HOST, ...what }));
    await look(); // until V8 has compiled what is hot
    for (const attack of ATTACKS) {
      const seen: Awaited<ReturnType<typeof look>>[] = [];
      for (let round = 0; round < ROUNDS; round++) {
        await tell(attack);
        await settled(attacked);
        seen.push(await look());
        await tell({ each: 0 });
      }
      const name = `slow ${attack.kind}, ${attack.peers} × ${attack.each}`;
      const beside = (what: keyof Seen, unit: string, words: string): Figure => ({
        name: `${name}, ${words}`,
        value: median(seen.map(([one]) => one[what])),
        unit,
        peer: "without them",
        peerValue: median(seen.map(([, other]) => other[what])),
      });
      yield beside("p99", "ms", "p99 of others");
      yield beside("p50", "ms", "p50 of others");
      yield beside("failed", "", "others not answered");
      yield beside("load", "%", "CPU");
      yield beside("mb", "MB", "memory");
    }
  } finally {
    for (const one of all) await one.end();
    rmSync(scratch, { recursive: true, force: true });
  }
}

async function seenAt({ port, proxy, others }: Subject): Promise<Seen> {
  const pid = proxy.child.pid!;
  const before = cpuSeconds(pid);
  const { p50, p99, failed } = (await others.ask(JSON.stringify({ port, host: HOST, ...OTHERS }))) as Record<
    "p50" | "p99" | "failed",
    number
  >;
  const load = (100 * (cpuSeconds(pid) - before)) / SECONDS;
  return { p50, p99, failed, load, mb: residentMb(pid) };
}

/** The kernel's buffers are full of what is not read, and new connections are made as they are closed and no faster. */
async function settled({ proxy }: Subject): Promise<void> {
  for (let looks = 0; looks < 20; looks++) {
    const before = cpuSeconds(proxy.child.pid!);
    await new Promise((done) => void setTimeout(done, 1000));
    if (cpuSeconds(proxy.child.pid!) - before < 0.2) return;
  }
}

export const group: Group = { name: "slow", run };
