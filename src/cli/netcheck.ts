import type { NetcheckDocument } from "../wire/ipn.ts";
import { booleanFlag, parseFlags } from "./flags.ts";
import { CliExit, type CliIo } from "./io.ts";
import type { LocalClient } from "./local-client.ts";
import { terminalLines, terminalText } from "./terminal-text.ts";

const USAGE = "Show what the gateway knows of the network under it\n\nUSAGE\n  sallyport netcheck [--json]\n";

export async function netcheck(args: readonly string[], io: CliIo, client: LocalClient): Promise<number> {
  const parsed = parseFlags({ json: booleanFlag(false) }, args);
  if (parsed.kind !== "values") {
    io.stderr(parsed.kind === "help" ? USAGE : `${terminalLines(parsed.text)}\n${USAGE}`);
    return parsed.kind === "help" ? 0 : 2;
  }
  if (parsed.rest.length > 0) throw new CliExit("unexpected non-flag arguments to 'sallyport netcheck'");
  const { body } = await client.document("/netcheck.json");
  io.stdout(parsed.values.json ? terminalLines(body) : reportText(JSON.parse(body) as NetcheckDocument));
  return 0;
}

/** In the shape of upstream's (`cli/netcheck.go`). */
export function reportText(report: NetcheckDocument): string {
  const lines = [
    `UDP: ${report.udp}`,
    `IPv4: ${reached(report.ipv4)}`,
    `IPv6: ${reached(report.ipv6)}`,
    `MappingVariesByDestIP: ${report.mappingVariesByDestIp ?? ""}`,
    `Endpoints: ${report.endpoints.join(", ")}`,
    `Nearest DERP: ${report.regions.find(({ isHome }) => isHome)?.name ?? "unknown"}`,
    "DERP latency:",
  ].map((line) => `\t* ${terminalText(line)}\n`);
  const regions = [...report.regions]
    .sort((a, b) => (a.latencyMs ?? Infinity) - (b.latencyMs ?? Infinity))
    .map(({ code, name, latencyMs, isConnected }) => {
      const took = latencyMs === undefined ? "" : `${latencyMs.toFixed(1)}ms`;
      return `\t\t- ${terminalText(code)}: ${took.padEnd(8)}(${terminalText(name)})${isConnected ? ", connected" : ""}\n`;
    });
  return `\nReport:\n${lines.join("")}${regions.join("")}`;
}

function reached(address: string | undefined): string {
  return address === undefined ? "no" : `yes, ${address}`;
}
