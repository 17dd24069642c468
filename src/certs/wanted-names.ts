import { Fault } from "../base/fault.ts";
import { plainName } from "../wire/host-name.ts";

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

/** `*.example.com` for `a.example.com`. */
export function wildcardAbove(name: string): string | undefined {
  const dot = name.indexOf(".");
  return dot <= 0 ? undefined : `*${name.slice(dot)}`;
}

/**
 * Would this wildcard speak for nodes of others? Within the mesh only what is below the node's own name does not. Domains
 * outside the mesh are the operator's affair.
 */
export function isWildcardOfOthers(name: string, mesh: { readonly ownName: string; readonly suffix: string }): boolean {
  if (!name.startsWith("*.") || mesh.suffix === "") return false;
  const [base, own, suffix] = [name.slice(2), mesh.ownName, mesh.suffix].map(plainName) as [string, string, string];
  const isBelow = (inner: string, outer: string): boolean => inner === outer || inner.endsWith(`.${outer}`);
  return isBelow(base, suffix) && !(isBelow(base, own) && own !== suffix);
}
