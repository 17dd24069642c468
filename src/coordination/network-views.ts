import type { CapMap, DerpMap, DnsConfig, FilterRule, Node, SshRule, UserProfile } from "../wire/tailcfg.ts";
import { type DnsSettings, dnsSettingsOf, sharedDnsConfig } from "./dns-settings.ts";
import { FUNNEL_PORTS, Ingresses } from "./ingresses.ts";
import type { Ledger } from "./ledger.ts";
import type { NetworkView } from "./map-delta.ts";
import {
  capabilities,
  isExitRoute,
  isExpired,
  nameOf,
  ownerOf,
  peerView,
  policyNode,
  profileOf,
  selfView,
  servedRoutes,
  type ViewContext,
} from "./node-view.ts";
import type { PolicyEngine, PolicyNode } from "./policy-engine.ts";
import type { NodeRecord, User } from "./records.ts";

export interface ViewsOptions {
  readonly ledger: Ledger;
  readonly baseDomain: string;
  readonly domain: string;
  readonly wall: () => number;
  readonly derpMap: () => DerpMap;
  readonly isOnline: (nodeId: number) => boolean;
  /** Nodes can have certificates for their names. */
  readonly certificates: boolean;
  /** What Funnel's relays listen on. */
  readonly funnelPorts?: readonly number[];
}

interface CachedPeer {
  /** The round in which it was last found to be true. */
  round: number;
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
  #ingresses!: Ingresses;
  #round = 0;
  #members: readonly NodeRecord[] = [];
  readonly #subjects: WeakMap<NodeRecord, { readonly user: User | undefined; readonly subject: PolicyNode }> =
    new WeakMap();
  readonly #peers: Map<number, CachedPeer> = new Map();
  readonly #filters: Map<number, readonly FilterRule[]> = new Map();
  readonly #capMaps: Map<number, CapMap> = new Map();
  /** Subnet route → the node that carries it. It stays where it is while that node is there. */
  readonly #primaries: Map<string, number> = new Map();
  #routesOf: ReadonlyMap<number, readonly string[]> = new Map();
  /** Subnet route that several nodes serve → those, the one that carries it first. */
  #lines: ReadonlyMap<string, readonly number[]> = new Map();
  #dns: { readonly settings: DnsSettings; readonly config: DnsConfig } | undefined;

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
    const lines = new Map<string, readonly number[]>();
    for (const route of this.#primaries.keys()) if (!candidates.has(route)) this.#primaries.delete(route);
    for (const [route, nodes] of candidates) {
      const held = nodes.find(({ id }) => id === this.#primaries.get(route));
      const online = nodes.filter(({ id }) => isOnline(id)).toSorted((a, b) => a.id - b.id);
      const chosen = held !== undefined && (isOnline(held.id) || online.length === 0) ? held : (online[0] ?? nodes[0]!);
      this.#primaries.set(route, chosen.id);
      after.set(chosen.id, [...(after.get(chosen.id) ?? []), route].toSorted());
      if (nodes.length > 1) lines.set(route, inLine(chosen, online, nodes));
    }
    const touched = [...new Set([...before.keys(), ...after.keys()])];
    const changed = new Set(touched.filter((id) => String(before.get(id)) !== String(after.get(id))));
    for (const [route, line] of lines) {
      if (String(this.#lines.get(route)) !== String(line)) for (const id of line) changed.add(id);
    }
    this.#routesOf = after;
    this.#lines = lines;
    return [...changed];
  }

  policyNodes(): ReadonlyMap<number, PolicyNode> {
    if (this.#policyNodes === undefined) {
      const { nodes, users } = this.#options.ledger;
      this.#policyNodes = new Map([...nodes.values()].map((node) => [node.id, this.#policyNode(node, users)]));
      this.#ingresses = this.#findIngresses(this.#policyNodes);
      const { relays } = this.#ingresses;
      this.#all = [...this.#policyNodes.values()].filter(
        ({ id }) => nodes.get(id)?.isUnapproved !== true && !relays.has(id),
      );
      this.#members = [...nodes.values()].filter(({ gateways }) => gateways !== undefined);
    }
    return this.#policyNodes;
  }

  #findIngresses(subjects: ReadonlyMap<number, PolicyNode>): Ingresses {
    const { ledger, baseDomain, wall, funnelPorts = FUNNEL_PORTS } = this.#options;
    return new Ingresses({
      nodes: ledger.nodes.values(),
      attributesOf: ({ id }) => this.#policy.attributesFor(subjects.get(id)!, []),
      baseDomain,
      ports: funnelPorts,
      wall: wall(),
    });
  }

  /** Funnel's part: who relays, who may be visited. */
  ingresses(): Ingresses {
    this.policyNodes();
    return this.#ingresses;
  }

  /** The same object as long as nothing of it changes: the policy remembers what it found out about each. */
  #policyNode(node: NodeRecord, users: ReadonlyMap<number, User>): PolicyNode {
    const kept = this.#subjects.get(node);
    const user = node.userId === undefined ? undefined : users.get(node.userId);
    if (kept !== undefined && kept.user === user) return kept.subject;
    const subject = policyNode(node, users);
    this.#subjects.set(node, { user, subject });
    return subject;
  }

