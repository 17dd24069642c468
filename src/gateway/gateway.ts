import { type Clock, systemClock } from "../base/clock.ts";
import { Fault } from "../base/fault.ts";
import { type Log, silentLog } from "../base/log.ts";
import type { Place } from "../config/node-serve-config.ts";
import { publicPlace, serveWarnings } from "../config/serve-warnings.ts";
import { Assertions } from "../identity/assertions.ts";
import { MapCallers } from "../identity/map-callers.ts";
import type { MeshNode } from "../mesh/node.ts";
import type { DoorEvent } from "../proxy/doors/door.ts";
import { Gatekeeper } from "../proxy/doors/gatekeeper.ts";
import { Recorder } from "../proxy/inspector/recorder.ts";
import { ReverseProxy } from "../proxy/proxy.ts";
import { capabilitiesOf } from "../wire/capabilities.ts";
import type { Prefs, StoredServeConfig } from "../wire/ipn.ts";
import type { ServeConfig } from "../wire/serve-config.ts";
import type { Certificates } from "./certificates/certificates.ts";
import { nodeCertificates } from "./certificates/node-certificates.ts";
import { markLog } from "./diagnosis.ts";
import { CommandDoors } from "./doors/command-doors.ts";
import { demandsDoors } from "./doors/door-demand.ts";
import { effectiveConfig } from "./effective-config.ts";
import { FunnelClaims } from "./funnel/funnel-claims.ts";
import { funnelWish } from "./funnel/funnel-wish.ts";
import { IngressDoor } from "./funnel/ingress-door.ts";
import { PlaceRules } from "./funnel/place-rules.ts";
import { toldRules } from "./funnel/told-rules.ts";
import { VisitorRulebook } from "./funnel/visitor-rulebook.ts";
import type { Declared, GatewayOptions } from "./gateway-options.ts";
import { hostedServices, serviceAt, waitingServices } from "./hosted-services.ts";
import { Inspection } from "./inspection.ts";
import { NOBODY, type Owner, storedAssertionKey, storedConfig } from "./kept-state.ts";
import { GatewayMetrics } from "./metrics.ts";
import { openNode } from "./open-node.ts";
import { PeerApi } from "./peer-api.ts";
import { Preferences } from "./preferences.ts";
import { guardedDial, ProtectedPaths } from "./protected-paths.ts";
import { ServedConfig } from "./served-config.ts";

export type { Declared, GatewayOptions, RulesOf } from "./gateway-options.ts";

/** Revoked means cut, within five seconds. */
const REVIEW_EVERY_MS = 2000;

/** What a gateway kept from before. */
interface Kept {
  readonly stored: StoredServeConfig;
  readonly owner: Owner;
  readonly assertions: Assertions;
  readonly preferences: Preferences;
  readonly gatekeeper: Gatekeeper;
  readonly commandDoors: CommandDoors;
  readonly visitorRules: VisitorRulebook;
}

/** A node of the mesh that serves: the node, the proxy and what they need of each other. */
export class Gateway {
  readonly node: MeshNode;
  readonly proxy: ReverseProxy;
  readonly callers: MapCallers;
  readonly certificates: Certificates;
  readonly metrics: GatewayMetrics;
  readonly assertions: Assertions;
  readonly preferences: Preferences;
  readonly gatekeeper: Gatekeeper;
  readonly commandDoors: CommandDoors;
  readonly inspection: Inspection;
  readonly claims: FunnelClaims;
  readonly #log: Log;
  readonly #served: ServedConfig;
  /** What is served, with nothing public that must not be. */
  #publicConfig: ServeConfig;
  /** Of that, what the network gives: visitors come in there. */
  #openConfig: ServeConfig = {};
  readonly #ingress: IngressDoor;
  readonly #peerApi: PeerApi;
  readonly guarded: ProtectedPaths;
  readonly #rules: PlaceRules;
  /** Where in the services file stands what keeps it from coming into force. */
  #refused: string | undefined;
  readonly visitorRules: VisitorRulebook;
  /** Services that the file advertises. */
  #declaredServices: readonly string[] = [];
  #stopReview: () => void = () => {};

