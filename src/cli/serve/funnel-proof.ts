import { Resolver } from "node:dns/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { messageOf } from "../../base/fault.ts";
import type { CertificateStatus } from "../../certs/keeper.ts";
import { claimRefusals } from "../../funnel/claim-text.ts";
import {
  type Finding,
  type Hop,
  HUNG_UP,
  type Leaf,
  NOT_REACHED,
  type ProbeOptions,
  probe,
  UNKNOWN_NAME,
} from "../../funnel/probe.ts";
import { claimAnswers } from "../../wire/claims.ts";
import { FUNNEL_ATTRIBUTE, ingressAddresses } from "../../wire/funnel.ts";
import { wildcardOf } from "../../wire/host-name.ts";
import type { IpnStatus } from "../../wire/ipn.ts";
import { leasedPort, type ServeConfig } from "../../wire/serve-config.ts";
import { splitSite } from "../../wire/site.ts";
import { CliExit, type CliIo } from "../io.ts";
import type { LocalClient } from "../local-client.ts";
import { qrCode } from "../qr-code.ts";
import { terminalText } from "../terminal-text.ts";
import { nodeName, unroutedNames } from "./serve-text.ts";
import { placesAsked } from "./visitor-text.ts";

/** A public name that can be asked for. */
export interface Target {
  readonly name: string;
  readonly port: number;
  readonly isHttp: boolean;
  /** A raw port: no TLS, no name. */
  readonly isRaw?: boolean;
  /** TLS ends here, and is no HTTP inside. */
  readonly isEnded?: boolean;
}

/** Goes a visitor's way once. */
export type Look = (target: Target, signal: AbortSignal) => AsyncIterable<Finding>;

/** A map, a DNS record and a certificate come within seconds of the wish; a first certificate takes longest. */
const PATIENCE_MS = 60_000;
const ROUND_MS = 15_000;
const PAUSE_MS = 1000;

/** What to do where a hop does not hold. */
export const HINTS: Readonly<Record<Hop, string>> = {
  policy:
    "the policy has to give this node `funnel`, and domains of your own by `sallyport.dev/domains` (docs/funnel.md)",
  dns: "the name's records must lead to the ingress: a CNAME or its addresses",
  ingress: "is `sallyport ingress` running there, and is the port open in its firewall?",
  name: "is this node connected (`sallyport status`), and does the ingress listen on this port?",
  certificate:
    "`sallyport cert list` says what is there, `sallyport cert doctor NAME` what is missing; docs/certificates.md, where public ones come from",
  backend: "does the target answer on this machine, and without an error of its own?",
};

/** In the background and in the foreground; a wildcard stands for no name that could be asked for. */
export function publicTargets(config: ServeConfig, ownName: string): readonly Target[] {
  return publicPlaces(config, ownName).filter((place) => !isWildcard(place));
}

/** The same, with wildcards. */
export function publicPlaces(config: ServeConfig, ownName: string): readonly Target[] {
  const parts = [config, ...Object.values(config.Foreground ?? {})];
  return parts.flatMap(({ AllowFunnel = {}, TCP = {} }) =>
    Object.entries(AllowFunnel).flatMap(([key, isOn]): Target[] => {
      const lease = leasedPort(key);
      if (lease !== undefined) {
        const { TCPForward, TerminateTLS } = TCP[lease] ?? {};
        const isRaw = (TerminateTLS ?? "") === "";
        return isOn && TCPForward ? [{ name: ownName, port: lease, isHttp: false, isRaw, isEnded: !isRaw }] : [];
      }
      const { name, port } = splitSite(key);
      const isOne = name !== "" && name !== "*" && port > 0;
      const { HTTPS: isHttp = false, TerminateTLS = "" } = TCP[port] ?? {};
      return isOn && isOne ? [{ name, port, isHttp, isEnded: TerminateTLS !== "" }] : [];
    }),
  );
}

export const isWildcard = ({ name }: Pick<Target, "name">): boolean => name.startsWith("*");

export interface WayOptions extends Partial<Pick<ProbeOptions, "resolve" | "ca">> {
  /** What `resolve` says is a person's word. */
  readonly isGiven?: boolean;
}

