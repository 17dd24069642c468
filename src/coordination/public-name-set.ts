import { namesAbove } from "../certs/zone/records.ts";
import { wildcardOf } from "../wire/host-name.ts";

/**
 * What is at a name in public DNS: `name`, it is public; `below`, it is public by a wildcard, where nothing else is at it;
 * `above`, only names below it are (RFC 8020: it is there, and empty).
 */
export type NamePlace = "name" | "below" | "above";

/** Every public name of the mesh. */
export class PublicNameSet {
  /** With the names below a wildcard that it does not stand for. */
  readonly #names: ReadonlyMap<string, ReadonlySet<string>>;
  readonly #above: ReadonlySet<string>;

  constructor(names: Iterable<{ readonly name: string; readonly except: readonly string[] }>) {
    this.#names = new Map([...names].map(({ name, except }) => [name, new Set(except)]));
    this.#above = new Set([...this.#names.keys()].flatMap(namesAbove));
  }

  at(name: string): NamePlace | undefined {
    if (this.#names.has(name)) return "name";
    if (this.#above.has(name)) return "above";
    const except = name.startsWith("*") ? undefined : this.#names.get(wildcardOf(name));
    return except === undefined || except.has(name) ? undefined : "below";
  }
}
