import { toLatin1 } from "../../base/bytes.ts";
import { foldPattern, wildcardOf } from "../../wire/host-name.ts";

/** Names whose certificates are our business, and a quick look at whether one could be. */
export class WatchedNames {
  readonly #names: ReadonlySet<string>;
  readonly #domains: readonly string[];
  readonly #needles: RegExp;

  /** `domains`: with everything below them. */
  constructor(names: readonly string[], domains: readonly string[]) {
    this.#names = new Set(folded(names));
    this.#domains = folded(domains);
    const needles = [...[...this.#names].map(needleOf), ...this.#domains];
    this.#needles = new RegExp(needles.length === 0 ? "$.^" : needles.map(escaped).join("|"), "i");
  }

  /** Does the text of one of our names stand anywhere in it? Parsing every certificate of the world would take a machine of its own. */
  mayBeIn(certificate: Uint8Array): boolean {
    return this.#needles.test(toLatin1(certificate));
  }

  /** Those of a certificate's names under which it could stand in for us. */
  among(names: readonly string[]): readonly string[] {
    return folded(names).filter((name) => this.#isOurs(name));
  }

  #isOurs(name: string): boolean {
    if (this.#names.has(name) || (!name.startsWith("*.") && this.#names.has(wildcardOf(name)))) return true;
    if (name.startsWith("*.") && [...this.#names].some((own) => wildcardOf(own) === name)) return true;
    return this.#domains.some((domain) => name === domain || name.endsWith(`.${domain}`));
  }
}

const folded = (names: readonly string[]): readonly string[] => names.flatMap((name) => foldPattern(name) ?? []);
const escaped = (text: string): string => text.replace(/[.*]/g, "\\$&");

/** What every certificate for the name has in it, a wildcard's too. */
function needleOf(name: string): string {
  const labels = name.split(".");
  return labels.length > 2 ? labels.slice(1).join(".") : name;
}
