import { Fault } from "../base/fault.ts";
import { readServices } from "../config/services.ts";
import { CliExit, type CliIo } from "./io.ts";
import { terminalLines, terminalText } from "./terminal-text.ts";

/** `sallyport check FILE`: is this services file right? Reads nothing else, changes nothing. */
export async function check(args: readonly string[], io: CliIo): Promise<number> {
  const [file] = args;
  if (file === undefined || args.length > 1 || file.startsWith("-")) {
    io.stderr("Check a services file\n\nUSAGE\n  sallyport check <file>\n");
    return file === undefined || /^--?h(elp)?$/.test(file) ? 0 : 2;
  }
  try {
    const found = await readServices(file);
    for (const warning of found.warnings) io.stderr(`Warning: ${terminalText(warning)}\n`);
    io.stdout(`${terminalText(file)}: ${found.node.length} endpoints of the node, ${found.services.size} services\n`);
    return 0;
  } catch (thrown) {
    if (!(thrown instanceof Fault)) throw thrown;
    throw new CliExit(terminalLines(thrown.hint === undefined ? thrown.message : `${thrown.message}\n${thrown.hint}`));
  }
}
