/** A CA that asks for more is taken to ask for this: longer than any limit that CAs publish. */
const LONGEST_MS = 7 * 86_400_000;

/** RFC 9110 section 10.2.3: seconds, or a date; in ms from now, undefined where it says neither. */
export function parseRetryAfter(value: string | undefined, wall: number): number | undefined {
  const text = value?.trim() ?? "";
  const ms = /^\d{1,15}$/.test(text) ? Number(text) * 1000 : Date.parse(text) - wall;
  return Number.isNaN(ms) || text === "" ? undefined : Math.min(Math.max(0, ms), LONGEST_MS);
}