  private constructor(options: GatewayOptions, node: MeshNode, kept: Kept) {
    const { assertions, preferences, gatekeeper } = kept;
    const clock: Clock = options.clock ?? systemClock;
    const guarded = new ProtectedPaths(options.protectedPaths ?? [], () => this.inspection?.port);
    this.guarded = guarded;
    const refusal = options.declared && guarded.refusal(options.declared);
    if (refusal !== undefined) throw new Fault("GATEWAY_TARGET_REFUSED", refusal);
    this.metrics = new GatewayMetrics(
      node,
      () => this.certificates,
      () => this.#ingress.open,
    );
    this.assertions = assertions;
    this.preferences = preferences;
    this.gatekeeper = gatekeeper;
    this.commandDoors = kept.commandDoors;
    this.#rules = new PlaceRules(
      options.rulesOf,
      kept.commandDoors,
      () => demandsDoors(node.map),
      (door) => gatekeeper.door(door) !== undefined,
    );
    this.visitorRules = kept.visitorRules;
    this.#declaredServices = options.advertised ?? [];
    this.#log = options.log ?? silentLog;
    this.#served = this.#servedConfig(options, kept);
    this.#publicConfig = this.#served.current;
    this.node = node;
    this.callers = new MapCallers(
      (source, destination) => capabilitiesOf(node.map?.packetFilter ?? [], source, destination),
      () => node.wall(), // the server's time: keys expire by it
    );
    this.certificates = nodeCertificates(options, node, {
      name: () => this.name,
      config: () => (this.#served.ownerName === "" ? {} : this.#served.current), // which names are the mesh's is not known either
      publicConfig: () => this.#publicConfig,
    });
    node.certificateOf = (domain) => this.certificates.held(domain);
    const recorder = new Recorder(clock, () => gatekeeper.doors.map(({ tokenHeader }) => tokenHeader));
    recorder.isOn = false;
    this.proxy = new ReverseProxy({
      config: () => this.#served.current,
      selfName: () => this.name,
      selfAddresses: () => node.addresses,
      serviceOf: (address) => serviceAt(node.map, address),
      callers: this.callers,
      secureContext: (name, asksClients) => this.certificates.secureContext(name, asksClients),
      challengeContext: (name) => this.certificates.challengeContext(name),
      challengeAnswer: (host, path) => this.certificates.challengeAnswer(host, path),
      assertions: this.assertions,
      log: this.#log.with("proxy"),
      clock,
      dialBackend: guardedDial(options.dialBackend, guarded),
      isOwnListener: (address, port) => guarded.isOwnListener(address, port),
      answered: (status, seconds) => this.metrics.answered(status, seconds),
      count: (event) => this.metrics.counted(event),
      rulesOf: ({ service, ...place }) => (service === undefined ? this.#rules.at(place) : undefined),
      gatekeeper,
      recorder,
      allowPath: (file) => guarded.mayOpen(file),
    });
    this.proxy.limit(options.limits);
    this.inspection = new Inspection(recorder, this.proxy, clock, this.#log.with("inspector"));
    node.onMap((map) => this.callers.setMap(map));
    this.#ingress = new IngressDoor({
      config: () => this.#openConfig,
      rulesOf: (site) => this.visitorRules.at(site),
      ownName: () => this.name,
      packetFilter: () => node.map?.packetFilter ?? [],
      peerByAddress: (address) => node.peerByAddress(address),
      askForLife: (address) => node.ping(address, { kind: "TSMP" }),
      trusted: options.trustedIngresses ?? [],
      allowsLoopback: options.allowsLoopbackVisitors ?? false,
      accept: (conn, port) => this.proxy.accept(conn, port),
      clock,
      log: this.#log.with("ingress"),
    });
    this.claims = new FunnelClaims({
      ownName: () => this.#served.ownerName,
      capMap: () => node.map?.self.CapMap,
      tell: (wish) => node.tell(wish),
      log: this.#log,
    });
    this.#expose();
    node.onMap(() => {
      this.#served.follow(node.map?.self.StableID ?? "", this.name);
      this.#expose(); // its policy may demand doors, and what is a name of our own is known by the first one
      this.certificates.refresh();
      this.claims.review();
    });
    for (const book of [this.commandDoors, this.visitorRules]) book.onChange = () => this.#expose();
    this.#peerApi = new PeerApi({ addresses: () => node.addresses, ingress: this.#ingress, clock });
    node.onPeerApi = (conn) => this.#peerApi.accept(conn);
    const review = (): void => {
      this.callers.review(); // a key may run out without a new map
      this.#expose();
      this.#stopReview = clock.at(clock.now() + REVIEW_EVERY_MS, review);
    };
    review();
    node.onSyn = (destination) =>
      this.proxy.serves(destination.port, destination.address)
        ? (conn) => this.proxy.accept(conn, destination.port)
        : undefined; // refused: nothing ever falls through to loopback
  }

