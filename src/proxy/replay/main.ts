import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { gunzipSync } from "node:zlib";
import type { ServeConfig } from "../../wire/serve-config.ts";
import { differences } from "./compare.ts";
import type { Fixture } from "./route.ts";
import { type Case, createFolder, play } from "./scene.ts";

/** Plays captures of upstream's `serve` through ours and compares what a backend and a caller see. */
const AT_ONCE = 8;
const stock = path.resolve(import.meta.dirname, "../../../../shared/corpora/stock");
const file = process.env["SALLYPORT_PROXY_CASES"] ?? path.join(stock, "proxy.jsonl.gz");

/** Beside the cases, or where the captures came from. */
function read(name: string): string | undefined {
  const places = [path.dirname(file), stock].map((folder) => path.join(folder, name));
  const found = places.find((place) => existsSync(place));
  return found === undefined ? undefined : readFileSync(found, "utf8");
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
  const setup = read("proxy-setup.json");
  const answers = read("proxy-answers.json");
  if (!existsSync(file) || setup === undefined || answers === undefined) {
    process.stdout.write(`skipped: no captures at ${file}, or no proxy-setup.json and proxy-answers.json with them\n`);
    return 0;
  }
  const fixture: Fixture = {
    setup: JSON.parse(setup) as ServeConfig,
    answers: JSON.parse(answers) as Record<string, string>,
  };
  const cases = readCases();
  const folder = createFolder();
  const failures: string[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    const playOne = (one: Case): ReturnType<typeof play> => play(one, fixture.setup, fixture.answers, folder.root);
    for (let one = cases[next++]; one !== undefined; one = cases[next++]) {
      const found = await differences(one, await playOne(one), fixture, playOne);
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
