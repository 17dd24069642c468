import { Fault } from "../../base/fault.ts";
import { type Hujson, parseHujson } from "../../base/hujson.ts";

export type Path = readonly (string | number)[];

/** The policy file as text with positions: every complaint about it names a line and a column. */
export class PolicySource {
  readonly value: unknown;
  readonly #document: Hujson;

  constructor(text: string, file: string) {
    this.#document = parseHujson(text, file);
    this.value = this.#document.value;
  }

  positionOf(path: Path): { readonly line: number; readonly column: number } {
    return this.#document.positionOf(path);
  }

  /** The text is the hosted service's, unchanged; the place has fields of its own. */
  fault(code: string, path: Path, problem: string, hint?: string): Fault {
    return new Fault(code, problem, { ...this.#document.positionOf(path), ...(hint === undefined ? {} : { hint }) });
  }

  /**
   * The members of an object, by their canonical name. Names are matched without regard to case, as the hosted service
   * does; a name that is not among `known` is refused.
   */
  members(value: unknown, path: Path, known: readonly string[]): Map<string, { value: unknown; path: Path }> {
    const found = new Map<string, { value: unknown; path: Path }>();
    for (const [key, member] of this.entries(value, path)) {
      const name = known.find((candidate) => candidate.toLowerCase() === key.toLowerCase());
      if (name === undefined) {
        throw this.fault(
          "POLICY_UNKNOWN_MEMBER",
          [...path, key],
          `unknown member "${key}"`,
          `Known: ${known.join(", ")}`,
        );
      }
      if (found.has(name)) throw this.fault("POLICY_SHAPE", [...path, key], `member "${name}" given twice`);
      found.set(name, { value: member, path: [...path, key] });
    }
    return found;
  }

  entries(value: unknown, path: Path): [string, unknown][] {
    if (value === undefined || value === null) return [];
    if (typeof value !== "object" || Array.isArray(value))
      throw this.fault("POLICY_SHAPE", path, "an object is wanted");
    return Object.entries(value);
  }

  list(value: unknown, path: Path): readonly unknown[] {
    if (value === undefined || value === null) return [];
    if (!Array.isArray(value)) throw this.fault("POLICY_SHAPE", path, "a list is wanted");
    return value;
  }

  /** Without the blanks around each, as the hosted service reads them. */
  texts(value: unknown, path: Path): readonly string[] {
    return this.list(value, path).map((item, index) => this.text(item, [...path, index]).trim());
  }

  text(value: unknown, path: Path): string {
    if (typeof value !== "string") throw this.fault("POLICY_SHAPE", path, "a text is wanted");
    return value;
  }
}
