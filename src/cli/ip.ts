import { isIP } from "node:net";
import { booleanFlag, parseFlags, textFlag } from "./flags.ts";
import { CliExit, type CliIo } from "./io.ts";
import type { LocalClient } from "./local-client.ts";
import { addressOf } from "./peers.ts";
import { terminalLines, terminalText } from "./terminal-text.ts";

const USAGE = "Show addresses\n\nUSAGE\n  sallyport ip [-1] [-4] [-6] [--assert=IP] [peer]\n";
const flags = { 1: booleanFlag(false), 4: booleanFlag(false), 6: booleanFlag(false), assert: textFlag() };

export async function ip(args: readonly string[], io: CliIo, client: LocalClient): Promise<number> {
  const parsed = parseFlags(flags, args);
  if (parsed.kind !== "values") {
    io.stderr(parsed.kind === "help" ? USAGE : `${terminalLines(parsed.text)}\n${USAGE}`);
    return parsed.kind === "help" ? 0 : 2;
  }
  const { values, rest } = parsed;
  if (rest.length > 1) throw new CliExit("too many arguments, expected at most one peer");
  if ([values[1], values[4], values[6]].filter(Boolean).length > 1) {
    throw new CliExit("sallyport ip -1, -4, and -6 are mutually exclusive");
  }
  const status = await client.status();
  let found: readonly string[] = status.TailscaleIPs ?? [];
  const peer = rest[0];
  if (peer !== undefined) {
    const { address } = await addressOf(() => Promise.resolve(status), peer);
    const nodes = [status.Self, ...Object.values(status.Peer ?? {})];
    const node = nodes.find((one) => one.TailscaleIPs?.includes(address));
    if (node === undefined) throw new CliExit(`no peer found with IP ${address}`);
    found = node.TailscaleIPs ?? [];
  }
  if (found.length === 0) throw new CliExit(`no current Tailscale IPs; state: ${status.BackendState}`);
  if (values.assert !== "") {
    if (found.includes(values.assert)) return 0;
    throw new CliExit(`assertion failed: IP "${values.assert}" not found among [${found.join(" ")}]`);
  }
  const family = values[4] ? 4 : values[6] ? 6 : 0;
  const wanted = found.filter((address) => family === 0 || isIP(address) === family);
  if (wanted.length === 0) throw new CliExit(`no Tailscale IPs of type IPv${family}`);
  for (const address of values[1] ? wanted.slice(0, 1) : wanted) io.stdout(`${terminalText(address)}\n`);
  return 0;
}
