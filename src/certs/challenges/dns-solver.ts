import type { Clock } from "../../base/clock.ts";
import { withDeadline } from "../../base/deadline.ts";
import { Fault, messageOf } from "../../base/fault.ts";
import type { Log } from "../../base/log.ts";
import { pause } from "../../base/pause.ts";
import type { ChallengeSolver } from "./challenge.ts";
import type { ChallengeJournal } from "./challenge-journal.ts";
import { type DnsLookup, followAliases } from "./dns-lookup.ts";
import type { DnsProvider } from "./dns-provider.ts";
import { type Propagation, untilServed } from "./propagation.ts";

const REMOVE_WITHIN_MS = 60_000;

export interface DnsSolverOptions {
  /** Short and stable: names the provider in the journal. */
  readonly id: string;
  readonly provider: DnsProvider;
  readonly lookup: DnsLookup;
  readonly clock: Clock;
  readonly log: Log;
  /** Remembers what was written. @default nothing does: a process that dies leaves its record behind */
  readonly journal?: ChallengeJournal;
  /** Names, with their wildcards, that this provider can prove. @default all */
  readonly covers?: (name: string) => boolean;
  readonly propagation?: Propagation;
}

export interface DnsSolver extends ChallengeSolver {
  /** Takes away what processes left behind that died; to be called at the start and now and then. */
  sweep(): Promise<void>;
}

/** Proves names by TXT records (RFC 8555 section 8.4). */
export function dnsSolver(options: DnsSolverOptions): DnsSolver {
  const { id, provider, lookup, clock, log, journal, covers = () => true, propagation = {} } = options;

  const standing = new Set<string>();

  /** On its own time: the order may be over. */
  const remove = async (record: string, value: string): Promise<void> => {
    standing.delete(`${record} ${value}`);
    const late = (): Error => new Error("it took too long");
    try {
      await withDeadline(clock, REMOVE_WITHIN_MS, late, (signal) => provider.remove(record, value, signal));
      await journal?.drop({ provider: id, record, value });
    } catch (error) {
      log.warn("cert.challenge.left_behind", { provider: id, record, error: messageOf(error) });
    }
  };

  return {
    type: "dns-01",
    canProve: (name) => covers(name.replace(/^\*\./, "")),
    async present(challenge, signal) {
      if (challenge.type !== "dns-01") {
        throw new Fault("CERT_CHALLENGE_TOKEN", `Cannot prove "${challenge.name}" by DNS: found ${challenge.type}`);
      }
      const { value } = challenge;
      const record = provider.ownsName ? challenge.record : await followAliases(lookup, challenge.record, signal);
      standing.add(`${record} ${value}`);
      await journal?.add({ provider: id, record, value });
      try {
        await provider.set(record, value, signal);
        if (propagation.insteadMs !== undefined) await pause(clock, propagation.insteadMs, signal);
        else if (!provider.isServedAtOnce) await untilServed(lookup, clock, { record, value }, propagation, signal);
      } catch (error) {
        await remove(record, value); // it may have been written, whatever was said
        throw error;
      }
      return () => remove(record, value);
    },
    async sweep() {
      for (const { record, value } of (await journal?.abandoned(id)) ?? []) {
        if (!standing.has(`${record} ${value}`)) await remove(record, value);
      }
    },
  };
}
