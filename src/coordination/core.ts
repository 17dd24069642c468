import type { Clock } from "../base/clock.ts";
import { Fault, messageOf } from "../base/fault.ts";
import type { Log } from "../base/log.ts";
import type { Random } from "../base/random.ts";
import { plainName } from "../wire/host-name.ts";
import type { DerpMap } from "../wire/tailcfg.ts";
import { ADDRESS_REST_MS, addressPair, allocateOffset, POOL_SIZE } from "./address-pool.ts";
import { isResting, ownerKey } from "./certificate-names.ts";
import { dnsSettingsOf } from "./dns-settings.ts";
import { Ledger } from "./ledger.ts";
import { MapStreams } from "./map-streams.ts";
import { freeName, isOwnName, sanitizeName } from "./names.ts";
import { NetworkViews } from "./network-views.ts";
import { NodeQuestions } from "./node-questions.ts";
import { isExpired } from "./node-view.ts";
import type { PolicyEngine } from "./policy-engine.ts";
import type { Change, NodeRecord, User } from "./records.ts";
import { RelayWatch } from "./relay-watch.ts";
import { ReturningNodes } from "./returning-nodes.ts";
import { ServiceInquiry } from "./service-inquiry.ts";
import { learnServices, servicesOf } from "./services.ts";
import type { CoordinationStore } from "./store/coordination-store.ts";

export interface CoordinatorOptions {
  readonly store: CoordinationStore;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** `https://control.example`. */
  readonly serverUrl: string;
  /** `tail.test`: names are `<node>.tail.test`. */
  readonly baseDomain: string;
  readonly derpMap: () => DerpMap;
  readonly policy: PolicyEngine;
  /** What Funnel's relays listen on. @default 443, 8443 and 10000 */
  readonly funnelPorts?: readonly number[];
  /** Where their visitors come in. @default not known */
  readonly relayAddresses?: readonly string[];
  /** Names of the server itself, lower case, which no node gets as a domain of its own. @default none */
  readonly ownNames?: readonly string[];
  readonly randomizeAddresses?: boolean;
  readonly nodeKeyExpiryMs?: number;
  /** Publishes a TXT record, settled once it is served; without it `set-dns` is not implemented. */
  readonly setTxt?: (name: string, value: string) => Promise<void>;
  /** A node key stopped being one of a member: expired, logged out, replaced or deleted. Whoever serves it must stop. */
  readonly onKeyRetired?: (nodeKey: string) => void;
  /** Numbers of the address pool, for small networks and tests. */
  readonly addressPoolSize?: number;
}

const DAY_MS = 86_400_000;
export const NODE_KEY_EXPIRY_MS: number = 180 * DAY_MS;
const OFFLINE_AFTER_MS = 10_000;
const EPHEMERAL_AFTER_MS = 120_000;
/** Wall time may jump, so no timer trusts it for longer. */
const LONGEST_NAP_MS = 3_600_000;

/** State, streams and timers: what every operation of the coordinator works on. */
export class Core {
  readonly options: CoordinatorOptions;
  readonly ledger: Ledger;
  readonly views: NetworkViews;
  readonly streams: MapStreams;
  readonly questions: NodeQuestions;
  readonly services: ServiceInquiry;
  readonly returning: ReturningNodes;
  readonly #relayWatch: RelayWatch;
  readonly #online: Set<number> = new Set();
  /** Monotonic instants at which nodes without a stream become offline, or vanish. */
  readonly #offlineAt: Map<number, number> = new Map();
  readonly #vanishAt: Map<number, number> = new Map();
  readonly #expired: Set<number> = new Set();
  #cancelSweep: () => void = () => undefined;
  #closed = false;