/** A visitor's way through the network as this machine's DNS and `client`'s network map know it. */
export function visitorsWay(client: LocalClient, options: WayOptions = {}): Look {
  return async function* (target, signal) {
    const status = await client.status({ peers: false });
    const refused = unrouted(target, status) ?? (await policyRefusal(status, client));
    if (refused !== undefined) yield { hop: "policy", isGood: false, found: refused };
    else {
      // An address that a person gave is one that he means.
      const ingresses = options.isGiven === true ? [] : ingressAddresses(status.Self.CapMap ?? undefined);
      const isOwn = (leaf: Leaf): Promise<boolean | undefined> => isOwnLeaf(leaf, target, client);
      // Where TLS does not end here, the certificate is the target's.
      const way = { resolve: addressesOf, ingresses, ...(target.isHttp ? { isOwn } : {}) };
      for await (const finding of probe({ ...target, ...way, signal, ...options })) {
        const isExplained = !finding.isGood && (finding.hop === "certificate" || finding.found === NOT_REACHED);
        const isTurnedAway = finding.found.includes(UNKNOWN_NAME) || finding.found === HUNG_UP;
        if (isExplained) yield await ofGateway(finding, target, client);
        else yield await (isTurnedAway ? ofRules : ofDoor)(finding, target, client);
      }
    }
  };
}

/** Who may not come gets what he would get if there were nothing, and this machine may be one of them. */
async function ofRules(finding: Finding, target: Target, client: LocalClient): Promise<Finding> {
  const asked = placesAsked((await client.visitorRules(placeOf(target)).catch(() => undefined)) ?? {});
  if (asked.length === 0) return finding;
  const found = `${finding.found}, or this machine is none of those who may come: ${asked.join("; ")}`;
  return { ...finding, hop: finding.hop === "dns" ? "name" : finding.hop, found, isLasting: true };
}

/** Who has not passed a door does not get to what is behind it, and nor do we. */
async function ofDoor(finding: Finding, target: Target, client: LocalClient): Promise<Finding> {
  if (!/^status (?:401|503)$/.test(finding.found)) return finding;
  const { door, isMissing } = (await client.doorAt(placeOf(target), "/").catch(() => undefined)) ?? {};
  if (isMissing === true) return { ...finding, found: `${finding.found}: door ${door} is declared nowhere` };
  if (door === undefined || finding.found === "status 503") return finding;
  return { ...finding, found: `${finding.found}: door ${door}, what is behind it was not asked` };
}

async function ownCertificates({ name }: Target, client: LocalClient): Promise<readonly Partial<CertificateStatus>[]> {
  const all = await client.certificates().catch(() => []);
  return (Array.isArray(all) ? (all as readonly Partial<CertificateStatus>[]) : []).filter(({ names = [] }) =>
    names.some((one) => one === name || one === wildcardOf(name)),
  );
}

/** A name may still lead to the machine that had it before, which answers as well as we do. */
async function isOwnLeaf(leaf: Leaf, target: Target, client: LocalClient): Promise<boolean | undefined> {
  const own = (await ownCertificates(target, client)).filter(({ notAfter }) => notAfter !== undefined);
  if (own.length === 0) return undefined;
  const inSeconds = (ms: number): number => Math.floor(ms / 1000);
  return own.some(({ serial, notAfter = 0 }) =>
    serial === undefined ? inSeconds(notAfter) === inSeconds(leaf.notAfter) : serial === leaf.serial,
  );
}

/** Why visitors refuse a certificate, by what the gateway knows of it; one that it takes for good does not get better. */
async function ofGateway(finding: Finding, target: Target, client: LocalClient): Promise<Finding> {
  const own = await ownCertificates(target, client);
  const [first] = own;
  if (first === undefined) return finding;
  const isValid = ({ state }: Partial<CertificateStatus>): boolean => state === "valid";
  if (finding.hop === "name") {
    return own.some(isValid) || !target.isHttp ? finding : { ...finding, hop: "certificate", found: lackOf(first) };
  }
  if (!own.every(isValid)) {
    const failed = own.find(({ lastFailure }) => lastFailure !== undefined);
    return failed === undefined ? finding : { ...finding, found: `${finding.found}; ${lackOf(failed)}` };
  }
  const isInternal = own.some(({ authority }) => authority === "internal");
  const found = isInternal ? `${finding.found}: it is of this gateway's own CA` : finding.found;
  return { ...finding, found, isLasting: true };
}

/** Why a certificate is not there. */
function lackOf({ state, lastFailure, nextAttempt }: Partial<CertificateStatus>): string {
  if (lastFailure === undefined) return state === "ordering" ? "it is being ordered" : "it has not been ordered yet";
  const again = nextAttempt === undefined ? "" : `, again at ${new Date(nextAttempt).toISOString().slice(0, 16)}Z`;
  return `${lastFailure.authority} gave none: ${lastFailure.message}${again}`;
}

/** Why nothing of this node is public: the policy does not give it `funnel`, or does so no more. */
export async function policyRefusal({ Self }: IpnStatus, client: LocalClient): Promise<string | undefined> {
  if (Object.hasOwn(Self.CapMap ?? {}, FUNNEL_ATTRIBUTE)) return undefined;
  const { Complete, Text } = (await client.queryFeature(FUNNEL_ATTRIBUTE).catch(() => undefined)) ?? {};
  return Complete === false ? (Text ?? "the network's policy does not allow it on this node") : undefined;
}

