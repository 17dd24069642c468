import { type Clock, systemClock } from "../base/clock.ts";
import { type Log, silentLog } from "../base/log.ts";
import { Ingress } from "../funnel/ingress.ts";
import { LeaseListeners } from "../funnel/lease-listeners.ts";
import { LeaseTable } from "../funnel/lease-table.ts";
import { LifeSigns } from "../funnel/life-signs.ts";
import { leasesOf, publicNamesOf } from "../funnel/mesh-names.ts";
import type { IngressLimits, IngressOptions, OwnNames } from "../funnel/options.ts";
import { Presence } from "../funnel/presence.ts";
import { NameTable } from "../funnel/public-names.ts";
import type { FunnelWish } from "../mesh/control/control-client.ts";
import { MeshNode, type MeshNodeOptions } from "../mesh/node.ts";
import { leasableServices, type PortRange } from "../wire/claims.ts";
import { publicNameClaims, RELAY_ATTRIBUTE } from "../wire/funnel.ts";
import type { NetworkMap } from "../wire/network-map.ts";
import type { Node } from "../wire/tailcfg.ts";

/** What the log says of visitors, where there were some. */
const TELL_EVERY_MS = 60_000;

/** A node that died said nothing to its visitors: they need not wait for it for hours. */
const KEEPALIVE: NonNullable<MeshNodeOptions["keepalive"]> = { idleMs: 60_000, intervalMs: 15_000, probes: 4 };

const NOT_APPOINTED = `The server does not take this node for an ingress: its policy gives the attribute "${RELAY_ATTRIBUTE}".`;

/** Where visitors come in. */
export interface RelayListener {
  /** Empty = every address of this machine. */
  readonly address: string;
  /** 0 = any. */
  readonly port: number;
  /** What visitors see, where something in front of us sends them on. @default `port` */
  readonly publicPort?: number;
  /** HTTP without TLS, which is only ever sent on to HTTPS. */
  readonly isPlain?: boolean;
}

export interface RelayOptions extends MeshNodeOptions {
  readonly listeners: readonly RelayListener[];
  readonly own?: OwnNames;
  /** Ports on which nodes are public by their own word, where the server has none (Headscale). @default none */
  readonly hostinfoPorts?: readonly number[];
  readonly limits?: Partial<IngressLimits>;
  /** Addresses by which visitors come in, where this machine does not know them: behind a translator. */
  readonly publicAddresses?: readonly string[];
  /** Raw ports that may be let, and where they are opened. @default none */
  readonly leases?: { readonly ranges: readonly PortRange[]; readonly address: string };
}

/** Funnel's public end as a node of the mesh: it knows every public name by its map stream, and keeps nothing but its keys. */
export class Relay {
  readonly node: MeshNode;
  readonly ingress: Ingress;
  /** Of the listeners, in their order. */
  readonly ports: readonly number[];
  readonly #stopTelling: () => void;
  /** By the operator's word, or by that of the server in the same process. */
  readonly #isAppointedElsewhere: boolean;
  readonly #clock: Clock;
  /** Monotonic: when the map stream was last open. */
  #currentAt: number;
  readonly #presence: Presence = new Presence();
  readonly #signs: LifeSigns;
  #names: NameTable = new NameTable([]);
  #leases: LeaseTable = new LeaseTable([]);
  readonly #leaseListeners: LeaseListeners;

  private constructor(
    node: MeshNode,
    ingress: (tables: Pick<IngressOptions, "names" | "leases">) => Ingress,
    ports: number[],
    options: RelayOptions & { readonly log: Log; readonly clock: Clock },
  ) {
    const { log, clock, hostinfoPorts, leases, own } = options;
    this.node = node;
    this.ports = ports;
    this.#isAppointedElsewhere = hostinfoPorts !== undefined || own !== undefined;
    this.ingress = ingress({ names: () => this.#names, leases: () => this.#leases });
    this.#stopTelling = tellCounts(this.ingress, clock, log);
    this.#clock = clock;
    this.#currentAt = clock.now();
    let { state } = node;
    node.onState((next) => {
      if (state.kind === "running") this.#currentAt = clock.now();
      if (state.kind === "running" && next.kind !== "running") this.#presence.broke();
      state = next;
      const lookAt = next.kind === "running" ? this.#presence.back(clock.now()) : undefined;
      if (lookAt !== undefined) clock.at(lookAt, () => node.map && this.#learn(node.map, options));
    });
    const { ranges = [], address = "" } = leases ?? {};
    this.#leaseListeners = new LeaseListeners({
      ranges,
      open: (port) => this.ingress.lease(port, address),
      clock,
      log,
    });
    this.#signs = new LifeSigns({
      ask: ({ Addresses }) => node.ping(Addresses[0]!.split("/")[0]!, { kind: "TSMP" }),
      changed: () => node.map && this.#learn(node.map, options),
      clock,
    });
    node.onMap((map) => this.#learn(map, options));
  }

