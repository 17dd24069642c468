import { parsePrefix } from "../../base/address.ts";
import { rangeOfPrefix } from "../../wire/address-set.ts";
import type { CapMap, FilterRule, SshRule } from "../../wire/tailcfg.ts";
import type { PolicyEngine, PolicyNode } from "../policy-engine.ts";
import { Compilation } from "./compile.ts";
import { type Grant, type PolicyDocument, readPolicy } from "./document.ts";
import { maySetAttribute, networkAttributes } from "./network-settings.ts";
import { ALL_PORTS } from "./ports.ts";
import { names } from "./resolve.ts";
import { isLogin, type Selector } from "./selector.ts";
import { runTests } from "./self-test.ts";
import { sshRulesFor } from "./ssh-rules.ts";
import { Visibility } from "./visibility.ts";

export interface PolicyContext {
  /** Login names of all users. Given, a policy that names another is refused. */
  readonly users?: readonly string[];
  /** Login name → what that user is in the tailnet. */
  readonly roles?: ReadonlyMap<string, readonly string[]>;
  /** Mail domains of the tailnet, for `user:*@domain`; those of the users when absent. */
  readonly domains?: readonly string[];
  /** The nodes of now: the policy's own tests are run against them. Users and tags without a node get a made-up one. */
  readonly nodes?: readonly PolicyNode[];
  /** What complaints call the policy. */
  readonly file?: string;
}

/** With neither `acls` nor `grants` everybody may reach everything. */
export const OPEN: Grant = {
  path: [],
  sources: [{ kind: "any" }],
  destinations: [{ kind: "any" }],
  openings: [{ protocols: [], ports: [ALL_PORTS] }],
  app: undefined,
  via: [],
  postures: [],
};

/**
 * Reads a policy (HuJSON), checks it and runs its tests. Throws a Fault (`POLICY_…`, or `HUJSON_SYNTAX`) with line and
 * column; an empty text is the policy that allows all.
 */
export function compilePolicy(source: string, context: PolicyContext = {}): PolicyEngine {
  const document = readPolicy(source, context.file ?? "policy.hujson", context);
  const grants = document.grants ?? [OPEN];
  runTests(document, grants, context);
  return new Policy(document, grants);
}

/** The grants against one set of nodes. */
interface Compiled {
  readonly rules: Compilation;
  readonly visibility: Visibility;
}

class Policy implements PolicyEngine {
  readonly #document: PolicyDocument;
  readonly #grants: readonly Grant[];
  /** By identity of the list of nodes: callers make a new list when a node changes. */
  readonly #compiled: WeakMap<readonly PolicyNode[], Compiled> = new WeakMap();

  constructor(document: PolicyDocument, grants: readonly Grant[]) {
    this.#document = document;
    this.#grants = grants;
  }

  #for(all: readonly PolicyNode[]): Compiled {
    let compiled = this.#compiled.get(all);
    if (compiled === undefined) {
      const rules = new Compilation(this.#grants, this.#document.names, all);
      compiled = { rules, visibility: new Visibility(this.#grants, all, rules) };
      this.#compiled.set(all, compiled);
    }
    return compiled;
  }

  filterFor(node: PolicyNode, all: readonly PolicyNode[]): readonly FilterRule[] {
    return this.#for(all).rules.rulesFor(node);
  }

  visibleTo(node: PolicyNode, all: readonly PolicyNode[]): ReadonlySet<number> {
    return this.#for(all).visibility.visibleTo(node);
  }

  routesFor(viewer: PolicyNode, router: PolicyNode, all: readonly PolicyNode[]): readonly string[] {
    return this.#for(all).visibility.routesFor(viewer, router);
  }

  servicesFor(viewer: PolicyNode, host: PolicyNode, all: readonly PolicyNode[]): readonly string[] {
    return host.services === undefined ? [] : this.#for(all).visibility.servicesFor(viewer, host);
  }

  attributesFor(node: PolicyNode, _all: readonly PolicyNode[]): CapMap {
    const held: Record<string, readonly unknown[] | null> = Object.create(null);
    Object.assign(held, networkAttributes(this.#document.network, node));
    for (const { targets, attributes } of this.#document.nodeAttributes) {
      if (!this.#isAmong(targets, node)) continue;
      for (const [name, values] of Object.entries(attributes)) {
        held[name] = values === null ? (held[name] ?? null) : [...(held[name] ?? []), ...values];
      }
    }
    return held;
  }

  sshFor(node: PolicyNode, all: readonly PolicyNode[]): readonly SshRule[] | undefined {
    const { ssh, names: policyNames } = this.#document;
    return ssh.length === 0 ? undefined : sshRulesFor(ssh, policyNames, node, all);
  }

  mayTag(user: string, tag: string, roles: readonly string[] = []): boolean {
    return (this.#document.tagOwners.get(tag) ?? []).some((owner) => {
      if (owner === "autogroup:member") return true;
      if (owner.startsWith("autogroup:")) return roles.includes(owner.slice("autogroup:".length));
      const logins = owner.startsWith("group:") ? (this.#document.names.groups.get(owner) ?? []) : [owner];
      return logins.some(
        (login) => isLogin(login, user) || login === `user:*@${user.slice(user.lastIndexOf("@") + 1)}`,
      );
    });
  }

  /** Inside a listed route, except the default routes: those are for `exitNode` alone. */
  autoApproves(node: PolicyNode, route: string): boolean {
    const prefix = parsePrefix(route);
    if (prefix === undefined) return false;
    if (prefix.bits === 0) return this.#isAmong(this.#document.exitApprovers, node);
    const wanted = rangeOfPrefix(prefix);
    return this.#document.routeApprovers.entries().some(([text, approvers]) => {
      const listed = parsePrefix(text)!;
      if (listed.bits === 0) return false;
      const range = rangeOfPrefix(listed);
      const isInside = range.bits === wanted.bits && range.low <= wanted.low && wanted.high <= range.high;
      return isInside && this.#isAmong(approvers, node);
    });
  }

  autoApprovesService(node: PolicyNode, service: string): boolean {
    return this.#isAmong(this.#document.serviceApprovers.get(service) ?? [], node);
  }

  mayNodeSet(attribute: string, value: string | number | boolean | null): boolean {
    return maySetAttribute(this.#document.network, attribute, value);
  }

  poolsFor(node: PolicyNode): readonly string[] {
    return this.#document.nodeAttributes.flatMap(({ targets, pools }) => (this.#isAmong(targets, node) ? pools : []));
  }

  #isAmong(selectors: readonly Selector[], node: PolicyNode): boolean {
    return selectors.some((selector) => names(selector, node, this.#document.names));
  }
}
