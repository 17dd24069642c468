import { Resolver } from "node:dns/promises";
import { readFile } from "node:fs/promises";
import { parseAddress } from "../base/address.ts";
import { type Finding, probe } from "../funnel/probe.ts";
import type { ServeConfig } from "../wire/serve-config.ts";
import { booleanFlag, durationFlag, parseFlags, textFlag } from "./flags.ts";
import { CliExit, type CliIo } from "./io.ts";
import type { LocalClient } from "./local-client.ts";
import { unroutedNames } from "./serve-text.ts";
import { terminalLines, terminalText } from "./terminal-text.ts";

const USAGE = `Go the way of a visitor to every name that this node makes public, hop by hop

USAGE
  sallyport funnel check [--address IP] [--ca FILE] [--timeout 20s] [--json]

FLAGS
  --address IP   the ingress's, instead of what DNS says
  --ca FILE      a CA that is trusted beside the system's (PEM)
  --timeout D    for each name (default 20s)
`;
const flags = { address: textFlag(), ca: textFlag(), timeout: durationFlag(20_000), json: booleanFlag(false) };

interface Target {
  readonly name: string;
  readonly port: number;
  readonly isHttp: boolean;
}

/** What is public is proved, not believed: exit 0 only if every hop to every name holds (FN-9). */
export async function funnelCheck(args: readonly string[], io: CliIo, client: LocalClient): Promise<number> {
  const parsed = parseFlags(flags, args);
  if (parsed.kind !== "values") {
    io.stderr(parsed.kind === "help" ? USAGE : `${terminalLines(parsed.text)}\n${USAGE}`);
    return parsed.kind === "help" ? 0 : 2;
  }
  const { address, ca, timeout, json } = parsed.values;
  if (parsed.rest.length > 0) throw new CliExit(`too many arguments, wanted none\n${USAGE}`);
  if (address !== "" && parseAddress(address) === undefined) throw new CliExit(`"${address}" is no IP address`);
  const { config } = await client.serveConfig();
  const targets = targetsOf(config ?? {});
  if (targets.length === 0) throw new CliExit("Nothing is public: there is no name to check");
  const unrouted = unroutedNames(config ?? {}, await client.status({ peers: false }));
  const roots = ca === "" ? {} : { ca: await readFile(ca, "utf8") };
  const resolve = address === "" ? addressesOf : async () => [address];
  let isGood = true;
  for (const target of targets) {
    const place = `${target.name}:${target.port}`;
    const findings: Finding[] = [];
    if (!json) io.stdout(`${terminalText(place)}\n`);
    const tell = (finding: Finding): void => {
      findings.push(finding);
      if (!json)
        io.stdout(`  ${finding.isGood ? "✓" : "✗"} ${finding.hop.padEnd(12)} ${terminalText(finding.found)}\n`);
    };
    if (unrouted.includes(place))
      tell({ hop: "policy", isGood: false, found: "the network brings no visitors of this name here" });
    else {
      const signal = AbortSignal.any([AbortSignal.timeout(timeout), io.signal]);
      for await (const finding of probe({ ...target, resolve, signal, ...roots })) tell(finding);
    }
    isGood &&= findings.every((finding) => finding.isGood);
    if (json) io.stdout(`${JSON.stringify({ target: place, at: new Date().toISOString(), findings })}\n`);
  }
  return isGood ? 0 : 1;
}

/** In the background and in the foreground; a wildcard stands for no name that could be asked for. */
function targetsOf(config: ServeConfig): readonly Target[] {
  const parts = [config, ...Object.values(config.Foreground ?? {})];
  return parts.flatMap(({ AllowFunnel = {}, TCP = {} }) =>
    Object.entries(AllowFunnel).flatMap(([key, isOn]) => {
      const [, name = "", port = ""] = /^([^*:]+):(\d+)$/.exec(key) ?? [];
      return isOn && name !== "" ? [{ name, port: Number(port), isHttp: TCP[port]?.HTTPS === true }] : [];
    }),
  );
}

async function addressesOf(name: string): Promise<readonly string[]> {
  const resolver = new Resolver();
  const answers = await Promise.allSettled([resolver.resolve4(name), resolver.resolve6(name)]);
  const addresses = answers.flatMap((answer) => (answer.status === "fulfilled" ? answer.value : []));
  const [first] = answers;
  if (addresses.length === 0 && first.status === "rejected") throw first.reason;
  return addresses;
}
