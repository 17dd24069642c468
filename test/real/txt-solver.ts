import { fetch } from "undici";
import type { ChallengeSolver } from "../../src/certs/challenges/challenge.ts";

/** Writes to Pebble's DNS, which can only clear all values of a record: so that is for the last one that goes. */
export function txtSolver(management: string): ChallengeSolver {
  const shown = new Map<string, number>();
  const post = async (what: string, body: object): Promise<void> => {
    const { ok, status } = await fetch(`${management}/${what}`, { method: "POST", body: JSON.stringify(body) });
    if (!ok) throw new Error(`challtestsrv answered ${status}`);
  };
  const count = (record: string, by: number): number => {
    const left = (shown.get(record) ?? 0) + by;
    shown.set(record, left);
    return left;
  };
  return {
    type: "dns-01",
    canProve: () => true,
    async present(challenge) {
      if (challenge.type !== "dns-01") throw new Error(`a ${challenge.type} challenge for DNS`);
      const host = `${challenge.record}.`;
      count(host, 1);
      await post("set-txt", { host, value: challenge.value });
      return async () => {
        if (count(host, -1) === 0) await post("clear-txt", { host });
      };
    },
  };
}
