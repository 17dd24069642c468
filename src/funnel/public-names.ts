import type { AddressPort } from "../base/address.ts";
import { foldName } from "../wire/host-name.ts";
import type { RulesBySite } from "../wire/visitor-rules.ts";

/** A name that strangers may ask for, and the node that it belongs to. */
export interface PublicName {
  /** Lower case, no dot at its end; `*.example.org` stands for every name with one label more. */
  readonly name: string;
  readonly ports: ReadonlySet<number>;
  /** Stable id: who holds a name keeps it. */
  readonly owner: string;
  /** The node's peerapi; undefined: it has none that we could reach. */
  readonly peerApi: AddressPort | undefined;
  /** What its owner asks of every ingress. */
  readonly rules?: RulesBySite;
  /** Names below a wildcard that it does not stand for: others hold them. */
  readonly except?: ReadonlySet<string>;
}

/** Every public name, each with one owner. */
export class NameTable {
  readonly #exact: Map<string, PublicName> = new Map();
  /** By what stands behind `*.`. */
  readonly #wildcards: Map<string, PublicName> = new Map();
  /** Claims that were not granted: the name has an owner (FN-14). */
  readonly conflicts: readonly PublicName[];

  /** The first claim of a name holds; who held it in `before` and still claims it was first. */
  constructor(claims: Iterable<PublicName>, before?: NameTable) {
    const conflicts: PublicName[] = [];
    for (const claim of claims) {
      const isWildcard = claim.name.startsWith("*.");
      const name = foldName(isWildcard ? claim.name.slice(2) : claim.name);
      if (name === undefined) continue;
      const table = isWildcard ? this.#wildcards : this.#exact;
      const held = table.get(name);
      const earlier = before?.owner(name, isWildcard);
      if (held === undefined) table.set(name, claim);
      else if (held.owner !== claim.owner && earlier === claim.owner) {
        conflicts.push(held);
        table.set(name, claim);
      } else if (held.owner !== claim.owner) conflicts.push(claim);
    }
    this.conflicts = conflicts;
  }

  owner(name: string, isWildcard: boolean): string | undefined {
    return (isWildcard ? this.#wildcards : this.#exact).get(name)?.owner;
  }

  /** Whose `name` is on `port`; the exact name comes before a wildcard. */
  find(name: string | undefined, port: number): PublicName | undefined {
    const found = this.named(name);
    return found?.ports.has(port) === true ? found : undefined;
  }

  named(text: string | undefined): PublicName | undefined {
    const known = this.#exact.get(text ?? "");
    if (known !== undefined) return known; // mostly it is folded already
    const name = text === undefined ? undefined : foldName(text);
    if (name === undefined) return undefined;
    const exact = this.#exact.get(name);
    if (exact !== undefined) return exact;
    const wildcard = this.#wildcards.get(name.slice(name.indexOf(".") + 1));
    return wildcard?.except?.has(name) === true ? undefined : wildcard;
  }

  get size(): number {
    return this.#exact.size + this.#wildcards.size;
  }
}
