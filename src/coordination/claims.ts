import {
  type ClaimAnswer,
  type ClaimState,
  isInRanges,
  isPortClaim,
  MOST_LEASES,
  type PortRange,
} from "../wire/claims.ts";
import { wildcardOf } from "../wire/host-name.ts";

/** Claim (`shop.example.org`, `2222`) → id of the node that holds it. */
export type Holders = ReadonlyMap<string, number>;

/** One node, what it asks for, and what the policy gives it. */
export interface Claimant {
  readonly id: number;
  readonly claims: readonly string[];
  readonly names: readonly string[];
  readonly ports: readonly PortRange[];
}

export interface ClaimFacts {
  readonly claimants: readonly Claimant[];
  /** What some ingress has to let. */
  readonly leasable: readonly PortRange[];
  readonly baseDomain: string;
  /** Who held what until now: he keeps it. */
  readonly before: Holders;
  /** But these only until another node asks: the administrator says so. @default none */
  readonly released?: ReadonlySet<string>;
  /** Names of the server itself, which nobody gets. @default none */
  readonly reserved?: readonly string[];
}

/** Who holds which own domain and which raw port: one node each, the first that asked (FN-14). Pure. */
export class Claims {
  readonly holders: Holders;
  /** Of those that were released, the ones that nobody else has asked for since. */
  readonly released: ReadonlySet<string>;
  readonly #answers: ReadonlyMap<number, readonly ClaimAnswer[]>;
  readonly #reserved: readonly string[];

  constructor(facts: ClaimFacts) {
    const { claimants, leasable, baseDomain, before, released = new Set(), reserved = [] } = facts;
    this.#reserved = reserved;
    const granted = claimants.map((one) => {
      // Many may claim much, and this is worked out after every operation: nothing here is looked for in a list.
      const isHeld = (claim: string): boolean => before.get(claim) === one.id;
      const wanted = one.claims.filter(isPortClaim);
      const ports = new Set(
        [...wanted.filter(isHeld), ...wanted.filter((port) => !isHeld(port))].slice(0, MOST_LEASES),
      );
      const isPossible = (claim: string): boolean => !isPortClaim(claim) || ports.has(claim);
      const names = new Set(one.names);
      const isGiven = (claim: string): boolean =>
        isPortClaim(claim)
          ? isInRanges(one.ports, Number(claim))
          : isGranted(names, claim, baseDomain) && !reserved.includes(claim);
      const given = new Set(one.claims.filter(isGiven));
      return { one, given, claims: new Set([...given].filter(isPossible)) };
    });
    const holders = new Map<string, number>();
    const keep = (mayKeep: (claim: string) => boolean): void => {
      for (const { one, claims } of granted) {
        for (const claim of claims) {
          if (before.get(claim) === one.id && !holders.has(claim) && mayKeep(claim)) holders.set(claim, one.id);
        }
      }
    };
    keep((claim) => !released.has(claim));
    for (const { one, claims } of granted) {
      // A name under another's wildcard leads to that one already: who asks for it later must not take it away.
      const isFree = (claim: string): boolean => (holders.get(wildcardOf(claim)) ?? one.id) === one.id;
      const isGivenUp = (claim: string): boolean => before.get(claim) === one.id && released.has(claim);
      for (const claim of claims) {
        if (!holders.has(claim) && isFree(claim) && !isGivenUp(claim)) holders.set(claim, one.id);
      }
    }
    keep((claim) => released.has(claim));
    // What the policy has taken back is anybody's; where nobody takes it, it is given back to who had it, and not to whoever is first
    // after a slip of an administrator's.
    for (const { id, claims } of claimants) {
      for (const claim of claims) if (before.get(claim) === id && !holders.has(claim)) holders.set(claim, id);
    }
    this.holders = holders;
    this.released = new Set(
      [...released].filter((claim) => holders.has(claim) && holders.get(claim) === before.get(claim)),
    );
    this.#answers = new Map(
      granted.map(({ one, given, claims }) => {
        const stateOf = (claim: string): ClaimState => {
          if (!claims.has(claim)) return given.has(claim) ? "crowded" : "ungranted";
          if (holders.get(claim) !== one.id) return "taken";
          return isPortClaim(claim) && !isInRanges(leasable, Number(claim)) ? "closed" : "held";
        };
        const why = (claim: string) => (reserved.includes(claim) ? { isServers: true as const } : {});
        return [one.id, one.claims.map((claim) => ({ claim, state: stateOf(claim), ...why(claim) }))] as const;
      }),
    );
  }

  /** What each node asks for, and what became of it. */
  get all(): Iterable<readonly [id: number, answers: readonly ClaimAnswer[]]> {
    return this.#answers;
  }

  answersFor(id: number): readonly ClaimAnswer[] {
    return this.#answers.get(id) ?? [];
  }

  /** Own domains that lead to the node. */
  namesOf(id: number): readonly string[] {
    return this.#held(id).filter((claim) => !isPortClaim(claim));
  }

  /** Raw ports that lead to the node. */
  portsOf(id: number): readonly number[] {
    return this.#held(id).filter(isPortClaim).map(Number);
  }

  /** Names below this wildcard that other nodes hold, or the server: away or not, theirs lead to nobody else (FN-14). */
  heldBelow(wildcard: string, id: number): readonly string[] {
    if (!wildcard.startsWith("*.")) return [];
    const others = [...this.holders].flatMap(([claim, holder]) =>
      holder !== id && !isPortClaim(claim) && !claim.startsWith("*.") ? [claim] : [],
    );
    return [...others, ...this.#reserved].filter((name) => wildcardOf(name) === wildcard);
  }

  #held(id: number): readonly string[] {
    return this.answersFor(id).flatMap(({ claim, state }) => (state === "held" ? [claim] : []));
  }
}

/** Nobody gets a name of the mesh itself. */
function isGranted(names: ReadonlySet<string>, claim: string, baseDomain: string): boolean {
  if (`.${claim.replace(/^\*\./, "")}`.endsWith(`.${baseDomain}`)) return false;
  return names.has(claim) || (!claim.startsWith("*") && names.has(wildcardOf(claim)));
}

/** The form in which it is kept. */
export function encodeHolders(holders: Holders): string {
  return JSON.stringify([...holders].toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

/** What cannot be read was held by nobody: the first to ask has it then. */
export function decodeHolders(text: string | undefined): Holders {
  return new Map(listIn(text).filter(isEntry));
}

export function encodeReleased(released: ReadonlySet<string>): string {
  return JSON.stringify([...released].toSorted());
}

/** What cannot be read was not released: whoever has it keeps it. */
export function decodeReleased(text: string | undefined): ReadonlySet<string> {
  return new Set(listIn(text).filter((claim) => typeof claim === "string"));
}

/** Empty where it cannot be read. */
function listIn(text: string | undefined): readonly unknown[] {
  try {
    const list: unknown = JSON.parse(text ?? "[]");
    return Array.isArray(list) ? list : [];
  } catch {
    return [];
  }
}

const isEntry = (value: unknown): value is [string, number] =>
  Array.isArray(value) && typeof value[0] === "string" && typeof value[1] === "number";
