import { readFile } from "node:fs/promises";
import { CliExit } from "./io.ts";

/**
 * Text of a file that a flag or an argument names. `what`: what it was to hold, with its article.
 * @throws {CliExit}
 */
export async function readGivenFile(file: string, what: string): Promise<string> {
  return readFile(file, "utf8").catch((thrown: NodeJS.ErrnoException) => {
    throw new CliExit(`Cannot read "${file}": ${thrown.code ?? thrown.message}, wanted ${what}`, 2);
  });
}

/**
 * A secret that stands alone in its file, without the line end behind it.
 * @throws {CliExit} also where the file is empty: as no secret at all it would be a surprise later
 */
export async function readSecretFile(file: string, what: string): Promise<string> {
  const secret = (await readGivenFile(file, what)).trim();
  if (secret !== "") return secret;
  throw new CliExit(`Cannot use "${file}": it is empty, wanted ${what}`, 2);
}
