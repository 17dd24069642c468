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
  /** What its user is in the tailnet: `admin`, `owner` and so on, for the autogroups of that name. */
  readonly roles?: readonly string[];
  /** What postures ask about: `node:os`, `node:tsVersion`, `custom:tier`. */
  readonly attributes?: Readonly<Record<string, string | number | boolean>>;
  /** Services that it may host, each with its addresses. */
  readonly services?: Readonly<Record<string, readonly string[]>>;
}

/** What the core needs of a compiled policy. Every member is pure. */
export interface PolicyEngine {
  filterFor(node: PolicyNode, all: readonly PolicyNode[]): readonly FilterRule[];
  /** Ids of the nodes that some rule lets `node` reach, or lets reach `node`. */
  visibleTo(node: PolicyNode, all: readonly PolicyNode[]): ReadonlySet<number>;
  /** Those of `router`'s approved routes that `viewer` may know: default routes need `autogroup:internet` (or all). */
  routesFor(viewer: PolicyNode, router: PolicyNode, all: readonly PolicyNode[]): readonly string[];
  /** Names of `host`'s services that some rule lets `viewer` reach. */
  servicesFor(viewer: PolicyNode, host: PolicyNode, all: readonly PolicyNode[]): readonly string[];
  /** `nodeAttrs`. */
  attributesFor(node: PolicyNode, all: readonly PolicyNode[]): CapMap;
  /** What `node` must know to run an SSH server for others; undefined: the policy does not mention SSH. */
  sshFor(node: PolicyNode, all: readonly PolicyNode[]): readonly SshRule[] | undefined;
  /** `roles`: what `user` is in the tailnet, for owners such as `autogroup:admin`. */
  mayTag(user: string, tag: string, roles?: readonly string[]): boolean;
  autoApproves(node: PolicyNode, route: string): boolean;
  /** May `node` host `service` (`svc:name`) without being asked about? */
  autoApprovesService(node: PolicyNode, service: string): boolean;
  /** May a node say so of itself (`attrConfig`)? `null` takes the attribute away. */
  mayNodeSet(attribute: string, value: string | number | boolean | null): boolean;
  /** `ipPool`: where the address of a new node is to come from; none: anywhere. */
  poolsFor(node: PolicyNode): readonly string[];
}
