import { statSync } from "node:fs";
import { encodeServeConfig } from "../../config/serve-document.ts";
import { type IpnStatus, NOTIFY } from "../../wire/ipn.ts";
import { leaseKey, type ServeConfig } from "../../wire/serve-config.ts";
import { CliExit, type CliIo } from "../io.ts";
import { AnswerRefusal, type LocalClient } from "../local-client.ts";
import { stateRefusal } from "../node-state.ts";
import { ask, isYes } from "../question.ts";
import { terminalLines, terminalText } from "../terminal-text.ts";
import { serveUsage } from "../usage.ts";
import { assertClaimed, claimOf, claimsOf, undo } from "./funnel-claim.ts";
import { closedWarnings, settleDoor, standingRules } from "./funnel-door.ts";
import { applyFunnelOff } from "./funnel-off.ts";
import { policyRefusal, proveOn, publicPlaces } from "./funnel-proof.ts";
import { doorsText, observedJson, observedText, visitorsText } from "./funnel-status.ts";
import { wildcardWarning, wildcardWarnings } from "./funnel-wildcard.ts";
import { parseServeArgs, type ServeChange, tryHelp } from "./serve-args.ts";
import { applyOff, applySet, type KindOfPath, mountsToRemove, withoutFunnel } from "./serve-change.ts";
import { actOnService, advertise, applyToService } from "./serve-service.ts";
import {
  funnelWarnings,
  nodeName,
  serviceMessage,
  statusText,
  successMessage,
  unroutedWarnings,
} from "./serve-text.ts";

export function serve(args: readonly string[], io: CliIo, client: LocalClient): Promise<number> {
  return run("serve", args, io, client);
}

export async function funnel(args: readonly string[], io: CliIo, client: LocalClient): Promise<number> {
  if (args[0]?.toLowerCase() === "check")
    return (await import("./funnel-check.ts")).funnelCheck(args.slice(1), io, client);
  return run("funnel", args, io, client);
}

async function run(
  command: "serve" | "funnel",
  args: readonly string[],
  io: CliIo,
  client: LocalClient,
): Promise<number> {
  const request = parseServeArgs(command, args);
  switch (request.action) {
    case "usage":
      io.stderr(`${request.text === undefined ? "" : `${terminalLines(request.text)}\n`}${serveUsage(command)}`);
      return request.status;
    case "status":
      return printStatus(command, request.json, io, client);
    case "reset":
      if (command === "funnel") {
        const { config, etag } = await client.serveConfig();
        await save(client, withoutFunnel(config ?? {}), etag, io);
      } else await save(client, {}, "", io);
      return 0;
    case "service":
      return actOnService(request.verb, request.service, io, client);
    default:
      return change(request, io, client);
  }
}

async function printStatus(
  command: "serve" | "funnel",
  asJson: boolean,
  io: CliIo,
  client: LocalClient,
): Promise<number> {
  const { config } = await client.serveConfig();
  const observations = command === "funnel" ? await client.observations() : undefined;
  if (asJson) {
    const answers = observations === undefined ? [] : await claimsOf(client); // upstream's daemon claims nothing
    io.stdout(`${terminalLines(observedJson(encodeServeConfig(config, "  "), observations ?? [], answers))}\n`);
    return 0;
  }
  if (config === null || isEmpty(config)) {
    io.stdout("No serve config\n");
    return 0;
  }
  const status = await client.status({ peers: false });
  io.stdout(statusText(config, status));
  if (command === "funnel") io.stdout(await doorsText(config, client));
  if (command === "funnel") io.stdout(await visitorsText(config, nodeName(status), client));
  if (observations !== undefined) io.stdout(observedText(config, nodeName(status), observations));
  for (const warning of [...funnelWarnings(config), ...unroutedWarnings(config, status)]) io.stderr(`${warning}\n`);
  const isPublic = command === "funnel" && publicPlaces(config, nodeName(status)).length > 0;
  const refusal = isPublic ? await policyRefusal(status, client) : undefined;
  if (refusal !== undefined) io.stderr(`Warning: visitors are not brought here: ${terminalText(refusal)}\n`);
  for (const warning of await wildcardWarnings(config, client)) io.stderr(`Warning: ${warning}\n`);
  for (const warning of await closedWarnings(config, nodeName(status), client)) io.stderr(`${warning}\n`);
  return 0;
}

function isEmpty(config: ServeConfig): boolean {
  const { TCP, Web, Services, AllowFunnel } = config;
  return [TCP, Web, Services, AllowFunnel].every((member) => Object.keys(member ?? {}).length === 0);
}

