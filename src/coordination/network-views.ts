import type { CapMap, DerpMap, FilterRule, Node, UserProfile } from "../wire/tailcfg.ts";
import type { Ledger } from "./ledger.ts";
import type { NetworkView } from "./map-delta.ts";
import {
  capabilities,
  dnsConfig,
  isExitRoute,
  isExpired,
  ownerOf,
  peerView,
  policyNode,
  profileOf,
  selfView,
  servedRoutes,
  type ViewContext,
} from "./node-view.ts";
import type { PolicyEngine, PolicyNode } from "./policy-engine.ts";
import type { NodeRecord } from "./records.ts";

export interface ViewsOptions {
  readonly ledger: Ledger;
  readonly baseDomain: string;
  readonly domain: string;
  readonly wall: () => number;
  readonly derpMap: () => DerpMap;
  readonly isOnline: (nodeId: number) => boolean;
}

interface CachedPeer {
  readonly record: NodeRecord;
  readonly online: boolean;
  readonly expired: boolean;
  readonly primary: readonly string[];
  readonly exits: readonly string[];
  /** As shown to those who may know all routes, and by the routes that others may know. */
  readonly node: Node;
  readonly partial: Map<string, Node>;
}

const NO_ROUTES: readonly string[] = [];

/** What each node should know, from the ledger and the policy. Pure but for its caches. */
export class NetworkViews {
  readonly #options: ViewsOptions;
  #policy: PolicyEngine;
  #policyNodes: ReadonlyMap<number, PolicyNode> | undefined;
  #all: readonly PolicyNode[] = [];
  readonly #peers: Map<number, CachedPeer> = new Map();
  readonly #filters: Map<number, readonly FilterRule[]> = new Map();
  readonly #capMaps: Map<number, CapMap> = new Map();
  /** Subnet route → the node that carries it. It stays where it is while that node is there. */
  readonly #primaries: Map<string, number> = new Map();
  #routesOf: ReadonlyMap<number, readonly string[]> = new Map();

  constructor(policy: PolicyEngine, options: ViewsOptions) {
    this.#policy = policy;
    this.#options = options;
    this.topologyChanged();
  }

  get policy(): PolicyEngine {
    return this.#policy;
  }

  setPolicy(policy: PolicyEngine): void {
    this.#policy = policy;
    this.topologyChanged();
  }