  static async open(options: GatewayOptions): Promise<Gateway> {
    const kept = await storedConfig(options.store);
    const { declared: stored = kept.config } = options;
    const owner = options.declared === undefined ? kept.owner : NOBODY;
    const key = await storedAssertionKey(options.store);
    const issuer = (): string => `https://${gateway.name}`;
    const assertions = await Assertions.create(issuer, options.clock ?? systemClock, key);
    const preferences = await Preferences.load(options.store, {
      ControlURL: options.controlUrl,
      ...(options.hostname === undefined ? {} : { Hostname: options.hostname }),
    });
    const { clock = systemClock, log = silentLog, store } = options;
    const count = (event: DoorEvent): void => gateway.metrics.counted(event);
    const gatekeeper = await Gatekeeper.open({ clock, log: log.with("doors"), store, count });
    gatekeeper.setDoors(options.doors ?? []);
    const isDeclared = (door: string): boolean => gatekeeper.doors.some(({ name }) => name === door);
    const commandDoors = await CommandDoors.open(store, isDeclared);
    const visitorRules = await VisitorRulebook.open(store, options.visitorRulesOf);
    const { Hostname: hostname, WantRunning } = preferences.now;
    const wish = funnelWish(effectiveConfig(stored), owner.name);
    const asked = { ...options, wish, isPaused: !WantRunning, ...(hostname === "" ? {} : { hostname }) };
    const node = await openNode(asked);
    await using failure = new AsyncDisposableStack();
    failure.defer(() => node.close());
    const all: Kept = { stored, owner, assertions, preferences, gatekeeper, commandDoors, visitorRules };
    const gateway: Gateway = new Gateway(options, node, all);
    failure.move();
    return gateway;
  }

  /** @throws {Fault} PREFS_UNSUPPORTED; nothing has changed then. */
  async setPreferences(next: Prefs): Promise<void> {
    const before = this.preferences.now;
    await this.preferences.set(next);
    if (next.Hostname !== before.Hostname) this.node.tell({ hostname: next.Hostname });
    this.#advertise();
    if (next.WantRunning && !before.WantRunning) this.node.resume();
    if (next.WantRunning || !before.WantRunning) return;
    this.#ingress.dismiss();
    this.node.pause();
  }

  async logout(): Promise<void> {
    this.#ingress.dismiss();
    await this.node.logout();
  }

  /** Our name in the mesh, without the trailing dot; empty before the first map. */
  get name(): string {
    return this.node.map?.self.Name.replace(/\.$/, "") ?? "";
  }

  /** As it was set, foreground parts apart; null before the first write. */
  get storedServeConfig(): StoredServeConfig {
    return this.#served.stored;
  }

  /**
   * Writes are one after the other. `ifMatch`: it was made of the version with this tag, which has to be the last one still.
   *
   * @throws {Fault} GATEWAY_ETAG_MISMATCH, GATEWAY_TARGET_REFUSED, GATEWAY_DOOR_DEMANDED
   */
  setServeConfig(given: StoredServeConfig, ifMatch?: string): Promise<void> {
    return this.#served.set(given, ifMatch);
  }

  /** A file that was read again is not in force: it cannot be, or what it asks cannot. `where`: no word of what it holds. */
  refuseDeclaration(where: string): void {
    this.#refused = where;
  }

  /** What a file declares is in force until the next declaration, and is not stored; `undefined`: what there is goes on. */
  declare(declared: ServeConfig | undefined, how: Declared = {}): void {
    const { rulesOf, visitorRulesOf, limits, advertised = [] } = how;
    const isNews = this.#served.declare(declared, this.name);
    this.#refused = undefined;
    this.#rules.declared = rulesOf;
    this.visitorRules.declared = visitorRulesOf ?? (() => undefined);
    this.proxy.limit(limits);
    this.#declaredServices = advertised;
    this.#expose();
    for (const warning of this.#rules.missing(this.#served.current)) this.#log.warn("serve.warning", { warning });
    if (isNews) this.#changed();
  }

  #changed(): void {
    this.certificates.refresh();
    this.#warn();
  }

