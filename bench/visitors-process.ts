import { connect } from "node:net";
import { createInterface } from "node:readline";
import { makeHello } from "../test/suites/client-hellos.ts";

// Each line asks for one run: {"port", "seconds", "at once", "bulk"}; the answer has connections and bytes a second.
const name = "web.bench.test";
const short = makeHello({ name, sessionId: Buffer.alloc(32, 0xaa) });
const long = makeHello({ name, sessionId: Buffer.alloc(32, 0xbb) });

interface Asked {
  readonly port: number;
  readonly seconds: number;
  readonly atOnce: number;
  readonly bulk: boolean;
}

async function run({
  port,
  seconds,
  atOnce,
  bulk,
}: Asked): Promise<{ connections: number; bytes: number; failed: number }> {
  let [connections, bytes, failed] = [0, 0, 0];
  let isOver = false;
  const visit = (): Promise<void> =>
    new Promise((resolve) => {
      let heard = 0;
      const socket = connect({ port, host: "127.0.0.1", noDelay: true });
      const timer = bulk ? setTimeout(() => socket.destroy(), seconds * 1000) : undefined;
      socket.write(bulk ? long : short);
      socket.on("data", (chunk: Buffer) => {
        heard += chunk.length;
        if (!isOver) bytes += chunk.length;
      });
      socket.on("error", () => undefined);
      socket.on("close", () => {
        clearTimeout(timer);
        if (heard >= 200) connections++;
        else failed++;
        resolve();
      });
    });
  const begun = performance.now();
  const end = begun + seconds * 1000;
  const visitors = Array.from({ length: atOnce }, async () => {
    do await visit();
    while (performance.now() < end);
  });
  setTimeout(() => {
    isOver = true;
  }, seconds * 1000);
  await Promise.all(visitors);
  const took = (performance.now() - begun) / 1000;
  return { connections: connections / took, bytes: bytes / seconds, failed };
}

console.log("{}");
for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await run(JSON.parse(line) as Asked)));
}
