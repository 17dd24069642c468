import { parsePrefix } from "../../base/address.ts";
import { type AddressRange, rangeOfPrefix } from "../../wire/address-set.ts";
import type { Posture } from "./posture.ts";

/** Who or what a rule is about. */
export type Selector =
  | { readonly kind: "any" }
  | { readonly kind: "user"; readonly login: string }
  | { readonly kind: "domain"; readonly domain: string }
  | { readonly kind: "group"; readonly name: string }
  | { readonly kind: "tag"; readonly name: string }
  | { readonly kind: "autogroup"; readonly name: string }
  | { readonly kind: "service"; readonly name: string }
  | { readonly kind: "ipset"; readonly ranges: readonly AddressRange[] }
  | { readonly kind: "range"; readonly range: AddressRange; readonly isWhole: boolean };

/** Autogroups that a node belongs to because its user does: `PolicyNode.roles`. */
export const ROLES: readonly string[] = [
  "admin",
  "owner",
  "it-admin",
  "network-admin",
  "billing-admin",
  "auditor",
  "shared",
];

const AUTOGROUPS = new Set(["member", "tagged", "self", "internet", "danger-all", "nonroot", ...ROLES]);

export interface Names {
  readonly hosts: ReadonlyMap<string, string>;
  readonly groups: ReadonlyMap<string, readonly string[]>;
  readonly tags: ReadonlySet<string>;
  readonly ipsets: ReadonlyMap<string, readonly AddressRange[]>;
  readonly postures: ReadonlyMap<string, Posture>;
}

/** A string result is what is wrong; the caller adds where. */
export function parseSelector(text: string, { hosts, groups, tags, ipsets }: Names): Selector | string {
  if (text === "*") return { kind: "any" };
  if (text.startsWith("tag:")) return tags.has(text) ? { kind: "tag", name: text } : `tag not found: "${text}"`;
  if (text.startsWith("group:")) {
    return groups.has(text) ? { kind: "group", name: text } : `group not found: "${text}"`;
  }
  if (text.startsWith("ipset:")) {
    const ranges = ipsets.get(text);
    return ranges === undefined ? `ipset not found: "${text}"` : { kind: "ipset", ranges };
  }
  if (text.startsWith("svc:")) {
    return /^svc:[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/i.test(text)
      ? { kind: "service", name: text }
      : `"${text}": invalid service name`;
  }
  if (text.startsWith("autogroup:")) {
    const name = text.slice("autogroup:".length);
    return AUTOGROUPS.has(name) ? { kind: "autogroup", name } : `unknown autogroup "${text}"`;
  }
  if (text.startsWith("user:*@")) return { kind: "domain", domain: text.slice("user:*@".length) };
  const host = hosts.get(text);
  const prefix = parsePrefix((host ?? text).replace(/^\[(.*)\]/, "$1"));
  if (prefix !== undefined) return { kind: "range", range: rangeOfPrefix(prefix), isWhole: prefix.bits === 0 };
  if (text.includes("@")) return { kind: "user", login: text };
  return `"${text}": invalid address`;
}

/** `ada@` stands for the login `ada`, as in Headscale's policies. */
export function isLogin(login: string, user: string | undefined): boolean {
  return user !== undefined && (login === user || (login.endsWith("@") && login.slice(0, -1) === user));
}

export const isSelf = (selector: Selector): boolean => selector.kind === "autogroup" && selector.name === "self";