/** Why the network brings no visitors of it here, as far as it says so. */
function unrouted(target: Target, status: IpnStatus): string | undefined {
  const answers = claimAnswers(status.Self.CapMap ?? undefined) ?? [];
  const { name, port } = target;
  const [refused] = claimRefusals([name, wildcardOf(name), String(port)], answers, nodeName(status));
  if (refused !== undefined) return refused;
  if (answers.some(({ claim }) => claim === String(target.port))) return undefined; // a raw port that is held
  const wish = { AllowFunnel: { [placeOf(target)]: true } };
  return unroutedNames(wish, status).length > 0 ? "the network brings no visitors of this name here" : undefined;
}

/** What was set up is looked at from outside until every hop holds or time is up; the answer is whether all do. */
export async function prove(
  target: Target,
  look: Look,
  io: CliIo,
  client: LocalClient,
  pauseMs: number = PAUSE_MS,
): Promise<boolean> {
  const deadline = AbortSignal.any([AbortSignal.timeout(PATIENCE_MS), io.signal]);
  const shown = new Set<string>();
  let before: string | undefined;
  const show = (mark: string, { hop, found }: Finding): void => {
    const line = `  ${mark} ${hop.padEnd(12)} ${terminalText(found)}\n`;
    if (!shown.has(line)) io.stderr(line);
    shown.add(line);
  };
  io.stderr(`Looking from outside, for ${PATIENCE_MS / 1000} s at most:\n`);
  for (;;) {
    const findings: Finding[] = [];
    for await (const finding of look(target, AbortSignal.any([AbortSignal.timeout(ROUND_MS), deadline]))) {
      if (io.signal.aborted) return false;
      findings.push(finding);
      if (finding.isGood) show("✓", finding);
    }
    const failed = findings.find(({ isGood }) => !isGood);
    const isLasting = failed?.isLasting === true && failed.found === before;
    before = failed?.found;
    if (failed !== undefined && !isLasting && !deadline.aborted) {
      show("…", failed);
      await sleep(pauseMs, undefined, { signal: deadline }).catch(() => undefined);
      if (!deadline.aborted) continue;
    }
    if (io.signal.aborted) return false;
    await remember(target, findings, client);
    if (failed === undefined) return true;
    show("✗", failed);
    io.stderr(
      `    ${HINTS[failed.hop]}\nIt is on, but visitors do not get through yet; look again: sallyport funnel check\n`,
    );
    return false;
  }
}

/** After `funnel TARGET`: proof, then the address as text and as a QR code. Never throws: what was set up is set up. */
export async function proveOn(
  target: Target,
  io: CliIo,
  client: LocalClient,
  look: Look = visitorsWay(client),
): Promise<boolean> {
  try {
    if (!(await prove(target, look, io, client))) return false;
    const url = urlOf(target);
    const code = io.isTerminal ? await qrCode(url) : "";
    const isWhole = code.indexOf("\n") <= (io.columns ?? Number.POSITIVE_INFINITY); // a broken line is no code any more
    if (code !== "" && isWhole) io.stderr(`\n${code}`);
    io.stderr(`\n${terminalText(url)}\n`);
    return true;
  } catch (thrown) {
    if (!io.signal.aborted) io.stderr(`Cannot look from outside: ${terminalText(messageOf(thrown))}\n`);
    return false;
  }
}

/** The gateway keeps what was seen last; who may only read cannot tell it. */
export async function remember(target: Target, findings: readonly Finding[], client: LocalClient): Promise<void> {
  await client.observed({ target: placeOf(target), findings }).catch((thrown: unknown) => {
    if (!(thrown instanceof CliExit)) throw thrown;
  });
}

export const placeOf = ({ name, port }: Pick<Target, "name" | "port">): string => `${name}:${port}`;

function urlOf({ name, port, isHttp }: Target): string {
  return isHttp ? `https://${name}${port === 443 ? "" : `:${port}`}/` : `tcp://${name}:${port}`;
}

async function addressesOf(name: string): Promise<readonly string[]> {
  const resolver = new Resolver({ timeout: 3000, tries: 2 });
  const answers = await Promise.allSettled([resolver.resolve4(name), resolver.resolve6(name)]);
  const addresses = answers.flatMap((answer) => (answer.status === "fulfilled" ? answer.value : []));
  const [first] = answers;
  if (addresses.length === 0 && first.status === "rejected") throw first.reason;
  return addresses;
}
