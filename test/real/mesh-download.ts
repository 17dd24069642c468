/**
 * A program that joins a mesh as a node and downloads: `mesh-download.ts CONTROL_URL KEY_FILE NAME URL`. Tells on
 * standard output, a JSON object a line, what came in each tenth of a second, and at the end the digest of it all.
 */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { createNode } from "../../src/index.ts";

/** What came until `ms` after the first byte. */
export interface Progress {
  readonly ms: number;
  readonly bytes: number;
  readonly isDirect: boolean;
}

export interface Download {
  readonly bytes: number;
  readonly sha256: string;
  /** The longest time without a byte. */
  readonly stallMs: number;
}

const TICK_MS = 100;

async function main(controlUrl: string, keyFile: string, hostname: string, url: string): Promise<void> {
  const node = await createNode({ controlUrl, authKey: readFileSync(keyFile, "utf8"), hostname });
  const say = (what: object): void => void process.stdout.write(`${JSON.stringify(what)}\n`);
  const response = await node.fetch(url);
  const hash = createHash("sha256");
  const start = performance.now();
  let [bytes, last, stallMs] = [0, start, 0];
  const { host } = new URL(url);
  const timer = setInterval(() => {
    const peer = node.status().peers.find((one) => one.node.Name.startsWith(`${host.split(".")[0]}.`));
    say({ ms: Math.round(performance.now() - start), bytes, isDirect: peer?.isDirect === true } satisfies Progress);
  }, TICK_MS);
  for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
    const now = performance.now();
    stallMs = Math.max(stallMs, now - last);
    last = now;
    bytes += chunk.length;
    hash.update(chunk);
  }
  clearInterval(timer);
  say({ bytes, sha256: hash.digest("hex"), stallMs: Math.round(stallMs) } satisfies Download);
  await node.close();
}

await main(...(process.argv.slice(2) as [string, string, string, string]));
