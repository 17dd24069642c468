import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { gunzipSync } from "node:zlib";
import type { ServeConfig } from "../../wire/serve-config.ts";
import { differences } from "./compare.ts";
import { type Case, createFolder, play } from "./scene.ts";

/** Plays captures of upstream's `serve` through ours and compares what a backend and a caller see. */
const AT_ONCE = 8;
const stock = path.resolve(import.meta.dirname, "../../../../shared/corpora/stock");
const file = process.env["SALLYPORT_PROXY_CASES"] ?? path.join(stock, "proxy.jsonl.gz");

function read(name: string): string {
  const beside = path.join(path.dirname(file), name);
  return readFileSync(existsSync(beside) ? beside : path.join(stock, name), "utf8");
}

function readCases(): Case[] {
  const bytes = readFileSync(file);
  const text = bytes[0] === 0x1f && bytes[1] === 0x8b ? gunzipSync(bytes).toString() : bytes.toString();
  return text
    .split("\n")
    .filter((line) => line.trim() !== "")
    .map((line) => JSON.parse(line) as Case);
}

async function main(): Promise<number> {
  if (!existsSync(file)) {
    process.stdout.write(`skipped: no captures at ${file}\n`);
    return 0;
  }
  const setup = JSON.parse(read("proxy-setup.json")) as ServeConfig;
  const answers = JSON.parse(read("proxy-answers.json")) as Record<string, string>;
  const cases = readCases();
  const folder = createFolder();
  const failures: string[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let one = cases[next++]; one !== undefined; one = cases[next++]) {
      const found = differences(one, await play(one, setup, answers, folder.root));
      if (found.length > 0) failures.push(`${one.id} (${one.peer}, port ${one.port})\n    ${found.join("\n    ")}`);
    }
  };
  try {
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
  } finally {
    folder.remove();
  }
  for (const failure of failures.sort()) process.stdout.write(`FAILED ${failure}\n`);
  process.stdout.write(`${cases.length - failures.length} passed, ${failures.length} failed\n`);
  return failures.length === 0 ? 0 : 1;
}

process.exitCode = await main();