  private constructor(options: CoordinatorOptions, ledger: Ledger) {
    this.options = options;
    this.ledger = ledger;
    this.returning = new ReturningNodes(ledger.nodes.keys(), options.clock, (absent) => this.#lost(absent));
    const { clock, random, baseDomain, serverUrl, derpMap, policy, relayAddresses = [], ownNames = [] } = options;
    this.views = new NetworkViews(policy, {
      ledger,
      baseDomain,
      domain: new URL(serverUrl).hostname,
      wall: () => clock.wall(),
      derpMap,
      isOnline: (id) => this.#online.has(id),
      certificates: options.setTxt !== undefined,
      ...(options.funnelPorts === undefined ? {} : { funnelPorts: options.funnelPorts }),
      ...{ relayAddresses, ownNames },
    });
    this.streams = new MapStreams({
      clock,
      random,
      ledger,
      views: this.views,
      onOpen: (id) => this.#opened(id),
      onEnd: (id) => this.#ended(id),
      onFailure: (node, thrown) => options.log.error("coordination.map_failed", { node, error: messageOf(thrown) }),
    });
    this.questions = new NodeQuestions({ clock, random, send: (id, message) => this.streams.send(id, message) });
    this.services = new ServiceInquiry({
      clock,
      log: options.log,
      learn: (id) => learnServices(this, id),
      isHere: (id) => this.streams.has(id),
    });
    this.#relayWatch = new RelayWatch({
      clock,
      relays: () => this.views.ingresses().relays.keys(),
      echo: (id, heard) => this.streams.echo(id, heard),
      lost: (id) => {
        options.log.warn("coordination.relay_lost", { node: id });
        this.streams.end(id);
      },
    });
    for (const node of ledger.nodes.values()) {
      if (node.ephemeral) this.#vanishAt.set(node.id, clock.now() + EPHEMERAL_AFTER_MS);
      if (isExpired(node, clock.wall())) this.#expired.add(node.id);
    }
    this.#sweepLater();
  }

  static async open(options: CoordinatorOptions): Promise<Core> {
    return new Core(options, await Ledger.open(options.store));
  }

  get wall(): number {
    return this.options.clock.wall();
  }

  isOnline(nodeId: number): boolean {
    return this.#online.has(nodeId);
  }

  isExpired(node: NodeRecord): boolean {
    return isExpired(node, this.wall);
  }

  /** A change to the log for the same commit as what it tells. */
  entry(by: string, action: string, target: string, detail?: string): Change {
    const value = { at: this.wall, by, action, target };
    return { append: "log", value: detail === undefined ? value : { ...value, detail: detail.slice(0, 1000) } };
  }

  /** Runs one operation after another; every one is one commit. */
  exclusive<T>(write: () => Promise<T>): Promise<T> {
    if (this.#closed) {
      return Promise.reject(
        new Fault("COORDINATION_CLOSED", "Cannot change the network: the coordinator is closed, wanted an open one"),
      );
    }
    return this.ledger.exclusive(async () => {
      const result = await write();
      const { log } = this.options;
      await this.ledger
        .commit(this.views.settleClaims())
        .catch((thrown: unknown) => log.error("coordination.claims_unsaved", { error: messageOf(thrown) }));
      return result;
    });
  }

  /** By id, name (first label or whole) or address. */
  node(which: number | string): NodeRecord {
    const node = this.#find(which);
    if (node !== undefined) return node;
    throw new Fault(
      "COORDINATION_NODE_UNKNOWN",
      `Cannot find node "${String(which).slice(0, 100)}": there is none, wanted an id, name or address that \`nodes list\` shows`,
    );
  }

  #find(which: number | string): NodeRecord | undefined {
    const { ledger } = this;
    if (typeof which === "number" || /^\d+$/.test(which)) return ledger.nodes.get(Number(which));
    const name = plainName(which);
    return (
      ledger.nodeByName(name) ??
      this.named(name) ??
      [...ledger.nodes.values()].find((node) => [node.ipv4, node.ipv6].includes(name))
    );
  }

  /** The node with this name in full. */
  named(fqdn: string): NodeRecord | undefined {
    const suffix = `.${this.options.baseDomain}`;
    const name = plainName(fqdn);
    return name.endsWith(suffix) ? this.ledger.nodeByName(name.slice(0, -suffix.length)) : undefined;
  }

  user(login: string | number): User {
    const user = typeof login === "number" ? this.ledger.users.get(login) : this.ledger.userByLogin(login);
    if (user !== undefined) return user;
    throw new Fault(
      "COORDINATION_USER_UNKNOWN",
      `Cannot find user "${login}": there is none, wanted a login that exists`,
    );
  }

  /** Next value of a counter that never goes back, and the change that keeps it. */
  nextId(counter: "nextUser" | "nextNode"): { readonly id: number; readonly change: Change } {
    const id = Number(this.ledger.settings.get(counter) ?? 1);
    return { id, change: { put: "setting", name: counter, value: String(id + 1) } };
  }

  /** Addresses for a new node, from `pools` if there are any, and the changes that keep the place in the common pool. */
  addresses(pools: readonly string[] = []): {
    readonly ipv4: string;
    readonly ipv6: string;
    readonly changes: readonly Change[];
  } {
    const { randomizeAddresses, random, addressPoolSize } = this.options;
    const { ledger, wall } = this;
    const services = new Set([...servicesOf(ledger).values()].map(({ ipv4 }) => ipv4));
    const offset = allocateOffset({
      cursor: Number(ledger.settings.get("addressCursor") ?? 0),
      size: addressPoolSize ?? POOL_SIZE,
      taken: (candidate) => {
        const { ipv4 } = addressPair(candidate);
        return ledger.isAddressUsed(ipv4) || services.has(ipv4) || (ledger.resting.get(ipv4)?.until ?? 0) > wall;
      },
      pools,
      ...(randomizeAddresses === true ? { random } : {}),
    });
    const rested = [...ledger.resting.values()].filter(({ until }) => until <= wall);
    return {
      ...addressPair(offset),
      changes: [
        ...(randomizeAddresses === true || pools.length > 0
          ? []
          : [{ put: "setting", name: "addressCursor", value: String(offset) } as const]),
        ...rested.map(({ ipv4 }) => ({ remove: "resting", ipv4 }) as const),
      ],
    };
  }

  /** A free name for `hostname`; `own` keeps what it has where that still fits. `owner`: of a node that is yet to come. */
  name(hostname: string | undefined, own?: NodeRecord, owner?: string): string {
    const wanted = sanitizeName(hostname ?? "");
    const records = new Set(dnsSettingsOf(this.ledger).records.map((record) => record.name));
    const services = servicesOf(this.ledger);
    return freeName(wanted, (name) => {
      const holder = this.ledger.nodeByName(name);
      if ((holder !== undefined && holder.id !== own?.id) || isOwnName(name, this.options)) return true;
      const wanting = owner ?? (own === undefined ? undefined : ownerKey(own));
      if (holder === undefined && isResting(this.ledger, name, wanting, this.wall)) return true;
      return services.has(`svc:${name}`) || records.has(`${name}.${this.options.baseDomain}`);
    });
  }

  deletion(node: NodeRecord): readonly Change[] {
    const carried = [...this.ledger.nodes.values()].filter(({ gateways }) => gateways?.includes(node.id));
    return [
      { remove: "node", id: node.id },
      { put: "resting", value: { ipv4: node.ipv4, until: this.wall + ADDRESS_REST_MS } },
      ...carried.map((member): Change => {
        const gateways = member.gateways!.filter((id) => id !== node.id);
        return { put: "node", value: { ...member, gateways } };
      }),
    ];
  }

  /** Only inside `exclusive`. */
  async delete(node: NodeRecord, by: string, action: string): Promise<void> {
    const farewell = this.streams.has(node.id) ? this.views.self({ ...node, expires: this.wall }) : undefined;
    await this.ledger.commit([...this.deletion(node), this.entry(by, action, `node:${node.id}`, node.name)]);
    this.#online.delete(node.id);
    this.#offlineAt.delete(node.id);
    this.#vanishAt.delete(node.id);
    this.returning.delete(node.id);
    this.#expired.delete(node.id);
    this.retire(node.nodeKey);
    // Before the end: clients that are only told 404 afterwards go on for ever as if they were logged in.
    if (farewell !== undefined) this.streams.send(node.id, { Node: farewell });
    this.streams.end(node.id);
    this.streams.touchAll();
  }

  retire(nodeKey: string): void {
    this.options.onKeyRetired?.(nodeKey);
  }

  /** Only inside `exclusive`: one node as it shall be, and who did it. */
  async replace(node: NodeRecord, entry: Change | undefined, reach: "members" | "topology"): Promise<void> {
    const before = this.ledger.nodes.get(node.id);
    const wasExpired = this.#expired.has(node.id);
    await this.ledger.commit([{ put: "node", value: node }, ...(entry === undefined ? [] : [entry])]);
    if (this.isExpired(node)) {
      this.#expired.add(node.id);
      this.retire(node.nodeKey);
    } else this.#expired.delete(node.id);
    if (reach === "topology" || this.#expired.has(node.id) !== wasExpired) this.streams.touchAll();
    else {
      if (before?.name !== node.name) this.views.nameChanged(node);
      this.streams.touch(node.id);
    }
    this.#sweepLater();
  }

  /** A new node has `EPHEMERAL_AFTER_MS` to open its stream, if it is one that vanishes. */
  arrived(node: NodeRecord): void {
    if (node.ephemeral && !this.streams.has(node.id)) {
      this.#vanishAt.set(node.id, this.options.clock.now() + EPHEMERAL_AFTER_MS);
    }
    if (this.isExpired(node)) this.#expired.add(node.id);
    else this.#expired.delete(node.id);
    this.streams.touchAll();
    this.#sweepLater();
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#cancelSweep();
    this.returning.close();
    this.services.close();
    this.questions.close();
    this.#relayWatch.close();
    this.streams.close();
    await this.ledger.exclusive(() => this.options.store.close());
  }

  #opened(id: number): void {
    this.#offlineAt.delete(id);
    this.#vanishAt.delete(id);
    this.returning.delete(id);
    this.services.ask(id);
    this.#relayWatch.came(id);
    if (this.ledger.nodes.get(id)?.isLost === true) this.#cameBack(id);
    if (this.#online.has(id)) return;
    this.#online.add(id);
    this.streams.touch(id, ...this.#electionFor(id));
  }

  /** Only who carries routes or hosts services can change who does. */
  #electionFor(id: number): readonly number[] {
    const node = this.ledger.nodes.get(id);
    if (node === undefined || (node.approvedRoutes.length === 0 && node.approvedServices === undefined)) return [];
    return this.views.electRouters();
  }

  #ended(id: number): void {
    if (this.#closed || !this.ledger.nodes.has(id)) return;
    const now = this.options.clock.now();
    this.#offlineAt.set(id, now + OFFLINE_AFTER_MS);
    if (this.ledger.nodes.get(id)?.ephemeral) this.#vanishAt.set(id, now + EPHEMERAL_AFTER_MS);
    this.#sweepLater();
  }

  #sweepLater(): void {
    if (this.#closed) return;
    this.#cancelSweep();
    const { clock } = this.options;
    const wall = clock.wall();
    let due = clock.now() + LONGEST_NAP_MS;
    for (const instant of [...this.#offlineAt.values(), ...this.#vanishAt.values()]) due = Math.min(due, instant);
    for (const { id, expires } of this.ledger.nodes.values()) {
      if (expires !== undefined && !this.#expired.has(id))
        due = Math.min(due, clock.now() + Math.max(0, expires - wall));
    }
    this.#cancelSweep = clock.at(due, () => this.#sweep());
  }

  #sweep(): void {
    const { clock, log } = this.options;
    const now = clock.now();
    const jobs: Promise<unknown>[] = [];
    for (const [id, due] of this.#offlineAt) {
      if (due <= now) jobs.push(this.#wentOffline(id));
    }
    for (const [id, due] of this.#vanishAt) {
      if (due > now) continue;
      this.#vanishAt.delete(id);
      jobs.push(this.#vanish(id));
    }
    let expired = false;
    for (const node of this.ledger.nodes.values()) {
      if (!this.isExpired(node) || this.#expired.has(node.id)) continue;
      this.#expired.add(node.id);
      this.retire(node.nodeKey);
      this.streams.touch(node.id);
      expired = true;
    }
    if (expired) this.streams.touchAll();
    this.#sweepLater();
    for (const job of jobs) {
      job.catch((thrown: unknown) => log.error("coordination.sweep_failed", { error: messageOf(thrown) }));
    }
  }

  #wentOffline(id: number): Promise<void> {
    this.#offlineAt.delete(id);
    this.#online.delete(id);
    const lastSeen = this.wall - OFFLINE_AFTER_MS;
    return this.exclusive(async () => {
      const node = this.ledger.nodes.get(id);
      if (node === undefined || this.#online.has(id)) return;
      const lost = this.views.ingresses().relays.has(id) ? { isLost: true } : {};
      await this.replace({ ...node, lastSeen, ...lost }, undefined, "members");
      this.streams.touch(...this.#electionFor(id));
    });
  }

  /** Relays that were gone before the server began, or went while it was not there. */
  #lost(absent: Iterable<number>): void {
    this.#keep(async () => {
      for (const id of absent) {
        const node = this.ledger.nodes.get(id);
        if (node === undefined || node.isLost === true || this.#online.has(id)) continue;
        if (!this.views.ingresses().relays.has(id)) continue;
        await this.replace({ ...node, isLost: true }, undefined, "members");
      }
    });
  }

  #cameBack(id: number): void {
    this.#keep(async () => {
      const { isLost, ...node } = this.ledger.nodes.get(id) ?? {};
      if (isLost === true && this.#online.has(id)) await this.replace(node as NodeRecord, undefined, "members");
    });
  }

  #keep(write: () => Promise<void>): void {
    this.exclusive(write).catch((thrown: unknown) => {
      this.options.log.error("coordination.presence_unsaved", { error: messageOf(thrown) });
    });
  }

  #vanish(id: number): Promise<void> {
    return this.exclusive(async () => {
      const node = this.ledger.nodes.get(id);
      if (node?.ephemeral && !this.streams.has(id)) await this.delete(node, "server", "node.vanish");
    });
  }
}
