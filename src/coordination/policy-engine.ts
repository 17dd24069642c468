import type { CapMap, FilterRule, SshRule } from "../wire/tailcfg.ts";

/** A node as the policy sees it. */
export interface PolicyNode {
  readonly id: number;
  /** Login name; undefined for a tagged node. */
  readonly user: string | undefined;
  readonly tags: readonly string[];
  /** Plain addresses. */
  readonly addresses: readonly string[];
  /** Approved routes. */
  readonly routes: readonly string[];
  readonly advertisedRoutes?: readonly string[];
}

/** What the core needs of a compiled policy. Every member is pure. */
export interface PolicyEngine {
  filterFor(node: PolicyNode, all: readonly PolicyNode[]): readonly FilterRule[];
  /** Ids of the nodes that some rule lets `node` reach, or lets reach `node`. */
  visibleTo(node: PolicyNode, all: readonly PolicyNode[]): ReadonlySet<number>;
  /** Those of `router`'s approved routes that `viewer` may know: default routes need `autogroup:internet` (or all). */
  routesFor(viewer: PolicyNode, router: PolicyNode, all: readonly PolicyNode[]): readonly string[];
  /** `nodeAttrs`. */
  attributesFor(node: PolicyNode, all: readonly PolicyNode[]): CapMap;
  /** What `node` must know to run an SSH server for others; undefined: the policy does not mention SSH. */
  sshFor(node: PolicyNode, all: readonly PolicyNode[]): readonly SshRule[] | undefined;
  mayTag(user: string, tag: string): boolean;
  autoApproves(node: PolicyNode, route: string): boolean;
}