async function change(given: ServeChange, io: CliIo, client: LocalClient): Promise<number> {
  const command = given.isFunnel ? "funnel" : "serve";
  if (given.isFunnel && given.action === "set") {
    const needed = given.isLease === true && given.kind === "tcp" ? ["funnel"] : ["funnel", "https"];
    const answer = await ensureFeature("funnel", needed, io, client);
    // Upstream says why, and ends well; who asks for proof has none.
    if (answer !== undefined) return given.check === true ? 1 : answer;
  }
  const { config, etag } = await client.serveConfig();
  const status = await client.status({ peers: false });
  const request = underOwnName(given, nodeName(status));
  const refusal = stateRefusal(status);
  const isTakenBack = request.isFunnel && request.action === "off";
  if (refusal !== undefined && !isTakenBack) throw new CliExit(refusal);
  const name = request.domain ?? nodeName(status);
  const before = config ?? {};
  const { service } = request;
  if (service !== undefined) return changeService({ ...request, service }, before, etag, status, io, client);
  if (request.action === "off") return turnOff(request, before, etag, name, io, client);
  if (request.kind === "https") {
    const answer = await ensureFeature("serve", ["https"], io, client, status);
    if (answer !== undefined) return answer;
  }
  const found = { before, etag, name, status };
  if (!request.isFunnel) return setUp(request, found, io, client);
  explained(command, () => applySet(before, request, name, kindOfPath)); // what is wrong with the target is said first
  if (request.isLease !== true) refuseClosedPort(request, status);
  if (!request.isBackground) refuseTakenPort(request, before);
  const site = `${name}:${request.port}`;
  const key = request.isLease === true ? leaseKey(request.port) : site;
  const restore = await standingRules(request, site, client);
  try {
    if (!(await settleDoor(request, site, before.AllowFunnel?.[key] === true, io, client))) return 0;
    if (request.visitors !== undefined) await client.setVisitorRules(site, request.visitors);
    return await setUp(request, found, io, client);
  } catch (thrown) {
    await restore().catch(() => undefined); // the first reason is the one to tell
    throw thrown;
  }
}

/** What there was when a command began. */
interface Found {
  readonly before: ServeConfig;
  readonly etag: string;
  readonly name: string;
  readonly status: IpnStatus;
}

async function setUp(request: ServeChange, found: Found, io: CliIo, client: LocalClient): Promise<number> {
  const { before, etag, name, status } = found;
  if (!request.isBackground) return serveForeground(request, name, status, io, client);
  const command = request.isFunnel ? "funnel" : "serve";
  const { config: next, notes } = explained(command, () => applySet(before, request, name, kindOfPath));
  await save(client, next, etag, io);
  for (const note of notes) io.stderr(`${terminalText(note)}\n`);
  const claim = claimOf(request);
  try {
    await assertClaimed(claim, io, client);
  } catch (thrown) {
    await undo(next, before, client);
    throw thrown;
  }
  io.stdout(successMessage(next, request, status));
  const isProved = await seenFromOutside(request, name, io, client);
  return isProved || request.check !== true || io.signal.aborted ? 0 : 1;
}

/** The node's own name needs no claim. */
function underOwnName(request: ServeChange, ownName: string): ServeChange {
  if (request.domain !== ownName) return request;
  const { domain: _, ...rest } = request;
  return rest;
}

async function changeService(
  request: ServeChange & { readonly service: string },
  before: ServeConfig,
  etag: string,
  status: IpnStatus,
  io: CliIo,
  client: LocalClient,
): Promise<number> {
  const { service, action } = request;
  const isSet = action === "set";
  if (isSet && (status.Self.Tags ?? []).length === 0) throw new CliExit("service hosts must be tagged nodes");
  const next = explained("serve", () => applyToService(before, request, status, kindOfPath));
  await save(client, next, etag, io);
  if (isSet || next.Services?.[service] === undefined) await advertise(client, service, isSet);
  if (isSet) io.stdout(serviceMessage(service, next.Services?.[service] ?? {}, request, status));
  return 0;
}

/** Serves until Ctrl+C: the gateway forgets what hangs on the notification stream when that ends. */
async function serveForeground(
  request: ServeChange,
  name: string,
  status: IpnStatus,
  io: CliIo,
  client: LocalClient,
): Promise<number> {
  const command = request.isFunnel ? "funnel" : "serve";
  const own = explained(command, () => applySet({}, request, name, kindOfPath));
  const stream = client.watch(NOTIFY.initialState, io.signal);
  const first = await stream.next();
  const session = first.done === true ? undefined : first.value.SessionID;
  if (session === undefined) throw new CliExit("the gateway gave no session for a foreground serve");
  const ended = new AbortController();
  let proof: Promise<unknown> | undefined;
  try {
    const { config, etag } = await client.serveConfig();
    const next = { ...config, Foreground: { ...config?.Foreground, [session]: own.config } };
    await save(client, next, etag, io);
    await assertClaimed(claimOf(request), io, client); // what hangs on the stream goes with it
    io.stdout(successMessage(own.config, request, status));
    const untilEnd = { ...io, signal: AbortSignal.any([io.signal, ended.signal]) };
    proof = seenFromOutside(request, name, untilEnd, client);
    for await (const notify of stream) {
      if (notify.ErrMessage) io.stderr(`${terminalText(notify.ErrMessage)}\n`);
    }
  } finally {
    ended.abort();
    await stream.return();
    await proof;
  }
  return 0;
}

