import { spawn } from "node:child_process";
import { createPrivateKey, X509Certificate } from "node:crypto";
import { globSync, readFileSync, rmSync } from "node:fs";
import path from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import type { Certificate } from "../../src/certs/certificate.ts";
import { peersOrSkip } from "../peers.ts";
import { scratchFolder } from "../suites/scratch.ts";
import type { OrderProcessOptions } from "./order-process.ts";
import { type Pebble, startPebble } from "./pebble.ts";

const peers = peersOrSkip("pebble", "pebble-challtestsrv", "setpriv");
const KILLS = 100;

type Outcome = "killed" | { readonly steps: number; readonly certificate: Certificate };

async function run(pebble: Pebble, folder: string, name: string, killAt: number | undefined): Promise<Outcome> {
  // A dead process keeps its locks for ten seconds, in case it is not; here it is.
  rmSync(`${folder}/locks`, { recursive: true, force: true });
  const { directory, caBundle, dnsManagement } = pebble;
  const options: OrderProcessOptions = { folder, directory, caBundle, dnsManagement, name, killAt };
  const script = path.join(import.meta.dirname, "order-process.ts");
  const words = ["--pdeathsig", "KILL", process.execPath, "--disable-warning=ExperimentalWarning", script];
  // The first run, which nobody kills, leaves its compiled code there: half of the time of all others.
  const env = { ...process.env, NODE_COMPILE_CACHE: path.join(path.dirname(folder), "compiled") };
  const child = spawn("setpriv", [...words, JSON.stringify(options)], { env, stdio: ["ignore", "pipe", "pipe"] });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk) => {
    stdout += String(chunk);
  });
  child.stderr.on("data", (chunk) => {
    stderr += String(chunk);
  });
  const [code, signal] = await new Promise<[number | null, string | null]>((resolve) => {
    child.on("close", (...ended) => resolve(ended));
  });
  if (signal === "SIGKILL") return "killed";
  if (code !== 0) throw new Error(`${name}, step ${killAt}: ended with ${code}: ${stderr}`);
  return JSON.parse(stdout) as Outcome;
}

/** Files under their final names that are not whole. */
function halfWritten(folder: string): readonly string[] {
  const files = globSync("{accounts,certificates,life,orders}/**/*.{json,pem}", { cwd: folder });
  return files.filter((file) => {
    const text = readFileSync(path.join(folder, file), "utf8");
    if (file.endsWith(".pem")) return !text.endsWith("-----END CERTIFICATE-----\n");
    try {
      return JSON.parse(text) === null;
    } catch {
      return true;
    }
  });
}

describe.skipIf(peers.missing !== undefined)(`Pebble and kill -9${peers.missing ? ` (${peers.missing})` : ""}`, () => {
  test(`AC-6 killed ${KILLS} times, at every step of an order: no key is lost, and no name is ordered twice`, {
    timeout: 1_200_000,
  }, async () => {
    const pebble = await startPebble({ env: { PEBBLE_AUTHZREUSE: "0" } });
    const scratch = scratchFolder();
    onTestFinished(() => {
      pebble.close();
    });
    const whole = await run(pebble, `${scratch}/0`, "n0.example.com", undefined);
    if (whole === "killed") throw new Error("killed by somebody else");
    let [kills, names] = [0, 1];
    const oneName = async (number: number): Promise<void> => {
      const [folder, name] = [`${scratch}/${number}`, `n${number}.example.com`];
      names++;
      // Every step of a whole order once, then in what is left of it.
      for (const killAt of [1 + (number % whole.steps), 1 + (number % 7), undefined]) {
        const outcome = await run(pebble, folder, name, killAt);
        expect(halfWritten(folder), `after a kill at step ${killAt}`).toEqual([]);
        if (outcome === "killed") kills++;
        else {
          const leaf = new X509Certificate(outcome.certificate.chain);
          expect([leaf.subjectAltName, leaf.checkPrivateKey(createPrivateKey(outcome.certificate.key))]).toEqual([
            `DNS:${name}`,
            true,
          ]);
        }
      }
    };
    for (let number = 1; kills < KILLS || number <= whole.steps; number += 2) {
      await Promise.all([oneName(number), oneName(number + 1)]);
    }
    expect(globSync("*/certificates/*.pem", { cwd: scratch })).toHaveLength(names);
    const count = (what: string): number =>
      Number([...pebble.log().matchAll(new RegExp(`There are now (\\d+) ${what}`, "g"))].at(-1)![1]);
    expect([count("orders"), count("accounts")]).toEqual([names, names]);
  });
});
