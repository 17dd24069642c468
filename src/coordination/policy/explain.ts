import { Fault } from "../../base/fault.ts";
import type { CapMap } from "../../wire/tailcfg.ts";
import { Bench, populated } from "./bench.ts";
import { type Grant, readPolicy } from "./document.ts";
import { OPEN } from "./policy.ts";
import { parseSelector } from "./selector.ts";

export interface Question {
  /** User, tag, group, host or address. */
  readonly source: string;
  /** The same, with one port: `tag:web:443`. */
  readonly target: string;
  /** @default tcp */
  readonly protocol?: string;
}

export interface Explanation {
  readonly isAllowed: boolean;
  /** Why not, where it is not. */
  readonly reason: string | undefined;
  /** The rules that let it through, each by itself; none: the policy has no rules, and allows all. */
  readonly allowedBy: readonly { readonly line: number; readonly column: number }[];
  readonly capabilities: CapMap;
  readonly grantedBy: readonly { readonly line: number; readonly column: number }[];
}

/**
 * May `source` reach `target`, with which capabilities, and by which line of the policy? Answered without a server:
 * for each user and tag that the policy or the question names, a node is made up.
 */
export function explainPolicy(text: string, file: string, question: Question): Explanation {
  const document = readPolicy(text, file, {});
  const { source, target, protocol = "tcp" } = question;
  const host = /^(.+):\d{1,5}$/.exec(target)?.[1];
  if (host === undefined) throw new Fault("POLICY_QUESTION", `Cannot explain "${target}": no port, wanted DST:PORT`);
  for (const name of [source, host]) {
    const selector = parseSelector(name, document.names);
    if (typeof selector === "string") throw new Fault("POLICY_QUESTION", `Cannot explain "${name}": ${selector}`);
  }
  const grants = document.grants ?? [OPEN];
  const nodes = populated(document, { users: [source, host].filter((name) => /^[^:]+@/.test(name)) });
  const test = { path: [], src: source, proto: protocol, accept: [target], deny: [], attributes: undefined };
  const problemWith = (some: readonly Grant[]): string | undefined =>
    new Bench(document, some, nodes).trafficProblem(test);
  const placeOf = ({ path }: Grant) => document.source.positionOf(path);
  const problem = problemWith(grants);
  // What a source is like is not known here: say which rules depend on it.
  const postured = grants.filter(
    (grant) => grant.postures.length > 0 && problemWith([{ ...grant, postures: [] }]) === undefined,
  );
  const lines = postured.map((grant) => placeOf(grant).line).join(", ");
  const refusal = lines === "" ? "no rule allows it" : `only sources that meet a posture may, by line ${lines}`;
  const reason = problem?.includes("not allowed") === true ? refusal : problem;
  const capabilities = new Bench(document, grants, nodes).capabilities(source, host);
  const gives = (grant: Grant): boolean =>
    grant.app !== undefined && Object.keys(new Bench(document, [grant], nodes).capabilities(source, host)).length > 0;
  return {
    isAllowed: reason === undefined,
    reason,
    allowedBy:
      document.grants === undefined ? [] : grants.filter((grant) => problemWith([grant]) === undefined).map(placeOf),
    capabilities,
    grantedBy: grants.filter(gives).map(placeOf),
  };
}
