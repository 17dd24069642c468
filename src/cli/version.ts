import { readFileSync } from "node:fs";
import { booleanFlag, parseFlags } from "./flags.ts";
import type { CliIo } from "./io.ts";
import type { LocalClient } from "./local-client.ts";
import { terminalLines, terminalText } from "./terminal-text.ts";

export async function version(args: readonly string[], io: CliIo, client: LocalClient): Promise<number> {
  const parsed = parseFlags({ daemon: booleanFlag(false), json: booleanFlag(false) }, args);
  if (parsed.kind !== "values") {
    io.stderr(
      `${parsed.kind === "error" ? `${terminalLines(parsed.text)}\n` : ""}Show the version\n\nUSAGE\n  sallyport version [--daemon] [--json]\n`,
    );
    return parsed.kind === "help" ? 0 : 2;
  }
  const own = ownVersion();
  const daemon = parsed.values.daemon ? (await client.status({ peers: false })).Version : undefined;
  if (parsed.values.json) {
    const document = {
      majorMinorPatch: own,
      short: own,
      long: own,
      ...(daemon === undefined ? {} : { daemonLong: daemon }),
    };
    io.stdout(`${terminalLines(JSON.stringify(document, null, "\t"))}\n`);
    return 0;
  }
  const lines = `${own}\n  node version: ${process.version}\n`;
  io.stdout(daemon === undefined ? lines : `Client: ${lines}Daemon: ${terminalText(daemon)}\n`);
  return 0;
}

function ownVersion(): string {
  const text = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  const { version: own } = JSON.parse(text) as { readonly version: string };
  return own;
}