/** "On" is proved where somebody looks at a screen, or asks for it (FN-9). */
async function seenFromOutside(request: ServeChange, name: string, io: CliIo, client: LocalClient): Promise<boolean> {
  if (!request.isFunnel) return true;
  if (name.startsWith("*")) {
    const warning = await wildcardWarning(name, client);
    if (warning !== undefined) io.stderr(`Warning: ${warning}\n`);
    return warning === undefined;
  }
  if (!(request.check ?? io.isTerminal)) return true;
  const { port, kind, isLease = false } = request;
  const isEnded = kind === "tls-terminated-tcp";
  return proveOn({ name, port, isHttp: kind === "https", isRaw: isLease && kind === "tcp", isEnded }, io, client);
}

async function turnOff(
  request: ServeChange,
  before: ServeConfig,
  etag: string,
  name: string,
  io: CliIo,
  client: LocalClient,
): Promise<number> {
  const command = request.isFunnel ? "funnel" : "serve";
  const mounts = mountsToRemove(before, request, name);
  if (mounts.length > 1 && !request.yes && io.isTerminal && !(await isConfirmed(mounts, io))) return 0;
  const off = request.isFunnel ? applyFunnelOff : applyOff;
  await save(client, explained(command, () => off(before, request, name)).config, etag, io);
  return 0;
}

async function isConfirmed(mounts: readonly string[], io: CliIo): Promise<boolean> {
  const removed = mounts.map(terminalText).join(", ");
  return isYes(await ask(`This removes ${mounts.length} mounts: ${removed}\nAre you sure? [y/N] `, io));
}

async function save(client: LocalClient, config: ServeConfig, etag: string, io: CliIo): Promise<void> {
  try {
    await client.setServeConfig(config, etag);
  } catch (thrown) {
    if (!(thrown instanceof AnswerRefusal)) throw thrown;
    if (thrown.answered === 412) io.stderr("Another client is changing the serve config; please try again.\n");
    throw new CliExit(`sending serve config: ${thrown.message}`);
  }
}

/** What a change cannot do is followed by where to read. */
function explained<T>(command: "serve" | "funnel", work: () => T): T {
  try {
    return work();
  } catch (thrown) {
    if (thrown instanceof CliExit) throw tryHelp(command, `error: ${thrown.message}\n\n`);
    throw thrown;
  }
}

const kindOfPath: KindOfPath = (path) => {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found === undefined) return "absent";
  return found.isDirectory() ? "directory" : "file";
};

/** Does the network let this node do it? If not, says what to do; the answer is an exit status, or nothing to go on. */
async function ensureFeature(
  feature: "serve" | "funnel",
  capabilities: readonly string[],
  io: CliIo,
  client: LocalClient,
  known?: IpnStatus,
): Promise<number | undefined> {
  const status = known ?? (await client.status({ peers: false }));
  const has = (map: unknown): boolean =>
    typeof map === "object" && map !== null && capabilities.every((name) => Object.hasOwn(map, name));
  if (has(status.Self.CapMap)) return undefined;
  const answer = await client.queryFeature(feature);
  if (answer.Complete === true) return undefined;
  if (answer.Text) io.stdout(`${terminalLines(answer.Text)}\n`);
  if (answer.URL) io.stdout(`\n         ${terminalText(answer.URL)}\n\n`);
  if (answer.ShouldWait !== true) return 0;
  for await (const notify of client.watch(0, io.signal)) {
    const self = notify.SelfChange;
    if (typeof self === "object" && self !== null && "CapMap" in self && has(self.CapMap)) {
      io.stdout("Success.\n");
      return undefined;
    }
  }
  throw new CliExit(`lost connection to the gateway while waiting for ${feature} to be enabled`);
}

/** As the gateway says it, but before anybody is asked anything. */
function refuseTakenPort({ port }: ServeChange, before: ServeConfig): void {
  const isTaken = [before, ...Object.values(before.Foreground ?? {})].some(({ TCP = {} }) => Object.hasOwn(TCP, port));
  if (isTaken) {
    throw new CliExit(`sending serve config: updating config: listener already exists for port ${port}`);
  }
}

/** Upstream reports success for a port that no relay listens on. */
function refuseClosedPort(request: ServeChange, status: IpnStatus): void {
  const prefix = "https://tailscale.com/cap/funnel-ports?ports=";
  const key = Object.keys(status.Self.CapMap ?? {}).find((name) => name.startsWith(prefix));
  if (key === undefined) return;
  const open = key.slice(prefix.length);
  const isOpen = open.split(",").some((part) => {
    const [first = "", last = first] = part.split("-");
    return request.port >= Number(first) && request.port <= Number(last);
  });
  if (!isOpen) throw new CliExit(`error: port ${request.port} cannot be funnelled; allowed are ${terminalText(open)}`);
}