  #learn(map: NetworkMap, { hostinfoPorts, log }: RelayOptions & { readonly log: Log }): void {
    const isKnown = this.#presence.read(map.peers.values(), this.#clock.now());
    this.#signs.set([...map.peers.values()].filter((node) => wantsVisitors(node) && !isKnown(node)));
    const isHere = (node: Node): boolean => isKnown(node) || this.#signs.has(node);
    const before = this.#names;
    this.#names = new NameTable(publicNamesOf(map, hostinfoPorts, isHere), before);
    this.#leases = new LeaseTable(leasesOf(map, hostinfoPorts !== undefined, isHere), this.#leases);
    if (!this.ingress.isDraining) this.#leaseListeners.set(this.#leases.ports);
    for (const { port, owner } of this.#leases.conflicts) log.warn("relay.lease_taken", { port, refused: owner });
    const { size, conflicts } = this.#names;
    if (size !== before.size) log.info("relay.names", { count: size });
    for (const { name, owner } of conflicts) log.warn("relay.name_taken", { name, refused: owner });
    if (!this.isAppointed) log.debug("relay.not_appointed", {});
  }

  /** @throws {Fault} INGRESS_LISTEN */
  static async open(options: RelayOptions): Promise<Relay> {
    const clock: Clock = options.clock ?? systemClock;
    const log = (options.log ?? silentLog).with("relay");
    const hostServices = leasableServices(options.leases?.ranges ?? []);
    const wish = { ...options.wish, hostServices, ...visitedAt(options) };
    const node = await MeshNode.open({ keepalive: KEEPALIVE, ...options, wish });
    await using failure = new AsyncDisposableStack();
    failure.defer(() => node.close());
    const ports: number[] = [];
    const { own, limits } = options;
    const ingress = (tables: Pick<IngressOptions, "names" | "leases">): Ingress =>
      new Ingress({
        ...tables,
        dial: (target, signal) => node.dial(target, { signal }),
        clock,
        log,
        ...(own === undefined ? {} : { own }),
        ...(limits === undefined ? {} : { limits }),
      });
    const relay = new Relay(node, ingress, ports, { ...options, log, clock });
    failure.defer(() => relay.ingress.close());
    for (const { address, port, publicPort, isPlain = false } of options.listeners) {
      const how = { isPlain, ...(publicPort === undefined ? {} : { publicPort }) };
      ports.push(await relay.ingress.listen(port, address, how));
    }
    failure.move();
    return relay;
  }

  get names(): NameTable {
    return this.#names;
  }

  get isMember(): boolean {
    return this.node.map !== undefined && !this.node.isCutOff;
  }

  /** Is it an ingress for the server, or does it bring visitors anyway? */
  get isAppointed(): boolean {
    const { CapMap = {} } = this.node.map?.self ?? {};
    return this.#isAppointedElsewhere || RELAY_ATTRIBUTE in (CapMap ?? {}) || this.#names.size > 0;
  }

  /** How old what it knows may be: 0 while the map stream is open. */
  get mapAgeMs(): number {
    if (this.node.state.kind === "running") return 0;
    return this.#clock.now() - this.#currentAt;
  }

  /** Should visitors be sent here? With what is wrong, in words. */
  get health(): { readonly isHealthy: boolean; readonly problems: readonly string[] } {
    const { open, isDraining } = this.ingress;
    const grave = [
      ...(isDraining ? [`The ingress is draining: it takes no new visitors, ${open} are left.`] : []),
      ...(this.isMember ? [] : [`The ingress is no member of its mesh: its state is ${this.node.state.kind}.`]),
      ...(this.isMember && !this.isAppointed ? [NOT_APPOINTED] : []),
    ];
    const shut = this.shutPorts.map((port) => `Port ${port} is let and cannot be opened on this machine.`);
    return { isHealthy: grave.length === 0, problems: [...grave, ...shut, ...this.node.health] };
  }

  /** Raw ports that are open. */
  get leasedPorts(): readonly number[] {
    return this.#leaseListeners.ports;
  }

  /** Raw ports that should be, and cannot. */
  get shutPorts(): readonly number[] {
    return this.#leaseListeners.failed;
  }

  /** No new visitors, nor any sent here by the server's zone; those who are here stay, at most `limitMs`. */
  drain(limitMs: number): Promise<void> {
    this.node.tell({ isDraining: true });
    return this.ingress.drain(limitMs);
  }

  async close(): Promise<void> {
    this.#stopTelling();
    this.#signs.close();
    this.#leaseListeners.close();
    this.ingress.close();
    await this.node.close();
  }
}

const wantsVisitors = ({ CapMap, Hostinfo }: Node): boolean =>
  publicNameClaims(CapMap).length > 0 || Hostinfo?.IngressEnabled === true;

/** Nothing where one of them takes visitors at every address. */
function visitedAt({ listeners, publicAddresses }: RelayOptions): FunnelWish {
  if (publicAddresses !== undefined) return { visitedAt: publicAddresses };
  const addresses = [...new Set(listeners.filter(({ isPlain }) => isPlain !== true).map(({ address }) => address))];
  return addresses.some((address) => ["", "0.0.0.0", "::"].includes(address)) ? {} : { visitedAt: addresses };
}

function tellCounts(ingress: Ingress, clock: Clock, log: Log): () => void {
  let told = JSON.stringify(ingress.counts);
  let stop = (): void => {};
  const next = (): void => {
    stop = clock.at(clock.now() + TELL_EVERY_MS, () => {
      const counts = JSON.stringify(ingress.counts);
      if (counts !== told)
        log.info("ingress.visitors", { open: ingress.open, pending: ingress.pending, ...ingress.counts });
      told = counts;
      next();
    });
  };
  next();
  return () => stop();
}
