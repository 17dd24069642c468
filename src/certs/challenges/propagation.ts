import type { Clock } from "../../base/clock.ts";
import { Fault } from "../../base/fault.ts";
import { pause } from "../../base/pause.ts";
import { RECORD } from "../../wire/dns.ts";
import { readText } from "../../wire/dns-data.ts";
import { authorities, type DnsLookup, findZone, recordsOf } from "./dns-lookup.ts";

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 10_000;

export interface Propagation {
  /** @default 180 s */
  readonly timeoutMs?: number;
  /** Waited instead, where the zone's servers cannot be asked from here. */
  readonly insteadMs?: number;
}

/**
 * Settles when every server of the zone that answers us shows `value`, and one at least does: a CA asks any of them, and
 * remembers for a while that it saw nothing.
 * @throws {Fault} CERT_CHALLENGE_UNSEEN
 */
export async function untilServed(
  lookup: DnsLookup,
  clock: Clock,
  { record, value }: { readonly record: string; readonly value: string },
  { timeoutMs = 180_000 }: Propagation,
  signal: AbortSignal,
): Promise<void> {
  const { zone } = await findZone(lookup, record, signal);
  const servers = await authorities(lookup, zone, signal);
  const end = clock.now() + timeoutMs;
  let wait = FIRST_PAUSE_MS;
  for (;;) {
    const seen = await Promise.all(servers.map((server) => isServed(lookup, server, record, value, signal)));
    signal.throwIfAborted();
    if (seen.includes(true) && !seen.includes(false)) return;
    if (clock.now() >= end) {
      const missing = servers.filter((_, i) => seen[i] !== true).join(", ");
      throw new Fault(
        "CERT_CHALLENGE_UNSEEN",
        `Cannot prove "${record}": after ${Math.round(timeoutMs / 1000)} s it is not shown by ${missing}, wanted by all`,
        { hint: "Look whether the provider's zone is the one that the parent zone delegates to." },
      );
    }
    await pause(clock, wait, signal);
    wait = Math.min(LONGEST_PAUSE_MS, wait * 2);
  }
}

/** `undefined`: the server does not answer us; that it does not answer others either is not ours to find out. */
async function isServed(
  lookup: DnsLookup,
  server: string,
  record: string,
  value: string,
  signal: AbortSignal,
): Promise<boolean | undefined> {
  try {
    const message = await lookup.ask(record, RECORD.TXT, { server, signal });
    return recordsOf(message, record, RECORD.TXT).some(({ data }) => readText(data) === value);
  } catch (error) {
    if (error instanceof Fault) return undefined;
    throw error;
  }
}
