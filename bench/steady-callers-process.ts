import { Agent, get } from "node:http";
import { createInterface } from "node:readline";

// Each line asks for one run: {"port", "host", "seconds", "atOnce", "everyMs"}: requests on kept connections, so many at once,
// each begun `everyMs` after the one before ended. The answer: how many were answered, and percentiles in ms.
interface Asked {
  readonly port: number;
  readonly host: string;
  readonly seconds: number;
  readonly atOnce: number;
  readonly everyMs: number;
}

const agent = new Agent({ keepAlive: true });

function request(port: number, host: string): Promise<number> {
  const begun = performance.now();
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  const asked = get({ port, host: "127.0.0.1", path: "/1k", headers: { host }, agent }, (answer) => {
    answer.resume().on("end", () => {
      if (answer.statusCode === 200) resolve(performance.now() - begun);
      else reject(new Error(`status ${answer.statusCode}`));
    });
  });
  asked.on("error", reject);
  return promise;
}

async function run({ port, host, seconds, atOnce, everyMs }: Asked): Promise<Record<string, number>> {
  const took: number[] = [];
  let failed = 0;
  const end = performance.now() + seconds * 1000;
  const callers = Array.from({ length: atOnce }, async () => {
    while (performance.now() < end) {
      await request(port, host).then(
        (ms) => took.push(ms),
        () => failed++,
      );
      await new Promise((done) => void setTimeout(done, everyMs));
    }
  });
  await Promise.all(callers);
  const sorted = took.toSorted((a, b) => a - b);
  const at = (part: number): number => sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? 0;
  return { answered: took.length, failed, p50: at(0.5), p99: at(0.99) };
}

console.log("{}");
for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await run(JSON.parse(line) as Asked)));
}
