import { setTimeout as sleep } from "node:timers/promises";
import { encodeServeConfig } from "../../config/serve-document.ts";
import { claimRefusal } from "../../funnel/claim-text.ts";
import { type ClaimAnswer, claimAnswers, isPortClaim } from "../../wire/claims.ts";
import type { ServeConfig } from "../../wire/serve-config.ts";
import { CliExit, type CliIo } from "../io.ts";
import type { LocalClient } from "../local-client.ts";
import { terminalText } from "../terminal-text.ts";
import type { ServeChange } from "./serve-args.ts";
import { nodeName } from "./serve-text.ts";

/** A wish and its answer are two messages; a server that does not answer for so long is away. */
const PATIENCE_MS = 10_000;
const PAUSE_MS = 100;

/** What a command asks of the network beside the node's own name: a domain or a raw port. */
export function claimOf({ isFunnel, isLease, domain, port }: ServeChange): string | undefined {
  if (!isFunnel) return undefined;
  return isLease === true ? String(port) : domain;
}

/** What became of all that this node claims. */
export async function claimsOf(client: LocalClient): Promise<readonly ClaimAnswer[]> {
  const { Self } = await client.status({ peers: false });
  return claimAnswers(Self.CapMap ?? undefined) ?? [];
}

/**
 * Another node may hold it, or the policy may not give it: then the command says so, and nothing is public (FN-14).
 * @throws {CliExit}
 */
export async function assertClaimed(claim: string | undefined, io: CliIo, client: LocalClient): Promise<void> {
  if (claim === undefined) return;
  const said = `${isPortClaim(claim) ? "port " : ""}${terminalText(claim)}`;
  const { answer, ownName } = await answered(claim, io, client);
  if (answer === "silent") return void warn(io, `this network's server has no word on who holds ${said}`);
  if (answer === undefined)
    return void warn(io, `the server has not said yet who holds ${said}: sallyport funnel status`);
  const refusal = claimRefusal(answer, ownName);
  if (refusal !== undefined) throw new CliExit(`error: ${terminalText(refusal)}`);
}

const warn = (io: CliIo, text: string): void => io.stderr(`Warning: ${text}\n`);

interface Answered {
  readonly answer: ClaimAnswer | "silent" | undefined;
  readonly ownName: string;
}

async function answered(claim: string, io: CliIo, client: LocalClient): Promise<Answered> {
  const end = performance.now() + PATIENCE_MS;
  for (;;) {
    const status = await client.status({ peers: false });
    const ownName = nodeName(status);
    const answers = claimAnswers(status.Self.CapMap ?? undefined);
    if (answers === undefined) return { answer: "silent", ownName };
    const answer = answers.find((one) => one.claim === claim);
    if (answer !== undefined || io.signal.aborted || performance.now() >= end) return { answer, ownName };
    await sleep(PAUSE_MS, undefined, { signal: io.signal }).catch(() => undefined);
  }
}

/** Takes back what was set up for a claim that was refused, unless others have changed it since. */
export async function undo(set: ServeConfig, before: ServeConfig, client: LocalClient): Promise<void> {
  const { config, etag } = await client.serveConfig();
  if (encodeServeConfig(config) === encodeServeConfig(set)) await client.setServeConfig(before, etag);
}
