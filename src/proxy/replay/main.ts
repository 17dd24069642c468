import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { gunzipSync } from "node:zlib";
import type { ServeConfig } from "../../wire/serve-config.ts";
import { differences, type Play } from "./compare.ts";
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
  const differencesOf = async (one: Case, patience: number): Promise<string[]> => {
    const again: Play = (other) => play(other, fixture.setup, fixture.answers, folder.root, patience);
    return await differences(one, await again(one), fixture, again);
  };
  const doubtful: Case[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let one = cases[next++]; one !== undefined; one = cases[next++]) {
      if ((await differencesOf(one, 1)).length > 0) doubtful.push(one);
    }
  };
  try {
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
    // On a loaded machine an answer may have come late: these once more, alone and with more time.
    for (const one of doubtful) {
      const found = await differencesOf(one, 4);
      if (found.length > 0) failures.push(`${one.id} (${one.peer}, port ${one.port})\n    ${found.join("\n    ")}`);
    }
  } finally {
    folder.remove();
  }
  for (const failure of failures.sort()) process.stdout.write(`FAILED ${failure}\n`);
  process.stdout.write(`${cases.length - failures.length} passed, ${failures.length} failed\n`);
  return failures.length === 0 ? 0 : 1;
}

process.exitCode = await main();
