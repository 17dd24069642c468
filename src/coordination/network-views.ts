import { claimsOf } from "../wire/claims.ts";
import type { CapMap, DerpMap, FilterRule, Node, SshRule, UserProfile } from "../wire/tailcfg.ts";
import { decodeHolders, decodeReleased, encodeHolders, encodeReleased, type Holders } from "./claims.ts";
import { DnsViews, type DnsViewsOptions } from "./dns-views.ts";
import { FUNNEL_PORTS, Ingresses } from "./ingresses.ts";
import type { NetworkView } from "./map-delta.ts";
import {
  capabilities,
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
import type { Change, NodeRecord, User } from "./records.ts";
import { RouteElection } from "./route-election.ts";
import { asPrefix, hostedBy, prefixesOf, type Service, servicesOf } from "./services.ts";

export interface ViewsOptions extends DnsViewsOptions {
  readonly domain: string;
  readonly wall: () => number;
  readonly derpMap: () => DerpMap;
  readonly isOnline: (nodeId: number) => boolean;
  /** What Funnel's relays listen on. */
  readonly funnelPorts?: readonly number[];
  /** Where their visitors come in. */
  readonly relayAddresses?: readonly string[];
  /** Names of the server itself. */
  readonly ownNames?: readonly string[];
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

interface CachedSubject {
  readonly user: User | undefined;
  readonly services: ReadonlyMap<string, Service>;
  readonly subject: PolicyNode;
}

const NO_ROUTES: readonly string[] = [];
/** The setting in which it is kept who holds what. */
const HOLDERS = "funnelHolders";
const RELEASED = "funnelReleased";

/** What each node should know, from the ledger and the policy. Pure but for its caches. */
export class NetworkViews {
  readonly #options: ViewsOptions;
  #policy: PolicyEngine;
  #policyNodes: ReadonlyMap<number, PolicyNode> | undefined;
  #all: readonly PolicyNode[] = [];
  #ingresses!: Ingresses; // from the first look at the nodes on
  /** As the last settled state has it. */
  #holders: Holders;
  #released: ReadonlySet<string>;
  /** The node key of the server's own relay. */
  appointedRelay: string | undefined;
  #round = 0;
  #members: readonly NodeRecord[] = [];
  readonly #subjects: WeakMap<NodeRecord, CachedSubject> = new WeakMap();
  readonly #peers: Map<number, CachedPeer> = new Map();
  readonly #filters: Map<number, readonly FilterRule[]> = new Map();
  readonly #capMaps: Map<number, CapMap> = new Map();
  /** Of subnet routes, and of the addresses of services. */
  readonly #election: RouteElection = new RouteElection();
  readonly #dns: DnsViews;

  constructor(policy: PolicyEngine, options: ViewsOptions) {
    this.#policy = policy;
    this.#options = options;
    this.#dns = new DnsViews(options);
    this.#holders = decodeHolders(options.ledger.settings.get(HOLDERS));
    this.#released = decodeReleased(options.ledger.settings.get(RELEASED));
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

  /** A node is called otherwise, and what is public of it: who reaches whom is as it was. */
  nameChanged({ id }: NodeRecord): void {
    this.#capMaps.delete(id);
    if (this.#policyNodes !== undefined) this.#ingresses = this.#findIngresses(this.#policyNodes);
  }

  /** Nodes whose routes changed hands. */
  electRouters(): readonly number[] {
    const { ledger, isOnline, wall } = this.#options;
    const candidates = new Map<string, NodeRecord[]>();
    for (const node of ledger.nodes.values()) {
      if (isExpired(node, wall())) continue;
      const hosted = Object.values(hostedBy(node, servicesOf(ledger))).flatMap(prefixesOf);
      const routes = servedRoutes(node).filter((route) => !isExitRoute(route));
      for (const route of [...routes, ...hosted]) candidates.set(route, [...(candidates.get(route) ?? []), node]);
    }
    return this.#election.elect(candidates, isOnline);
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
    const { ledger, baseDomain, wall, funnelPorts = FUNNEL_PORTS, relayAddresses = [], ownNames = [] } = this.#options;
    return new Ingresses({
      nodes: ledger.nodes.values(),
      attributesOf: ({ id }) => this.#policy.attributesFor(subjects.get(id)!, []),
      baseDomain,
      ports: funnelPorts,
      relayAddresses,
      isAppointed: ({ nodeKey }) => nodeKey === this.appointedRelay,
      wall: wall(),
      before: this.#holders,
      released: this.#released,
      reserved: ownNames,
    });
  }

  /**
   * Whoever holds an own domain or a raw port now holds it from here on. The changes keep that beyond the process. To be
   * called after every operation: who asked first is known by the order of operations and by nothing else.
   */
  settleClaims(): readonly Change[] {
    const { settings, nodes } = this.#options.ledger;
    const isIdle = this.#policyNodes !== undefined && this.#holders === this.#ingresses.claims.holders;
    if (isIdle) return [];
    const before = settings.get(HOLDERS);
    // Mostly nobody claims anything, and a thousand nodes that come back at once need not be looked at a thousand times.
    if (before === undefined && ![...nodes.values()].some(({ hostinfo }) => claimsOf(hostinfo).length > 0)) return [];
    const { holders, released } = this.ingresses().claims;
    [this.#holders, this.#released] = [holders, released];
    const after: readonly (readonly [name: string, value: string, none: string | undefined])[] = [
      [HOLDERS, encodeHolders(holders), undefined],
      [RELEASED, encodeReleased(released), "[]"],
    ];
    return after.flatMap(([name, value, none]): Change[] =>
      value === (settings.get(name) ?? none) ? [] : [{ put: "setting", name, value }],
    );
  }

  /** From here on its holder has it only until another node asks. */
  release(claim: string): void {
    this.#released = new Set([...this.#released, claim]);
    this.topologyChanged();
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
    const services = servicesOf(this.#options.ledger);
    if (kept !== undefined && kept.user === user && kept.services === services) return kept.subject;
    const subject = policyNode(node, users, hostedBy(node, services));
    this.#subjects.set(node, { user, services, subject });
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
    // By id: what a node says of where it is changes no topology, and the ingresses would show what it said before.
    const visible = this.#ingresses.visibleTo(viewer).flatMap((id) => ledger.nodes.get(id) ?? []);
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
    const isStandby = this.#election.isStandby(node.id);
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
    const [from, to] = [nodes.get(viewer.id)!, nodes.get(router)!];
    const services = this.#policy.servicesFor(from, to, this.#all);
    const hosted = services.flatMap((name) => (to.services?.[name] ?? []).map(asPrefix));
    return [...this.#policy.routesFor(from, to, this.#all), ...hosted];
  }

  /** `via` keeps `viewer` from the node that carries the route: then the next in line that it may use carries it. */
  #isSteered(route: string, viewer: NodeRecord, node: NodeRecord): boolean {
    const line = this.#election.lineOf(route);
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
    const primary = this.#election.routesOf(node.id);
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
      const attributes = { ...this.#policy.attributesFor(own, this.#all), ...serviceHost(own) };
      capMap = capabilities(this.#ingresses.attributes(attributes, node.id), facts);
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
    const { domain, derpMap } = this.#options;
    return {
      self: this.self(node),
      peers,
      profiles,
      filter: this.filter(node),
      ssh: this.ssh(node),
      dns: this.#dns.of(node, this.#servicesFor(node)),
      derp: derpMap(),
      domain,
    };
  }

  /** Services that `viewer` hosts or may reach. */
  #servicesFor(viewer: NodeRecord): readonly Service[] {
    const nodes = this.policyNodes();
    const own = nodes.get(viewer.id)!;
    if (viewer.isUnapproved === true) return [];
    return [...servicesOf(this.#options.ledger).values()].filter(({ name, ipv4 }) => {
      const host = nodes.get(this.#election.carrierOf(asPrefix(ipv4)) ?? -1);
      if (host === undefined) return false;
      return own.services?.[name] !== undefined || this.#policy.servicesFor(own, host, this.#all).includes(name);
    });
  }

  #context(node: NodeRecord): ViewContext {
    return {
      wall: this.#options.wall(),
      baseDomain: this.#options.baseDomain,
      online: this.#options.isOnline(node.id),
      primaryRoutes: this.#election.routesOf(node.id),
      virtual: new Set(Object.values(hostedBy(node, servicesOf(this.#options.ledger))).flatMap(prefixesOf)),
      exitRoutes: servedRoutes(node).filter(isExitRoute),
    };
  }
}

/** The client takes exactly one value here (control-protocol §6.4). */
function serviceHost({ services = {} }: PolicyNode): CapMap {
  return Object.keys(services).length === 0 ? {} : { "service-host": [services] };
}
