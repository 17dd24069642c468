import { setTimeout as sleep } from "node:timers/promises";
import type { PingResult } from "../wire/ipn.ts";
import { booleanFlag, durationFlag, parseFlags, unsignedFlag } from "./flags.ts";
import { CliExit, type CliIo } from "./io.ts";
import type { LocalClient } from "./local-client.ts";
import { stateRefusal } from "./node-state.ts";
import { addressOf } from "./peers.ts";
import { terminalLines, terminalText } from "./terminal-text.ts";

const USAGE =
  "Ping a node of the mesh\n\nUSAGE\n  sallyport ping [-c N] [--timeout 5s] [--until-direct=true] [--tsmp|--icmp|--peerapi] [--size N] <host>\n";
const PAUSE_MS = 1000;
const flags = {
  c: unsignedFlag(10),
  timeout: durationFlag(5000),
  "until-direct": booleanFlag(true),
  tsmp: booleanFlag(false),
  icmp: booleanFlag(false),
  peerapi: booleanFlag(false),
  size: unsignedFlag(0),
  verbose: booleanFlag(false),
};

export async function ping(args: readonly string[], io: CliIo, client: LocalClient): Promise<number> {
  const parsed = parseFlags(flags, args);
  if (parsed.kind !== "values") {
    io.stderr(parsed.kind === "help" ? USAGE : `${terminalLines(parsed.text)}\n${USAGE}`);
    return parsed.kind === "help" ? 0 : 2;
  }
  const { values, rest } = parsed;
  const status = await client.status();
  const refusal = stateRefusal(status);
  if (refusal !== undefined) throw new CliExit(refusal, 1, "stdout");
  const [host] = rest;
  if (host === undefined || rest.length > 1) throw new CliExit("usage: sallyport ping <hostname-or-IP>");
  const { address, isSelf } = await addressOf(() => Promise.resolve(status), host);
  if (isSelf) {
    io.stdout(`${terminalText(address)} is local Tailscale IP\n`);
    return 0;
  }
  if (values.verbose && address !== host) io.stderr(`lookup "${terminalText(host)}" => "${terminalText(address)}"\n`);
  const type = values.tsmp ? "TSMP" : values.icmp ? "ICMP" : values.peerapi ? "peerapi" : "disco";
  let hasPong = false;
  for (let tries = 1; ; tries += 1) {
    const deadline = AbortSignal.timeout(values.timeout);
    let result: PingResult | undefined;
    try {
      result = await client.ping(address, type, values.size, AbortSignal.any([deadline, io.signal]));
    } catch (thrown) {
      if (!deadline.aborted) throw thrown;
    }
    if (result === undefined) {
      io.stdout(`ping "${terminalText(address)}" timed out\n`);
    } else {
      if (result.Err !== "") {
        if (result.IsLocalIP) {
          io.stdout(`${terminalText(result.Err)}\n`);
          return 0;
        }
        throw new CliExit(result.Err);
      }
      hasPong = true;
      io.stdout(`${pongText(result, type)}\n`);
      if (type !== "disco") return 0; // upstream answers the other kinds once, unless direct pings are waited for
      if (result.Endpoint !== "" && values["until-direct"]) return 0;
    }
    if (values.c !== 0 && tries >= values.c) break;
    await sleep(PAUSE_MS, undefined, { signal: io.signal }).catch(() => undefined);
    if (io.signal.aborted) return 0;
  }
  if (!hasPong) throw new CliExit("no reply");
  if (values["until-direct"]) throw new CliExit("direct connection not established");
  return 0;
}

/** Upstream `cli/ping.go`. */
export function pongText(result: PingResult, type: string): string {
  const name = terminalText(result.NodeName);
  const node = terminalText(result.NodeIP);
  const took = `${Math.round(result.LatencySeconds * 1000)}`;
  const latency = took === "0" ? "0s" : Number(took) >= 1000 ? `${Number(took) / 1000}s` : `${took}ms`;
  if (type === "peerapi")
    return `hit peerapi of ${node} (${name}) at ${terminalText(result.PeerAPIURL ?? "")} in ${latency}`;
  const via = result.Endpoint
    ? result.Endpoint
    : result.PeerRelay
      ? `peer-relay(${result.PeerRelay})`
      : result.DERPRegionID !== 0
        ? `DERP(${result.DERPRegionCode})`
        : type;
  const port = result.PeerAPIPort ? `, ${result.PeerAPIPort}` : "";
  return `pong from ${name} (${node}${port}) via ${terminalText(type === "disco" ? via : type)} in ${latency}`;
}
