import { setTimeout as pause } from "node:timers/promises";
import { freePort, LOAD_CORE, OwnProcess, SUBJECT_CORE } from "./processes.ts";
import { median } from "./rounds.ts";
import type { Figure, Group } from "./table.ts";

const ROUNDS = 3;
const SECONDS = 4;
/** Until what a name may have at once, twice a second's worth, has passed. */
const LEAD_MS = 700;
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

type Seen = Record<string, number>;

/** One name is asked for as fast as this machine can; how is it for the visitors of another (FN-10)? */
async function* run(): AsyncIterable<Figure> {
  const [port, sinkPort] = [await freePort(), await freePort()];
  const sink = OwnProcess.start(LOAD_CORE, "sink-process.ts", [String(sinkPort)]);
  const ingress = OwnProcess.start(SUBJECT_CORE, "fairness-process.ts", [port, sinkPort, PER_SECOND].map(String));
  const quiet = OwnProcess.start(LOAD_CORE, "latency-process.ts");
  const loud = OwnProcess.start(LOAD_CORE, "latency-process.ts");
  const all = [sink, ingress, quiet, loud];
  const ask = async (who: OwnProcess, what: object): Promise<Seen> =>
    (await who.ask(JSON.stringify({ port, ...what }))) as Seen;
  const flooded = async (how: object): Promise<readonly [beside: Seen, flood: Seen]> => {
    const flood = ask(loud, { ...LOUD, ...how });
    await pause(LEAD_MS);
    return [await ask(quiet, QUIET), await flood];
  };
  try {
    for (const one of all) await one.next();
    await ask(quiet, QUIET); // until V8 has compiled what is hot
    await flooded(FLOODS.at(-1)!.how);
    const alone: Seen[] = [];
    const seen = FLOODS.map((): (readonly [beside: Seen, flood: Seen])[] => []);
    for (let round = 0; round < ROUNDS; round++) {
      alone.push(await ask(quiet, QUIET));
      for (const [i, { how }] of FLOODS.entries()) seen[i]!.push(await flooded(how));
    }
    for (const [i, { name }] of FLOODS.entries()) {
      const peer = `without ${name}`;
      const beside = (what: (seen: Seen) => number): number => median(seen[i]!.map(([quiet]) => what(quiet)))!;
      const flood = (what: (seen: Seen) => number): number => median(seen[i]!.map(([, loud]) => what(loud)))!;
      const both = (what: (seen: Seen) => number) => ({
        value: beside(what),
        peer,
        peerValue: median(alone.map(what)),
      });
      yield { name: "fairness, p99 of another name", unit: "ms", ...both((visits) => visits["p99"]!) };
      yield { name: "fairness, p50 of another name", unit: "ms", ...both((visits) => visits["p50"]!) };
      const answered = both((visits) => (100 * visits["answered"]!) / visits["begun"]!);
      yield { name: "fairness, its visits that were answered", unit: "%", ...answered };
      yield { name: `fairness, ${name}`, value: flood((visits) => visits["begun"]! / LOUD.seconds), unit: "1/s" };
      const note = `limit ${PER_SECOND} a second, twice that at once`;
      const through = flood((visits) => visits["answered"]! / LOUD.seconds);
      yield { name: "fairness, of it let through", value: through, unit: "1/s", note };
    }
  } finally {
    for (const one of all) await one.end();
  }
}

export const group: Group = { name: "fairness", run };
