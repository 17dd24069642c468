import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { createSelfSigned } from "../src/certs/self-signed.ts";
import { createLink, type Side } from "./link.ts";
import { cpuSeconds, LOAD_CORE, OwnProcess, residentMb, SUBJECT_CORE } from "./processes.ts";
import { median } from "./rounds.ts";
import type { Figure, Group } from "./table.ts";

const HOST = "gw.bench.test";
/** Longer than a head may take: whoever is closed for it has come again. The matrix asks for 600. */
const SECONDS = Number(process.env["SALLYPORT_BENCH_SLOW_SECONDS"] ?? 15);
const ROUNDS = SECONDS > 60 ? 1 : 3;
const OTHERS = { atOnce: 2, everyMs: 10 };
const ATTACKS = [
  { kind: "head", peers: 1, each: 5000 },
  { kind: "read", peers: 1, each: 1000 },
  { kind: "body", peers: 1, each: 5000 },
  { kind: "head", peers: 50, each: 200 },
] as const;
/** Of an answer that is not read the kernel holds 4 MB otherwise, and slows all of TCP down once 1.5 GB are full. */
const SMALL_BUFFERS = ["net.ipv4.tcp_rmem=4096 65536 65536", "net.ipv4.tcp_wmem=4096 65536 65536"];
const BACKEND_PORT = 8000;

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

/** What became of the attackers, of those that read nothing in the first 90 s: how many were closed, and how old they were then, in seconds. */
interface Ends {
  readonly closed: number;
  readonly soonest: number;
  readonly latest: number;
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
  using link = createLink();
  const room = link.subject;
  for (const setting of SMALL_BUFFERS) room.run("sysctl", "-qw", setting);
  const all: OwnProcess[] = [];
  const start = (core: number, file: string, ...args: readonly string[]): OwnProcess => {
    const one = OwnProcess.inside(room, core, file, args);
    all.push(one);
    return one;
  };
  const subject = (port: number): Subject => ({
    port,
    proxy: start(
      SUBJECT_CORE,
      "proxy-process.ts",
      `${port}`,
      `${port + 1}`,
      `http://127.0.0.1:${BACKEND_PORT}`,
      "",
      pem,
    ),
    others: start(LOAD_CORE, "steady-callers-process.ts"),
  });
  try {
    start(LOAD_CORE, "slow-backend-process.ts", String(BACKEND_PORT));
    const slow = start(LOAD_CORE, "slow-callers-process.ts");
    const [attacked, spared] = [subject(8010), subject(8020)];
    for (const one of all) await one.next();
    const look = (seconds = SECONDS) => Promise.all([seenAt(attacked, seconds), seenAt(spared, seconds)]);
    const tell = (what: object) => slow.ask(JSON.stringify({ port: attacked.port, host: HOST, ...what }));
    await look(5); // until V8 has compiled what is hot
    for (const attack of ATTACKS) {
      const seen: Awaited<ReturnType<typeof look>>[] = [];
      const ends: Ends[] = [];
      for (let round = 0; round < ROUNDS; round++) {
        await tell(attack);
        const begun = performance.now();
        await settled(attacked);
        const [now, unread] = await Promise.all([
          look(),
          attack.kind === "read" ? endsAt(room, attacked.port, begun) : undefined,
        ]);
        seen.push(now);
        const told = (await tell({ each: 0 })) as unknown as Ends;
        if ((unread ?? told).closed > 0) ends.push(unread ?? told);
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
      const closed = ends.reduce((sum, one) => sum + one.closed, 0);
      const [from, to] = [
        Math.min(...ends.map(({ soonest }) => soonest)),
        Math.max(...ends.map(({ latest }) => latest)),
      ];
      if (closed > 0)
        yield {
          name: `${name}, closed`,
          value: closed,
          unit: "",
          note: `${from.toFixed(1)} to ${to.toFixed(1)} s old`,
        };
    }
  } finally {
    for (const one of all) await one.end();
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** Who reads nothing does not hear of its end: when those that stand are gone from the proxy's side. */
async function endsAt(room: Side, port: number, begun: number): Promise<Ends | undefined> {
  if (SECONDS < 90) return undefined;
  const standing = () => room.run("ss", "-Htn", "state", "established", `sport = :${port}`).split("\n").length;
  const all = standing();
  let soonest = Number.POSITIVE_INFINITY;
  for (;;) {
    await new Promise((done) => void setTimeout(done, 500));
    const [age, left] = [(performance.now() - begun) / 1000, standing()];
    if (left < all - 10) soonest = Math.min(soonest, age);
    if (left < 10 || age > 89) return { closed: all - left, soonest, latest: age };
  }
}

async function seenAt({ port, proxy, others }: Subject, seconds: number): Promise<Seen> {
  const pid = proxy.child.pid!;
  const before = cpuSeconds(pid);
  const { p50, p99, failed } = (await others.ask(JSON.stringify({ port, host: HOST, seconds, ...OTHERS }))) as Record<
    "p50" | "p99" | "failed",
    number
  >;
  const load = (100 * (cpuSeconds(pid) - before)) / seconds;
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
