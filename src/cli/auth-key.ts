import { text } from "node:stream/consumers";
import { readSecretFile } from "./given-file.ts";
import type { CliIo } from "./io.ts";

/**
 * What a node joins with: `--auth-key`, else `$TS_AUTHKEY`, as `file:PATH`, `-` (standard input) or the key itself, which
 * is public while the process runs.
 */
export async function readAuthKey(argument: string | undefined, io: CliIo): Promise<string | undefined> {
  const given = argument ?? io.env["TS_AUTHKEY"];
  if (given === undefined || given === "") return undefined;
  if (given === "-") return (await text(io.stdin)).trim();
  if (given.startsWith("file:")) return readSecretFile(given.slice("file:".length), "a key to join with");
  if (argument !== undefined) {
    io.stderr("Warning: process arguments can be read by every user of this machine; --auth-key file:PATH cannot.\n");
  }
  return given;
}
