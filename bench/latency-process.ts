import { connect } from "node:net";
import { setPriority } from "node:os";
import { createInterface } from "node:readline";
import { makeHello } from "../test/suites/client-hellos.ts";

// Each line asks for one run: {"port", "name", "seconds", "atOnce", "everyMs", "perSecond", "nice"}: visits from many addresses,
// at most so many at once, each begun `everyMs` after the one before ended, or so many a second, evenly; by a process of that
// niceness. The answer: how many were begun and answered, and percentiles in ms.
interface Asked {
  readonly port: number;
  readonly name: string;
  readonly seconds: number;
  readonly atOnce: number;
  readonly everyMs?: number;
  readonly perSecond?: number;
  readonly nice: number;
}

let number = 0;

const pause = (ms: number): Promise<void> => new Promise((done) => void setTimeout(done, ms));

function visit(port: number, hello: Uint8Array): Promise<number | undefined> {
  number++;
  const localAddress = `127.0.${1 + (number % 8)}.${1 + ((number >> 3) % 200)}`;
  const begun = performance.now();
  return new Promise((resolve) => {
    const socket = connect({ port, host: "127.0.0.1", localAddress, noDelay: true });
    let heard = 0;
    socket.on("data", (chunk: Buffer) => {
      heard += chunk.length;
    });
    socket.on("error", () => undefined);
    socket.on("close", () => resolve(heard >= 200 ? performance.now() - begun : undefined)); // less is an alert
    socket.write(hello);
  });
}

const TICK_MS = 1;

async function run({
  port,
  name,
  seconds,
  atOnce,
  everyMs = 0,
  perSecond,
  nice,
}: Asked): Promise<Record<string, number>> {
  setPriority(nice);
  const hello = makeHello({ name, sessionId: Buffer.alloc(32, 0xaa) });
  const took: number[] = [];
  let begun = 0;
  let open = 0;
  const one = async (): Promise<void> => {
    begun++;
    open++;
    const ms = await visit(port, hello);
    open--;
    if (ms !== undefined) took.push(ms);
  };
  const start = performance.now();
  const end = start + seconds * 1000;
  if (perSecond === undefined) {
    const visitors = Array.from({ length: atOnce }, async () => {
      while (performance.now() < end) {
        await one();
        if (everyMs > 0) await pause(everyMs);
      }
    });
    await Promise.all(visitors);
  } else {
    const visits: Promise<void>[] = [];
    for (let missed = 0; performance.now() < end; ) {
      const due = Math.floor(((performance.now() - start) * perSecond) / 1000) - begun - missed;
      const part = Math.min(due, atOnce - open);
      missed += due - part; // whoever comes late does not come in a crowd
      for (let i = 0; i < part; i++) visits.push(one());
      await pause(TICK_MS);
    }
    await Promise.all(visits);
  }
  const sorted = took.toSorted((a, b) => a - b);
  const at = (part: number): number => sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? 0;
  return { begun, answered: took.length, p50: at(0.5), p99: at(0.99) };
}

console.log("{}");
for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await run(JSON.parse(line) as Asked)));
}
