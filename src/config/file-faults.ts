import type { z } from "zod";
import { Fault } from "../base/fault.ts";
import type { Hujson } from "../base/hujson.ts";

/** To a member of the file: names and places in lists. */
export type Path = readonly (string | number)[];

/** Says where in the file something is that cannot be. */
export type Fail = (path: Path, found: string, hint?: string) => never;

export function failAt(parsed: Hujson, file: string): Fail {
  return (path, found, hint) => {
    const { line, column } = parsed.positionOf(path);
    const where = path.length === 0 ? "" : `${path.map(String).join(" / ")}: `;
    throw new Fault("CONFIG_SERVICES", `Cannot use "${file}": line ${line}, column ${column}: ${where}${found}`, {
      line,
      column,
      ...(hint === undefined ? {} : { hint }),
    });
  };
}

/** Zod passes over a member of this name without a word, wherever names are free. */
export function protoMember(value: unknown, path: Path): Path | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  for (const [name, member] of Object.entries(value)) {
    const found = name === "__proto__" ? [...path, name] : protoMember(member, [...path, name]);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** The first issue, inside a union the one that got furthest. */
export function nearest(issues: readonly z.core.$ZodIssue[], base: Path): [path: Path, found: string, hint?: string] {
  const issue = issues[0];
  if (issue === undefined) return [base, "found an unexpected shape"];
  const path: Path = [...base, ...issue.path.filter((step) => typeof step !== "symbol")];
  if (issue.code === "invalid_union") {
    const branches = issue.errors.filter((branch) => branch.length > 0);
    if (branches.length === 0) return [path, issue.message];
    const object = branches.find((branch) => wantedHere(branch[0]!) === undefined);
    if (object !== undefined) return nearest(object, path);
    const wanted = branches.flatMap((branch) => wantedHere(branch[0]!) ?? []);
    const received = /, received .*$/s.exec(branches[0]?.[0]?.message ?? "")?.[0] ?? "";
    return [path, `Invalid input: expected ${[...new Set(wanted)].join(" or ")}${received}`];
  }
  if (issue.code === "invalid_key") return [path, issue.issues[0]?.message ?? issue.message];
  if (issue.code === "unrecognized_keys") {
    const key = issue.keys[0] ?? "";
    return [[...path, key], ...unknownMember(key)];
  }
  return [path, issue.message];
}

/** Of a value that is another one altogether; `undefined`: what is wrong is inside. */
function wantedHere(issue: z.core.$ZodIssue): string | readonly string[] | undefined {
  if (issue.path.length > 0) return undefined;
  if (issue.code === "invalid_type") return issue.expected;
  return issue.code === "invalid_value" ? issue.values.map(String) : undefined;
}

export function unknownMember(name: string): [found: string, hint: string] {
  return [`found unknown member "${name}"`, "docs/services-file.md lists every member"];
}