  #servedConfig(options: GatewayOptions, { stored, owner, commandDoors, visitorRules }: Kept): ServedConfig {
    const books = [commandDoors, visitorRules];
    const served: ServedConfig = new ServedConfig(
      {
        store: options.store,
        log: this.#log,
        check: (config) => this.check(config),
        checkPlaces: (next, before) => this.#rules.check(next, before),
        expose: () => this.#expose(),
        changed: () => this.#changed(),
        settle: async (before, config) => {
          for (const book of books) await book.settle(before, config);
        },
        renamed: (before, now) => {
          this.#warn();
          for (const book of books) served.keep(book.rename(before, now));
        },
      },
      { stored, owner, isDeclared: options.declared !== undefined },
    );
    return served;
  }

  /** Does the network's policy demand a door before what is public here? */
  get demandsDoors(): boolean {
    return this.#rules.demandsDoors;
  }

  /** The door before a mount of the node's own. */
  doorAt(place: Place): string | undefined {
    return this.#rules.at(place)?.door;
  }

  /** Each door that stands somewhere, also one that is declared nowhere, with the addresses of what is behind it. */
  get standingDoors(): ReadonlyMap<string, readonly string[]> {
    return this.#rules.doorsIn(this.#served.current);
  }

  /** @throws {Fault} GATEWAY_TARGET_REFUSED */
  check(config: StoredServeConfig): void {
    // What is refused by now, and was there before, must not keep anybody from turning something else off (FN-8).
    const refusal = this.guarded.refusal(config, this.#served.stored);
    if (refusal !== undefined) throw new Fault("GATEWAY_TARGET_REFUSED", refusal);
  }

  /** Visitors of what is not public, or behind another door by now, are cut, and the server is told what is public. */
  #expose(): void {
    this.#publicConfig = this.#rules.publicPart(this.#served.current);
    this.#openConfig = this.claims.granted(this.#publicConfig);
    this.#ingress.review();
    this.proxy.review();
    this.node.tell({ visitorRules: toldRules(this.#publicConfig, (site) => this.visitorRules.at(site), this.name) });
    this.claims.ask(this.#publicConfig);
    this.#advertise();
  }

  /** The server is told which services are to be hosted here. */
  #advertise(): void {
    this.node.tell({ services: hostedServices(this.#served.current, this.#advertised) });
  }

  get #advertised(): readonly string[] {
    const { Services = {} } = this.#served.current;
    const declared = this.#declaredServices.filter((name) => Object.hasOwn(Services, name));
    return [...new Set([...declared, ...(this.preferences.now.AdvertiseServices ?? [])])];
  }

  /** What the operator should know of what is served, though it is allowed. */
  get warnings(): readonly string[] {
    const waiting = waitingServices(this.node.map, this.#advertised).map(
      (name) => `${name} waits for an address: an administrator of the network creates and approves services`,
    );
    const unkept = this.#served.concealed.map(
      (site) =>
        `${publicPlace(site)} is closed to the internet until a restart: say \`off\` again, it could not be kept`,
    );
    const old = `the services file is refused, and the one before it in force: ${this.#refused} (the log says why)`;
    return [
      ...(this.#refused === undefined ? [] : [old]),
      ...unkept,
      ...this.#serveWarnings(),
      ...this.#rules.warnings(this.#served.current),
      ...waiting,
      ...this.claims.refusals,
    ];
  }

  /** A mark in the log by which a person finds the moment again (`tailscale bugreport`). */
  markLog(note: string): string {
    return markLog(this.#log, this.node.wall(), note);
  }

  #serveWarnings(): readonly string[] {
    // What is public without a door is not, where the policy demands one: that is another warning.
    const { stored, concealed } = this.#served;
    const isOpen = ([site]: [string, boolean]): boolean => !concealed.includes(site);
    const AllowFunnel = Object.fromEntries(Object.entries(stored?.AllowFunnel ?? {}).filter(isOpen));
    const config = this.demandsDoors
      ? { ...effectiveConfig(stored), AllowFunnel: {} }
      : concealed.length === 0
        ? stored
        : { ...stored, AllowFunnel };
    const hasDoor = (name: string, port: number, mount: string): boolean =>
      this.doorAt({ name, port, mount }) !== undefined;
    return serveWarnings(config, hasDoor, this.node.addresses);
  }

  #warn(): void {
    for (const warning of this.#serveWarnings()) this.#log.warn("serve.warning", { warning });
  }

  async close(): Promise<void> {
    this.#stopReview();
    await this.inspection.close();
    this.#peerApi.close();
    await this.proxy.close();
    await this.certificates.close();
    await this.node.close();
  }
}