  /** Nodes, owners, tags, routes or policy changed. */
  topologyChanged(): void {
    this.#policyNodes = undefined;
    this.#filters.clear();
    this.#capMaps.clear();
    this.electRouters();
    for (const id of this.#peers.keys()) if (!this.#options.ledger.nodes.has(id)) this.#peers.delete(id);
  }

  /** Nodes whose routes changed hands. */
  electRouters(): readonly number[] {
    const { ledger, isOnline, wall } = this.#options;
    const candidates = new Map<string, NodeRecord[]>();
    for (const node of ledger.nodes.values()) {
      if (isExpired(node, wall())) continue;
      for (const route of servedRoutes(node)) {
        if (!isExitRoute(route)) candidates.set(route, [...(candidates.get(route) ?? []), node]);
      }
    }
    const before = this.#routesOf;
    const after = new Map<number, string[]>();
    for (const route of this.#primaries.keys()) if (!candidates.has(route)) this.#primaries.delete(route);
    for (const [route, nodes] of candidates) {
      const held = nodes.find(({ id }) => id === this.#primaries.get(route));
      const online = nodes.filter(({ id }) => isOnline(id)).toSorted((a, b) => a.id - b.id);
      const chosen = held !== undefined && (isOnline(held.id) || online.length === 0) ? held : (online[0] ?? nodes[0]!);
      this.#primaries.set(route, chosen.id);
      after.set(chosen.id, [...(after.get(chosen.id) ?? []), route].toSorted());
    }
    this.#routesOf = after;
    const touched = new Set([...before.keys(), ...after.keys()]);
    return [...touched].filter((id) => String(before.get(id)) !== String(after.get(id)));
  }

  policyNodes(): ReadonlyMap<number, PolicyNode> {
    if (this.#policyNodes === undefined) {
      const { nodes, users } = this.#options.ledger;
      this.#policyNodes = new Map([...nodes.values()].map((node) => [node.id, policyNode(node, users)]));
      this.#all = [...this.#policyNodes.values()];
    }
    return this.#policyNodes;
  }

  /** May `viewer` know `other`? A WireGuard-only member is known to its gateways alone. */
  canSee(viewer: NodeRecord, other: NodeRecord): boolean {
    if (viewer.id === other.id || viewer.gateways !== undefined) return false;
    if (other.gateways !== undefined) {
      return other.gateways.includes(viewer.id) && !isExpired(other, this.#options.wall());
    }
    const nodes = this.policyNodes();
    return this.#policy.canSee(nodes.get(viewer.id)!, nodes.get(other.id)!, this.#all);
  }

  /** `node` as `viewer` may know it: the same object for all who may know the same. */
  peer(node: NodeRecord, viewer: NodeRecord): Node {
    const cached = this.#cached(node);
    const { primary, exits } = cached;
    if (primary.length + exits.length === 0) return cached.node;
    const nodes = this.policyNodes();
    const known = new Set(this.#policy.routesFor(nodes.get(viewer.id)!, nodes.get(node.id)!, this.#all));
    const isKnown = (route: string): boolean => known.has(route);
    if (primary.every(isKnown) && exits.every(isKnown)) return cached.node;
    const shown = { primaryRoutes: primary.filter(isKnown), exitRoutes: exits.filter(isKnown) };
    const key = String([...shown.primaryRoutes, ...shown.exitRoutes]);
    let view = cached.partial.get(key);
    if (view === undefined) {
      view = peerView(node, { ...this.#context(node), ...shown });
      cached.partial.set(key, view);
    }
    return view;
  }

  #cached(node: NodeRecord): CachedPeer {
    const online = this.#options.isOnline(node.id);
    const expired = isExpired(node, this.#options.wall());
    const primary = this.#routesOf.get(node.id) ?? NO_ROUTES;
    const cached = this.#peers.get(node.id);
    if (
      cached?.record === node &&
      cached.online === online &&
      cached.expired === expired &&
      String(cached.primary) === String(primary)
    ) {
      return cached;
    }
    const context = this.#context(node);
    const view = peerView(node, context);
    const exits = context.exitRoutes;
    const fresh: CachedPeer = { record: node, online, expired, primary, exits, node: view, partial: new Map() };
    this.#peers.set(node.id, fresh);
    return fresh;
  }

  self(node: NodeRecord): Node {
    return selfView(node, this.#context(node), this.capMap(node));
  }

  capMap(node: NodeRecord): CapMap {
    let capMap = this.#capMaps.get(node.id);
    if (capMap === undefined) {
      const own = this.policyNodes().get(node.id)!;
      capMap = capabilities(this.#policy.attributesFor(own, this.#all));
      this.#capMaps.set(node.id, capMap);
    }
    return capMap;
  }

  filter(node: NodeRecord): readonly FilterRule[] {
    let filter = this.#filters.get(node.id);
    if (filter === undefined) {
      filter = this.#policy.filterFor(this.policyNodes().get(node.id)!, this.#all);
      this.#filters.set(node.id, filter);
    }
    return filter;
  }

  profiles(owners: Iterable<number>): readonly UserProfile[] {
    const ids = [...new Set(owners)].toSorted((a, b) => a - b);
    return ids.flatMap((id) => profileOf(id, this.#options.ledger.users) ?? []);
  }

  /** All that `node` should know. */
  of(node: NodeRecord): NetworkView {
    const { ledger } = this.#options;
    const visible = [...ledger.nodes.values()].filter((other) => this.canSee(node, other));
    return this.around(
      node,
      new Map(visible.map((other) => [other.id, this.peer(other, node)])),
      this.profiles([node, ...visible].map(ownerOf)),
    );
  }

  /** The view of `node` whose peers are known already. */
  around(node: NodeRecord, peers: ReadonlyMap<number, Node>, profiles: readonly UserProfile[]): NetworkView {
    const { baseDomain, domain, derpMap } = this.#options;
    return {
      self: this.self(node),
      peers,
      profiles,
      filter: this.filter(node),
      dns: dnsConfig(node, baseDomain, this.capMap(node)),
      derp: derpMap(),
      domain,
    };
  }

  #context(node: NodeRecord): ViewContext {
    return {
      wall: this.#options.wall(),
      baseDomain: this.#options.baseDomain,
      online: this.#options.isOnline(node.id),
      primaryRoutes: this.#routesOf.get(node.id) ?? NO_ROUTES,
      exitRoutes: servedRoutes(node).filter(isExitRoute),
    };
  }
}
