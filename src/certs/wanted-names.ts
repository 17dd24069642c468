import { Fault } from "../base/fault.ts";

const MOST_NAMES = 100;
const NAME = /^(?:\*\.)?(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9-]*[a-z][a-z0-9-]*$/;

/**
 * Names as a public CA takes them (Baseline Requirements 7.1.4.2, RFC 6125 section 6.4.3): at least two labels, the last
 * one no number, a wildcard only as the whole first label and above two others.
 * @throws {Fault} CERT_NAME
 */
export function checkedNames(names: readonly string[]): readonly string[] {
  const fail = (name: string, found: string): Fault =>
    new Fault("CERT_NAME", `Cannot want a certificate for "${name}": ${found}`, { hint: "Give a DNS name." });
  if (names.length === 0 || names.length > MOST_NAMES) {
    throw fail(names[0] ?? "", `${names.length} names, 1 to ${MOST_NAMES} wanted`);
  }
  for (const name of names) {
    if (name.length > 253 || !NAME.test(name) || name.endsWith("-")) throw fail(name, "not a DNS name in lower case");
    if (name.startsWith("*.") && name.split(".").length < 3) throw fail(name, "a wildcard of a whole top-level domain");
  }
  if (new Set(names).size < names.length) throw fail(names[0]!, "a name stands there twice");
  return names;
}

/** Server names of hellos and hands: any case, perhaps a final dot. */
export function foldedName(name: string): string {
  return name.toLowerCase().replace(/\.$/, "");
}

/** `*.example.com` for `a.example.com`. */
export function wildcardAbove(name: string): string | undefined {
  const dot = name.indexOf(".");
  return dot <= 0 ? undefined : `*${name.slice(dot)}`;
}

export interface WildcardRules {
  /** The node's own name. */
  readonly ownName: string;
  /** Of all names of the mesh, such as `tail1.ts.net`. */
  readonly suffix: string;
  /** The policy names this gateway for names of the whole mesh. */
  readonly isSuffixAllowed: boolean;
}

/**
 * Why a wildcard must not be ordered: within the mesh it would speak for nodes of others, so it may only stand below the
 * node's own name. Domains outside the mesh are the operator's affair.
 */
export function wildcardRefusal(name: string, rules: WildcardRules): Fault | undefined {
  if (!name.startsWith("*.")) return undefined;
  const [base, own, suffix] = [name.slice(2), rules.ownName, rules.suffix].map(foldedName) as [string, string, string];
  const isBelow = (inner: string, outer: string): boolean => inner === outer || inner.endsWith(`.${outer}`);
  // A wildcard of what is above the mesh covers it too: `*.ts.net` for the mesh `tail1.ts.net`.
  const speaksForMesh = isBelow(base, suffix) || isBelow(suffix, base);
  if (!speaksForMesh || (isBelow(base, own) && own !== suffix)) return undefined;
  if (rules.isSuffixAllowed && isBelow(base, suffix)) return undefined;
  return new Fault("CERT_WILDCARD", `Cannot order "${name}": it stands for names of other nodes`, {
    hint: `Ask for "*.${own}", or let the policy name this gateway for the whole mesh.`,
  });
}
