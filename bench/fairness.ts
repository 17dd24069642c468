import { freePort, LOAD_CORE, OwnProcess, SUBJECT_CORE } from "./processes.ts";
import type { Figure, Group } from "./table.ts";

const SECONDS = 5;
/** Of one name: low enough for this machine to flood it. */
const PER_SECOND = 500;
const QUIET = { name: "quiet.bench.test", seconds: SECONDS, atOnce: 2, everyMs: 10, nice: 0 };
/** They share a core, and it is the ingress that is asked about: the flood gets what the other visitors leave of it. */
const LOUD = { name: "loud.bench.test", seconds: SECONDS + 1, atOnce: 64, nice: 19 };
/** What FN-10 asks for, evenly as many callers who know nothing of each other come; and as fast as this machine can. */
const FLOODS = [
  { name: "10,000 a second", how: { perSecond: 10_000 } },
  { name: "a flood", how: { everyMs: 0 } },
];

/** One name is asked for as fast as this machine can; how is it for the visitors of another (FN-10)? */
async function* run(): AsyncIterable<Figure> {
  const [port, sinkPort] = [await freePort(), await freePort()];
  const sink = OwnProcess.start(LOAD_CORE, "sink-process.ts", [String(sinkPort)]);
  const ingress = OwnProcess.start(SUBJECT_CORE, "fairness-process.ts", [port, sinkPort, PER_SECOND].map(String));
  const quiet = OwnProcess.start(LOAD_CORE, "latency-process.ts");
  const loud = OwnProcess.start(LOAD_CORE, "latency-process.ts");
  const all = [sink, ingress, quiet, loud];
  try {
    for (const one of all) await one.next();
    const ask = async (who: OwnProcess, what: object): Promise<Record<string, number>> =>
      (await who.ask(JSON.stringify({ port, ...what }))) as Record<string, number>;
    await ask(quiet, QUIET); // until V8 has compiled what is hot
    const alone = await ask(quiet, QUIET);
    for (const { name, how } of FLOODS) {
      const [beside, flood] = await Promise.all([ask(quiet, QUIET), ask(loud, { ...LOUD, ...how })]);
      const peer = `without ${name}`;
      const answered = (seen: Record<string, number>): number => (100 * seen["answered"]!) / seen["begun"]!;
      yield { name: "fairness, p99 of another name", value: beside["p99"], unit: "ms", peer, peerValue: alone["p99"] };
      yield { name: "fairness, p50 of another name", value: beside["p50"], unit: "ms", peer, peerValue: alone["p50"] };
      const share = { value: answered(beside), unit: "%", peer, peerValue: answered(alone) };
      yield { name: "fairness, its visits that were answered", ...share };
      yield { name: `fairness, ${name}`, value: flood["begun"]! / LOUD.seconds, unit: "1/s" };
      const note = `limit ${PER_SECOND} a second, twice that at once`;
      const through = flood["answered"]! / LOUD.seconds;
      yield { name: "fairness, of it let through", value: through, unit: "1/s", note };
    }
  } finally {
    for (const one of all) await one.end();
  }
}

export const group: Group = { name: "fairness", run };
