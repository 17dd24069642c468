import { parseFlags } from "./flags.ts";
import { CliExit, type CliIo } from "./io.ts";
import type { LocalClient } from "./local-client.ts";
import { terminalLines } from "./terminal-text.ts";

const USAGE = `Print what helps to find a fault: state, network, counters, peers; no keys and nothing of what is served

USAGE
  sallyport bugreport > report.json
`;

export async function bugreport(args: readonly string[], io: CliIo, client: LocalClient): Promise<number> {
  const parsed = parseFlags({}, args);
  if (parsed.kind !== "values") {
    io.stderr(parsed.kind === "help" ? USAGE : `${terminalLines(parsed.text)}\n${USAGE}`);
    return parsed.kind === "help" ? 0 : 2;
  }
  if (parsed.rest.length > 0) throw new CliExit("unexpected non-flag arguments to 'sallyport bugreport'");
  const { body } = await client.document("/bugreport.json");
  io.stdout(`${terminalLines(JSON.stringify(JSON.parse(body), undefined, 2))}\n`);
  return 0;
}
