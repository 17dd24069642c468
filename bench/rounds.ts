/** Of one group: on a quiet machine all rounds fit, on a busy one fewer are better than no end. */
const BUDGET_MS = 140_000;

/** The middle one; `undefined` when nothing could be measured. */
export function median(values: readonly number[]): number | undefined {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}

/**
 * Runs each case `rounds` times, one after another and all over again, so that what else happens on the machine falls on
 * all of them alike. Gives what was seen of each; a run that fails is told on standard error and not counted.
 */
export async function interleaved<Case, Seen>(
  cases: readonly Case[],
  rounds: number,
  measure: (one: Case) => Promise<Seen>,
): Promise<Map<Case, Seen[]>> {
  const seen = new Map<Case, Seen[]>(cases.map((one) => [one, []]));
  const begun = performance.now();
  for (let round = 1; round <= rounds; round++) {
    for (const one of cases) {
      try {
        seen.get(one)!.push(await measure(one));
      } catch (error) {
        console.error(`round ${round}: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
    const elapsed = performance.now() - begun;
    if (round < rounds && elapsed + elapsed / round > BUDGET_MS) {
      console.error(`only ${round} of ${rounds} rounds: one takes ${Math.round(elapsed / round / 1000)} s here`);
      break;
    }
  }
  return seen;
}
