import { type Clock, systemClock } from "../base/clock.ts";
import { Fault, messageOf } from "../base/fault.ts";
import { type Log, silentLog } from "../base/log.ts";
import type { Store } from "../base/store.ts";
import type { Place } from "../config/node-serve-config.ts";
import { renamedNode } from "../config/renamed-node.ts";
import { serveConfigEtag } from "../config/serve-document.ts";
import { serveWarnings } from "../config/serve-warnings.ts";
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
import { concealed, effectiveConfig, isOfForeground } from "./effective-config.ts";
import { FunnelClaims } from "./funnel/funnel-claims.ts";
import { funnelWish } from "./funnel/funnel-wish.ts";
import { IngressDoor } from "./funnel/ingress-door.ts";
import { settledLeases } from "./funnel/lease-marks.ts";
import { PlaceRules } from "./funnel/place-rules.ts";
import { toldRules } from "./funnel/told-rules.ts";
import { VisitorRulebook } from "./funnel/visitor-rulebook.ts";
import type { Declared, GatewayOptions } from "./gateway-options.ts";
import { hostedServices, serviceAt, waitingServices } from "./hosted-services.ts";
import { Inspection } from "./inspection.ts";
import { keepConfig, NOBODY, type Owner, storedAssertionKey, storedConfig } from "./kept-state.ts";
import { GatewayMetrics } from "./metrics.ts";
import { openNode } from "./open-node.ts";
import { PeerApi } from "./peer-api.ts";
import { Preferences } from "./preferences.ts";
import { guardedDial, ProtectedPaths } from "./protected-paths.ts";

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
  readonly #store: Store;
  readonly #log: Log;
  #stored: StoredServeConfig;
  #serveConfig: ServeConfig;
  /** The same with nothing public that must not be. */
  #publicConfig: ServeConfig;
  /** Of that, what the network gives: visitors come in there. */
  #openConfig: ServeConfig = {};
  readonly #ingress: IngressDoor;
  readonly #peerApi: PeerApi;
  readonly guarded: ProtectedPaths;
  readonly #rules: PlaceRules;
  readonly visitorRules: VisitorRulebook;
  /** Whose what is served is. */
  #owner: Owner;
  /** It is as a file declares it: no command has changed it since. */
  #isDeclared: boolean;
  /** Services that the file advertises. */
  #declaredServices: readonly string[] = [];
  #stopReview: () => void = () => {};
  /** Settled as soon as the last write of what is served is over. */
  #written: Promise<void> = Promise.resolve();

  private constructor(options: GatewayOptions, node: MeshNode, kept: Kept) {
    const { stored, assertions, preferences, gatekeeper } = kept;
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
    this.#owner = kept.owner;
    this.#isDeclared = options.declared !== undefined;
    this.#declaredServices = options.advertised ?? [];
    this.#store = options.store;
    this.#log = options.log ?? silentLog;
    this.#stored = stored && settledLeases(stored, { before: null, ownName: kept.owner.name, isEdit: false });
    this.#serveConfig = effectiveConfig(this.#stored);
    this.#publicConfig = this.#serveConfig;
    this.node = node;
    this.callers = new MapCallers(
      (source, destination) => capabilitiesOf(node.map?.packetFilter ?? [], source, destination),
      () => node.wall(), // the server's time: keys expire by it
    );
    this.certificates = nodeCertificates(options, node, {
      name: () => this.name,
      config: () => (this.#owner.name === "" ? {} : this.#serveConfig), // which names are the mesh's is not known either
      publicConfig: () => this.#publicConfig,
    });
    node.certificateOf = (domain) => this.certificates.held(domain);
    const recorder = new Recorder(clock, () => gatekeeper.doors.map(({ tokenHeader }) => tokenHeader));
    recorder.isOn = false;
    this.proxy = new ReverseProxy({
      config: () => this.#serveConfig,
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
      ownName: () => this.#owner.name,
      capMap: () => node.map?.self.CapMap,
      tell: (wish) => node.tell(wish),
      log: this.#log,
    });
    this.#expose();
    node.onMap(() => {
      this.#follow();
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
    return this.#stored;
  }

  /**
   * Writes are one after the other. `ifMatch`: it was made of the version with this tag, which has to be the last one still.
   *
   * @throws {Fault} GATEWAY_ETAG_MISMATCH, GATEWAY_TARGET_REFUSED, GATEWAY_DOOR_DEMANDED
   */
  async setServeConfig(given: StoredServeConfig, ifMatch?: string): Promise<void> {
    this.#settled(given, ifMatch); // whatever becomes of the rest, of other writes and of the disk (FN-8)
    const written = this.#written.then(() => this.#write(given, ifMatch));
    this.#written = written.catch(() => undefined);
    await written;
  }

  /** What is not to be public any more is not from here on. */
  #settled(given: StoredServeConfig, ifMatch: string | undefined): StoredServeConfig {
    const found = serveConfigEtag(this.#stored);
    if (ifMatch !== undefined && ifMatch !== found) {
      throw new Fault(
        "GATEWAY_ETAG_MISMATCH",
        `Cannot set the serve configuration: found tag ${found}, wanted ${ifMatch}`,
        { hint: "Somebody changed it meanwhile: read it again." },
      );
    }
    const [before, ownName, isEdit] = [this.#stored, this.#owner.name, ifMatch !== undefined];
    const config = given && settledLeases(given, { before, ownName, isEdit });
    this.#serveConfig = concealed(this.#serveConfig, config);
    this.#expose();
    return config;
  }

  async #write(given: StoredServeConfig, ifMatch: string | undefined): Promise<void> {
    const owner = this.#owner;
    const config = this.#settled(given, ifMatch);
    this.check(config);
    this.#rules.check(effectiveConfig(config), effectiveConfig(this.#stored));
    const before = this.#stored;
    if (!isOfForeground(before, config)) {
      await keepConfig(this.#store, config, owner);
      this.#isDeclared = false;
    }
    this.#take(config);
    if (owner !== this.#owner) this.#rename(owner); // meanwhile
    this.#expose();
    this.certificates.refresh();
    this.#warn();
    for (const book of [this.commandDoors, this.visitorRules]) await book.settle(before, config);
  }

  /** What a file declares is in force until the next declaration, and is not stored; `undefined`: what there is goes on. */
  declare(declared: ServeConfig | undefined, how: Declared = {}): void {
    const { rulesOf, visitorRulesOf, limits, advertised = [] } = how;
    if (declared !== undefined && this.name === "") this.#owner = NOBODY;
    const given = declared && settledLeases(declared, { before: null, ownName: this.name, isEdit: false });
    const config = given ?? this.#stored;
    this.check(config);
    this.#isDeclared ||= declared !== undefined;
    this.#rules.declared = rulesOf;
    this.visitorRules.declared = visitorRulesOf ?? (() => undefined);
    this.proxy.limit(limits);
    this.#declaredServices = advertised;
    const isNews = serveConfigEtag(config) !== serveConfigEtag(this.#stored);
    if (isNews) this.#take(config);
    this.#expose();
    for (const warning of this.#rules.missing(this.#serveConfig)) this.#log.warn("serve.warning", { warning });
    if (!isNews) return;
    this.certificates.refresh();
    this.#warn();
  }

  #take(config: StoredServeConfig): void {
    this.#stored = config;
    this.#serveConfig = effectiveConfig(config);
  }

  /** To be called with every map: what is served goes with the node when that is renamed. */
  #follow(): void {
    const [before, id, { name }] = [this.#owner, this.node.map?.self.StableID ?? "", this];
    if (name === "" || (before.id === id && before.name === name)) return;
    this.#owner = { id, name };
    this.#rename(before);
  }

  /** Another node, which is what we are after a login elsewhere, is no rename: what was for one network is not for another. */
  #rename({ id, name }: Owner): void {
    const [now, config] = [this.#owner, this.#stored];
    const isSame = this.#isDeclared || name === "" || id === now.id;
    if (config !== null && isSame && name !== now.name) {
      const renamed = renamedNode(config, name, now.name);
      const open = renamedNode(this.#serveConfig, name, now.name); // without what is just being turned off
      this.#take(settledLeases(renamed, { before: null, ownName: now.name, isEdit: false }));
      this.#serveConfig = concealed(this.#serveConfig, open);
      this.#warn();
      for (const book of [this.commandDoors, this.visitorRules]) this.#keep(book.rename(name, now.name));
    }
    if (config !== null && !this.#isDeclared) this.#keep(keepConfig(this.#store, this.#stored, now));
  }

  #keep(written: Promise<void>): void {
    written.catch((error: unknown) => this.#log.error("serve.unkept", { error: messageOf(error) }));
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
    return this.#rules.doorsIn(this.#serveConfig);
  }

  /** @throws {Fault} GATEWAY_TARGET_REFUSED */
  check(config: StoredServeConfig): void {
    // What is refused by now, and was there before, must not keep anybody from turning something else off (FN-8).
    const refusal = this.guarded.refusal(config, this.#stored);
    if (refusal !== undefined) throw new Fault("GATEWAY_TARGET_REFUSED", refusal);
  }

  /** Visitors of what is not public, or behind another door by now, are cut, and the server is told what is public. */
  #expose(): void {
    this.#publicConfig = this.#rules.publicPart(this.#serveConfig);
    this.#openConfig = this.claims.granted(this.#publicConfig);
    this.#ingress.review();
    this.proxy.review();
    this.node.tell({ visitorRules: toldRules(this.#publicConfig, (site) => this.visitorRules.at(site), this.name) });
    this.claims.ask(this.#publicConfig);
    this.#advertise();
  }

  /** The server is told which services are to be hosted here. */
  #advertise(): void {
    this.node.tell({ services: hostedServices(this.#serveConfig, this.#advertised) });
  }

  get #advertised(): readonly string[] {
    const { Services = {} } = this.#serveConfig;
    const declared = this.#declaredServices.filter((name) => Object.hasOwn(Services, name));
    return [...new Set([...declared, ...(this.preferences.now.AdvertiseServices ?? [])])];
  }

  /** What the operator should know of what is served, though it is allowed. */
  get warnings(): readonly string[] {
    const waiting = waitingServices(this.node.map, this.#advertised).map(
      (name) => `${name} waits for an address: an administrator of the network creates and approves services`,
    );
    return [...this.#serveWarnings(), ...this.#rules.warnings(this.#serveConfig), ...waiting, ...this.claims.refusals];
  }

  /** A mark in the log by which a person finds the moment again (`tailscale bugreport`). */
  markLog(note: string): string {
    return markLog(this.#log, this.node.wall(), note);
  }

  #serveWarnings(): readonly string[] {
    // What is public without a door is not, where the policy demands one: that is another warning.
    const config = this.demandsDoors ? { ...effectiveConfig(this.#stored), AllowFunnel: {} } : this.#stored;
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
