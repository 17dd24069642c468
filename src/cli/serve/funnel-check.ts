import { parseAddress } from "../../base/address.ts";
import type { Finding } from "../../funnel/probe.ts";
import { booleanFlag, durationFlag, parseFlags, textFlag } from "../flags.ts";
import { readGivenFile } from "../given-file.ts";
import { CliExit, type CliIo } from "../io.ts";
import type { LocalClient } from "../local-client.ts";
import { terminalLines, terminalText } from "../terminal-text.ts";
import { askedTargets, wildcardsLeft } from "./funnel-asked.ts";
import { HINTS, placeOf, publicTargets, remember, visitorsWay } from "./funnel-proof.ts";
import { nodeName } from "./serve-text.ts";

const USAGE = `Go the way of a visitor to every name that this node makes public, hop by hop

USAGE
  sallyport funnel check [--address IP] [--ca FILE] [--timeout 20s] [--json] [NAME[:PORT]...]

Without NAME: to all of them. Of a wildcard, NAME is one of the names below it.

FLAGS
  --address IP   the ingress's, instead of what DNS says
  --ca FILE      a CA that is trusted beside the system's (PEM)
  --timeout D    for each name (default 20s)
`;
const flags = { address: textFlag(), ca: textFlag(), timeout: durationFlag(20_000), json: booleanFlag(false) };

/** What is public is proved, not believed: exit 0 only if every hop to every name holds (FN-9). */
export async function funnelCheck(args: readonly string[], io: CliIo, client: LocalClient): Promise<number> {
  const parsed = parseFlags(flags, args);
  if (parsed.kind !== "values") {
    io.stderr(parsed.kind === "help" ? USAGE : `${terminalLines(parsed.text)}\n${USAGE}`);
    return parsed.kind === "help" ? 0 : 2;
  }
  const { address, ca, timeout, json } = parsed.values;
  if (address !== "" && parseAddress(address) === undefined) throw new CliExit(`"${address}" is no IP address`);
  const { config } = await client.serveConfig();
  const status = await client.status({ peers: false });
  const ownName = nodeName(status);
  const isAll = parsed.rest.length === 0;
  const targets = isAll ? publicTargets(config ?? {}, ownName) : askedTargets(parsed.rest, config ?? {}, ownName);
  const left = isAll ? wildcardsLeft(config ?? {}, ownName) : [];
  if (targets.length + left.length === 0) throw new CliExit("Nothing is public: there is no name to check");
  const look = visitorsWay(client, {
    ...(ca === "" ? {} : { ca: await readGivenFile(ca, "certificates to trust") }),
    ...(address === "" ? {} : { resolve: async () => [address], isGiven: true }),
  });
  let isGood = targets.length > 0;
  for (const target of targets) {
    const findings: Finding[] = [];
    if (!json) io.stdout(`${terminalText(placeOf(target))}\n`);
    for await (const finding of look(target, AbortSignal.any([AbortSignal.timeout(timeout), io.signal]))) {
      findings.push(finding);
      if (json) continue;
      io.stdout(`  ${finding.isGood ? "✓" : "✗"} ${finding.hop.padEnd(12)} ${terminalText(finding.found)}\n`);
      if (!finding.isGood) io.stderr(`    ${HINTS[finding.hop]}\n`);
    }
    isGood &&= findings.every((finding) => finding.isGood);
    if (json) io.stdout(`${JSON.stringify({ target: placeOf(target), at: new Date().toISOString(), findings })}\n`);
    await remember(target, findings, client);
  }
  for (const line of left) io.stderr(line);
  return isGood ? 0 : 1;
}