  /**
   * Who `viewer` may know. Whose key is over learns of nobody: it may be a stolen copy (matrix ST-9). A WireGuard-only
   * member is known to its gateways alone.
   */
  #visibleTo(viewer: NodeRecord): readonly NodeRecord[] {
    const { ledger, wall } = this.#options;
    if (viewer.gateways !== undefined || viewer.isUnapproved === true || isExpired(viewer, wall())) return [];
    const subject = this.policyNodes().get(viewer.id)!;
    const visible: NodeRecord[] = [...this.#ingresses.visibleTo(viewer)];
    if (this.#ingresses.isRelay(viewer)) return visible;
    for (const id of this.#policy.visibleTo(subject, this.#all)) {
      const node = ledger.nodes.get(id);
      if (node !== undefined && node.gateways === undefined && id !== viewer.id) visible.push(node);
    }
    for (const member of this.#members) {
      if (member.gateways?.includes(viewer.id) && !isExpired(member, wall())) visible.push(member);
    }
    return visible;
  }

  /** `node` as `viewer` may know it: the same object for all who may know the same. */
  peer(node: NodeRecord, viewer: NodeRecord): Node {
    return this.ingresses().shown(this.#routed(node, viewer), node, viewer);
  }

  #routed(node: NodeRecord, viewer: NodeRecord): Node {
    const cached = this.#cached(node);
    const { primary, exits } = cached;
    const isStandby = this.#lines.values().some((line) => line.includes(node.id, 1));
    if (primary.length + exits.length === 0 && !isStandby) return cached.node;
    const known = new Set(this.#routesFor(viewer, node.id));
    const isKnown = (route: string): boolean => known.has(route);
    const steered = isStandby ? [...known].filter((route) => this.#isSteered(route, viewer, node)) : [];
    if (steered.length === 0 && primary.every(isKnown) && exits.every(isKnown)) return cached.node;
    const shown = {
      primaryRoutes: [...primary.filter(isKnown), ...steered].toSorted(),
      exitRoutes: exits.filter(isKnown),
    };
    const key = String([...shown.primaryRoutes, ...shown.exitRoutes]);
    let view = cached.partial.get(key);
    if (view === undefined) {
      view = peerView(node, { ...this.#context(node), ...shown });
      cached.partial.set(key, view);
    }
    return view;
  }

  #routesFor(viewer: NodeRecord, router: number): readonly string[] {
    const nodes = this.policyNodes();
    if (this.#ingresses.isRelay(viewer)) return NO_ROUTES;
    return this.#policy.routesFor(nodes.get(viewer.id)!, nodes.get(router)!, this.#all);
  }

  /** `via` keeps `viewer` from the node that carries the route: then the next in line that it may use carries it. */
  #isSteered(route: string, viewer: NodeRecord, node: NodeRecord): boolean {
    const line = this.#lines.get(route) ?? [];
    if (line[0] === node.id || !line.includes(node.id)) return false;
    return line.find((id) => id === viewer.id || this.#routesFor(viewer, id).includes(route)) === node.id;
  }

  /** Time and who is online stand still until the next one: what was looked at once in a round need not be again. */
  beginRound(): void {
    this.#round++;
  }

  #cached(node: NodeRecord): CachedPeer {
    const known = this.#peers.get(node.id);
    if (known !== undefined && known.round === this.#round && known.record === node) return known;
    const cached = this.#checked(node, known);
    cached.round = this.#round;
    return cached;
  }

  #checked(node: NodeRecord, cached: CachedPeer | undefined): CachedPeer {
    const online = this.#options.isOnline(node.id);
    const expired = isExpired(node, this.#options.wall());
    const primary = this.#routesOf.get(node.id) ?? NO_ROUTES;
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
    const shown = { online, expired, primary, exits };
    const fresh: CachedPeer = { round: 0, record: node, ...shown, node: view, partial: new Map() };
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
      const { certificates } = this.#options;
      const facts = { ssh: this.ssh(node), certificates, roles: own.roles ?? [] };
      capMap = capabilities(this.#ingresses.attributes(this.#policy.attributesFor(own, this.#all)), facts);
      this.#capMaps.set(node.id, capMap);
    }
    return capMap;
  }

  filter(node: NodeRecord): readonly FilterRule[] {
    let filter = this.#filters.get(node.id);
    if (filter === undefined) {
      const own = this.policyNodes().get(node.id)!;
      filter = node.isUnapproved === true ? [] : this.#ingresses.filter(this.#policy.filterFor(own, this.#all), node);
      this.#filters.set(node.id, filter);
    }
    return filter;
  }

  ssh(node: NodeRecord): readonly SshRule[] | undefined {
    return this.#policy.sshFor(this.policyNodes().get(node.id)!, this.#all);
  }

  profiles(owners: ReadonlySet<number>): readonly UserProfile[] {
    const ids = [...owners].toSorted((a, b) => a - b);
    return ids.flatMap((id) => profileOf(id, this.#options.ledger.users) ?? []);
  }

  /** All that `node` should know. The map of its peers is the caller's own. */
  of(node: NodeRecord): NetworkView & { readonly peers: Map<number, Node> } {
    const peers = new Map<number, Node>();
    const owners = new Set([ownerOf(node)]);
    for (const other of this.#visibleTo(node)) {
      peers.set(other.id, this.peer(other, node));
      owners.add(ownerOf(other));
    }
    return { ...this.around(node, peers, this.profiles(owners)), peers };
  }

  /** The view of `node` whose peers are known already. */
  around(node: NodeRecord, peers: ReadonlyMap<number, Node>, profiles: readonly UserProfile[]): NetworkView {
    const { baseDomain, domain, derpMap, certificates } = this.#options;
    return {
      self: this.self(node),
      peers,
      profiles,
      filter: this.filter(node),
      ssh: this.ssh(node),
      dns: certificates ? withCertDomain(this.#sharedDns(), nameOf(node, baseDomain)) : this.#sharedDns(),
      derp: derpMap(),
      domain,
    };
  }

  #sharedDns(): DnsConfig {
    const settings = dnsSettingsOf(this.#options.ledger);
    if (this.#dns?.settings !== settings) {
      this.#dns = { settings, config: sharedDnsConfig(settings, this.#options.baseDomain) };
    }
    return this.#dns.config;
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

function withCertDomain(shared: DnsConfig, name: string): DnsConfig {
  return { ...shared, CertDomains: [name] };
}

/** Who carries a route first, then who is there, then the rest. */
function inLine(chosen: NodeRecord, online: readonly NodeRecord[], all: readonly NodeRecord[]): readonly number[] {
  return [...new Set([chosen, ...online, ...all].map(({ id }) => id))];
}
