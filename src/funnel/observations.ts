import type { Finding, Hop } from "./probe.ts";

/** What was found on the way to one public name, and when. */
export interface Observation {
  /** `name:port` */
  readonly target: string;
  /** ISO 8601, by the gateway's clock. */
  readonly at: string;
  readonly findings: readonly Finding[];
}

const HOPS: readonly Hop[] = ["policy", "dns", "ingress", "name", "certificate", "backend"];
const LONGEST_TARGET = 260;
const LONGEST_FOUND = 500;
const MOST = 256;

/** The last look at each public name. Whoever may change what is public says what he saw; nobody acts on it. */
export class Observations {
  readonly #byTarget: Map<string, Observation & { readonly served: string }> = new Map();
  /** What is public there now, in words that change with it; `undefined`: nothing. */
  readonly #servedAt: (target: string) => string | undefined;
  readonly #wall: () => number;

  constructor(servedAt: (target: string) => string | undefined, wall: () => number) {
    this.#servedAt = servedAt;
    this.#wall = wall;
  }

  /** Of what is public now, and was then: another target has not been looked at. */
  list(): readonly Observation[] {
    const current = [...this.#byTarget.values()].filter(({ target, served }) => this.#servedAt(target) === served);
    return current.map(({ served: _, ...observation }) => observation);
  }

  /** Takes `{target, findings}`; false = that is not its form, or the name is not public. */
  record(given: unknown): boolean {
    const { target, findings } = Object(given) as { readonly target?: unknown; readonly findings?: unknown };
    const served = typeof target === "string" && target.length <= LONGEST_TARGET ? this.#servedAt(target) : undefined;
    if (typeof target !== "string" || served === undefined) return false;
    if (!Array.isArray(findings) || findings.length === 0 || findings.length > HOPS.length) return false;
    const read = findings.map(readFinding);
    if (!read.every((finding) => finding !== undefined)) return false;
    this.#byTarget.delete(target); // the newest is last
    this.#byTarget.set(target, { target, at: new Date(this.#wall()).toISOString(), findings: read, served });
    for (const oldest of this.#byTarget.keys()) {
      if (this.#byTarget.size <= MOST) break;
      this.#byTarget.delete(oldest);
    }
    return true;
  }
}

function readFinding(given: unknown): Finding | undefined {
  const { hop, isGood, found } = Object(given) as Readonly<Record<string, unknown>>;
  const known = HOPS.find((one) => one === hop);
  if (known === undefined || typeof isGood !== "boolean" || typeof found !== "string") return undefined;
  return { hop: known, isGood, found: found.slice(0, LONGEST_FOUND) };
}
