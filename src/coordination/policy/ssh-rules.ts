import type { SshRule as WireRule } from "../../wire/tailcfg.ts";
import type { PolicyNode } from "../policy-engine.ts";
import { meets } from "./posture.ts";
import { isTagged, names } from "./resolve.ts";
import { isSelf, type Names, type Selector } from "./selector.ts";
import { LOCALPART, type SshRule } from "./ssh.ts";

const ACCEPT = {
  accept: true,
  allowAgentForwarding: true,
  allowLocalPortForwarding: true,
  allowRemotePortForwarding: true,
};
/** The host is not looked at: the client asks over its control channel. */
const CHECK = {
  holdAndDelegate: "https://unused/machine/ssh/action/$SRC_NODE_ID/to/$DST_NODE_ID?local_user=$LOCAL_USER",
};

/** The SSH rules that `target` must know: check rules first, for the first that matches wins (control-protocol 7.8). */
export function sshRulesFor(
  rules: readonly SshRule[],
  policyNames: Names,
  target: PolicyNode,
  all: readonly PolicyNode[],
): readonly WireRule[] {
  const ordered = [...rules.filter(isCheck), ...rules.filter((rule) => !isCheck(rule))];
  return ordered.flatMap((rule) => {
    const sources = all.filter((node) => reachesBySsh(rule, policyNames, node, target));
    return sources.length === 0 ? [] : wireRules(rule, sources);
  });
}

const isCheck = (rule: SshRule): boolean => rule.action === "check";

/** True when `source` is one of the rule's and `target` one of its destinations for that source. */
export function reachesBySsh(
  { sources, destinations, postures }: SshRule,
  policyNames: Names,
  source: PolicyNode,
  target: PolicyNode,
): boolean {
  if (!meets(postures, source) || !sources.some((selector) => names(selector, source, policyNames))) return false;
  return destinations.some((selector) => isSshTarget(selector, policyNames, source, target));
}

function isSshTarget(selector: Selector, policyNames: Names, source: PolicyNode, target: PolicyNode): boolean {
  if (isSelf(selector)) return isSameOwner(target, source);
  if (!names(selector, target, policyNames)) return false;
  // A user's node named as theirs is open only to the same user; tagged sources get to no user's node.
  return isTagged(target) || (selector.kind !== "user" && !isTagged(source)) || isSameOwner(target, source);
}

export function isSameOwner(a: PolicyNode, b: PolicyNode): boolean {
  return !isTagged(a) && !isTagged(b) && a.user !== undefined && a.user === b.user;
}

/** One rule; with `localpart:*@domain` one for each person, and one more where the domain is theirs. */
function wireRules(rule: SshRule, sources: readonly PolicyNode[]): readonly WireRule[] {
  const wire = (nodes: readonly PolicyNode[], sshUsers: Readonly<Record<string, string>>): WireRule => ({
    principals: principalsOf(nodes),
    sshUsers,
    action: isCheck(rule) ? CHECK : ACCEPT,
    ...(rule.acceptEnv.length === 0 ? {} : { acceptEnv: rule.acceptEnv }),
  });
  const domains = rule.users.filter(isLocalpart).map((user) => user.slice(LOCALPART.length));
  const common = rule.users.filter((user) => !isLocalpart(user));
  if (domains.length === 0) return [wire(sources, sshUsersOf(common))];
  return [...Map.groupBy(sources, (node) => node.user)].flatMap(([login, nodes]) => {
    const at = login?.lastIndexOf("@") ?? -1;
    const isAmong = login !== undefined && at > 0 && domains.includes(login.slice(at + 1));
    return [
      ...(common.length === 0 ? [] : [wire(nodes, sshUsersOf(common))]),
      ...(isAmong ? [wire(nodes, { [login.slice(0, at)]: login.slice(0, at) })] : []),
    ];
  });
}

const isLocalpart = (user: string): boolean => user.startsWith(LOCALPART) && user.length > LOCALPART.length;

/** `root` is always said, refused unless it is named. */
function sshUsersOf(users: readonly string[]): Readonly<Record<string, string>> {
  const entries = users.map((user) => (user === "autogroup:nonroot" ? ["*", "="] : [user, user]));
  return Object.fromEntries([["root", ""], ...entries]);
}

function principalsOf(nodes: readonly PolicyNode[]): readonly { readonly nodeIP: string }[] {
  const addresses = [...new Set(nodes.flatMap((node) => node.addresses))];
  const ofFamily = (isV6: boolean): readonly string[] =>
    addresses.filter((address) => address.includes(":") === isV6).toSorted();
  return [...ofFamily(false), ...ofFamily(true)].map((nodeIP) => ({ nodeIP }));
}
