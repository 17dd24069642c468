import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { createSelfSigned } from "../src/certs/self-signed.ts";
import { cpuSeconds, freePort, LOAD_CORE, OwnProcess, SUBJECT_CORE } from "./processes.ts";
import { median } from "./rounds.ts";
import type { Figure, Group } from "./table.ts";

const HOST = "gw.bench.test";
const SECONDS = 10;
const ROUNDS = 3;
const OTHERS = { seconds: SECONDS, atOnce: 2, everyMs: 10 };
const TAKEN_BACK = "requests taken back";
const FLOODS = [
  { name: TAKEN_BACK, kind: TAKEN_BACK, perSecond: 10_000, peers: 1 },
  { name: `${TAKEN_BACK} by forty peers`, kind: TAKEN_BACK, perSecond: 10_000, peers: 40 },
  ...["SETTINGS", "PING", "empty DATA", "PRIORITY", "WINDOW_UPDATE", "unknown frames"].map((kind) => ({
    name: kind,
    kind,
    perSecond: 100_000,
    peers: 1,
  })),
];

/**
 * Floods of HTTP/2 frames by one peer who comes again whenever he is told to go, or by so many that most of it is let in; how is
 * it for another one (H2-2), and what does it cost (H2-5)? Beside it the same in the same seconds with a second proxy on the same core that nobody floods.
 */
async function* run(): AsyncIterable<Figure> {
  const scratch = mkdtempSync(path.join(tmpdir(), "spb-"));
  const pem = path.join(scratch, "pem");
  const { key, certificate } = await createSelfSigned(HOST, Date.now());
  writeFileSync(pem, key + certificate);
  const all: OwnProcess[] = [];
  const start = (core: number, file: string, ...args: readonly (string | number)[]): OwnProcess => {
    const one = OwnProcess.start(core, file, args.map(String));
    all.push(one);
    return one;
  };
  const backendPort = await freePort();
  start(LOAD_CORE, "slow-backend-process.ts", backendPort);
  const subject = async () => {
    const [port, securePort] = [await freePort(), await freePort()];
    const backend = `http://127.0.0.1:${backendPort}`;
    const proxy = start(SUBJECT_CORE, "proxy-process.ts", port, securePort, backend, "", pem);
    const others = start(LOAD_CORE, "steady-callers-process.ts");
    const look = async (): Promise<Record<"p50" | "p99" | "failed" | "cpu", number>> => {
      const before = cpuSeconds(proxy.child.pid!);
      const seen = await others.ask(JSON.stringify({ port, host: HOST, ...OTHERS }));
      const cpu = (cpuSeconds(proxy.child.pid!) - before) / SECONDS;
      return { ...(seen as Record<"p50" | "p99" | "failed", number>), cpu };
    };
    return { securePort, look };
  };
  try {
    const [flooded, spared] = [await subject(), await subject()];
    const flood = start(LOAD_CORE, "flood-process.ts");
    for (const one of all) await one.next();
    const tell = (what: object) => flood.ask(JSON.stringify({ port: flooded.securePort, host: HOST, ...what }));
    const look = () => Promise.all([flooded.look(), spared.look()]);
    await look(); // until V8 has compiled what is hot
    for (const { name, ...flooding } of FLOODS) {
      const seen: Awaited<ReturnType<typeof look>>[] = [];
      const sent: number[] = [];
      for (let round = 0; round < ROUNDS; round++) {
        await tell(flooding);
        seen.push(await look());
        const told = (await tell({})) as { sent: number; connections: number };
        sent.push(told.sent / SECONDS);
        console.error(`${name}: ${told.sent} sent on ${told.connections} connections`);
      }
      const beside = (what: keyof (typeof seen)[number][number], unit: string, words: string): Figure => ({
        name: `${name}, ${words}`,
        value: median(seen.map(([one]) => one[what])),
        unit,
        peer: "without them",
        peerValue: median(seen.map(([, other]) => other[what])),
      });
      yield { name: `${name}, sent`, value: median(sent), unit: "/s" };
      yield beside("cpu", "s/s", "CPU");
      yield beside("p99", "ms", "p99 of others");
      yield beside("p50", "ms", "p50 of others");
      yield beside("failed", "", "others not answered");
    }
  } finally {
    for (const one of all) await one.end();
    rmSync(scratch, { recursive: true, force: true });
  }
}

export const group: Group = { name: "floods", run };
