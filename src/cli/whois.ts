import { goJson } from "../config/serve-document.ts";
import type { WhoIsResponse } from "../wire/ipn.ts";
import { booleanFlag, parseFlags, textFlag } from "./flags.ts";
import { CliExit, type CliIo } from "./io.ts";
import type { LocalClient } from "./local-client.ts";
import { terminalLines, terminalText } from "./terminal-text.ts";

const USAGE =
  "Show who is behind an address of the mesh\n\nUSAGE\n  sallyport whois [--json] [--proto tcp|udp] <ip[:port]>\n";
const flags = { json: booleanFlag(false), proto: textFlag() };

export async function whois(args: readonly string[], io: CliIo, client: LocalClient): Promise<number> {
  const parsed = parseFlags(flags, args);
  if (parsed.kind !== "values") {
    io.stderr(parsed.kind === "help" ? USAGE : `${terminalLines(parsed.text)}\n${USAGE}`);
    return parsed.kind === "help" ? 0 : 2;
  }
  const [address] = parsed.rest;
  if (parsed.rest.length > 1) throw new CliExit("too many arguments, expected at most one peer");
  if (address === undefined) throw new CliExit("missing argument, expected one peer");
  print(await client.whois(address, parsed.values.proto), parsed.values.json, io);
  return 0;
}

export async function whoami(args: readonly string[], io: CliIo, client: LocalClient): Promise<number> {
  const parsed = parseFlags({ json: flags.json }, args);
  if (parsed.kind !== "values") {
    io.stderr("Show what others see of this node\n\nUSAGE\n  sallyport whoami [--json]\n");
    return parsed.kind === "help" ? 0 : 2;
  }
  if (parsed.rest.length > 0) throw new CliExit("too many arguments, expected none");
  const own = (await client.status({ peers: false })).TailscaleIPs?.[0];
  if (own === undefined) throw new CliExit("no current Tailscale IPs");
  print(await client.whois(own, ""), parsed.values.json, io);
  return 0;
}

function print(found: WhoIsResponse, asJson: boolean, io: CliIo): void {
  if (asJson) io.stdout(`${terminalLines(goJson(found, "  "))}\n`);
  else io.stdout(whoisText(found));
}

/** Upstream `cli/whois.go`. */
export function whoisText(found: WhoIsResponse): string {
  const { Node: node, UserProfile: user } = found;
  let text = "Machine:\n";
  text += `  Name:          ${terminalText(node.Name.replace(/\.$/, ""))}\n`;
  text += `  ID:            ${terminalText(node.StableID)}\n`;
  text += `  Addresses:     [${node.Addresses.map(terminalText).join(" ")}]\n`;
  const allowed = node.AllowedIPs ?? [];
  if (allowed.length > 2) text += `  AllowedIPs:    [${allowed.slice(2).map(terminalText).join(" ")}]\n`;
  const tags = node.Tags ?? [];
  if (tags.length > 0) text += `  Tags:          ${tags.map(terminalText).join(", ")}\n`;
  else text += `User:\n  Name:     ${terminalText(user.LoginName)}\n  ID:       ${user.ID}\n`;
  const caps = Object.entries(found.CapMap ?? {});
  if (caps.length > 0) text += "Capabilities:\n";
  for (const [name, values] of caps.sort(([left], [right]) => (left < right ? -1 : 1))) {
    if (values === null || values.length === 0) {
      text += `  - ${terminalText(name)}\n`;
      continue;
    }
    const lines = terminalLines(goJson(values, "  ")).split("\n");
    text += `  - ${terminalText(name)}:\n${lines.map((line) => `      ${line}\n`).join("")}`;
  }
  return text;
}
