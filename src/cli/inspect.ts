import { parseFlags, unsignedFlag } from "./flags.ts";
import type { CliIo } from "./io.ts";
import type { LocalClient } from "./local-client.ts";
import { terminalLines } from "./terminal-text.ts";

const USAGE = `Look at the last requests on a local page: see them, send them again, take them along as HAR or curl

USAGE
  sallyport inspect [--port PORT]  keep requests from now on; print an address that opens the page once
  sallyport inspect off            stop, and forget them

Secrets are never kept: cookies, Authorization, tokens and passwords in fields, queries, forms and JSON. A request that is sent
again has no identity.
`;

export async function inspect(args: readonly string[], io: CliIo, client: LocalClient): Promise<number> {
  const parsed = parseFlags({ port: unsignedFlag(0) }, args);
  if (parsed.kind !== "values") {
    io.stderr(parsed.kind === "help" ? USAGE : `${terminalLines(parsed.text)}\n${USAGE}`);
    return parsed.kind === "help" ? 0 : 2;
  }
  const [word, ...more] = parsed.rest;
  if (more.length > 0 || (word !== undefined && word !== "off")) {
    io.stderr(USAGE);
    return 2;
  }
  if (word === "off") await client.stopInspecting();
  else io.stdout(`${await client.inspect(parsed.values.port)}\n`);
  return 0;
}
