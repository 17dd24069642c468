/** The middle one. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

/**
 * Runs each case `rounds` times, one after another and all over again, so that what else happens on the machine falls on
 * all of them alike. Gives what was seen of each.
 */
export async function interleaved<Case, Seen>(
  cases: readonly Case[],
  rounds: number,
  measure: (one: Case) => Promise<Seen>,
): Promise<Map<Case, Seen[]>> {
  const seen = new Map<Case, Seen[]>(cases.map((one) => [one, []]));
  for (let round = 0; round < rounds; round++) {
    for (const one of cases) seen.get(one)!.push(await measure(one));
  }
  return seen;
}
