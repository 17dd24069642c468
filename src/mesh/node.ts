import { type AddressBytes, type AddressPort, type Prefix, parseAddress, parsePrefix } from "../base/address.ts";
import { toHex } from "../base/bytes.ts";
import { type Clock, systemClock } from "../base/clock.ts";
import type { Conn, Listener } from "../base/conn.ts";
import { Fault } from "../base/fault.ts";
import { type Log, silentLog } from "../base/log.ts";
import { systemRandom } from "../base/random.ts";
import { formatKey, generatePrivateKey, publicKeyOf } from "../crypto/keys.ts";
import { SERVICE_ADDRESS } from "../wire/mesh-address.ts";
import type { NetworkMap } from "../wire/network-map.ts";
import type { MapResponse, Node } from "../wire/tailcfg.ts";
import { answerC2n, type C2nCertificates } from "./c2n.ts";
import { ControlClient, type ControlState, type FunnelWish } from "./control/control-client.ts";
import { DataPlane } from "./data-plane.ts";
import { MagicDns, type QueryDns } from "./dns/magic-dns.ts";
import { firstMap } from "./first-map.ts";
import { healthOf } from "./health.ts";
import { servicePrefixes } from "./hosted-services.ts";
import { interfaceAddresses, watchLink } from "./link-watch.ts";
import { MemberDns } from "./member-dns.ts";
import type { MeshNodeOptions } from "./node-options.ts";
import { OwnDescription } from "./own-description.ts";
import type { OwnWish } from "./own-hostinfo.ts";
import { OwnKeys } from "./own-keys.ts";
import { PeerApiDoor } from "./peerapi-door.ts";
import { type PingOptions, type PingReport, ping } from "./pings.ts";
import { type Counters, countersOf, type NetworkReport, type PeerStatus, peerStatusOf } from "./report.ts";
import { pingForServer } from "./server-pings.ts";

export type { MeshNodeOptions } from "./node-options.ts";
export type { PingKind, PingOptions, PingReport } from "./pings.ts";
export type { NetworkReport, PeerStatus } from "./report.ts";

type SynDecision = (destination: AddressPort, source: AddressPort, peer: number) => ((conn: Conn) => void) | undefined;

/** A node of a mesh in userspace: what `createNode` gives, seen from inside. */
export class MeshNode {
  /** What the server may ask of the certificates here; set by whoever has some. */
  certificateOf: C2nCertificates["certificateOf"] = () => undefined;
  readonly #options: MeshNodeOptions;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #keys: OwnKeys;
  readonly #own: OwnDescription;
  readonly #dns: MagicDns;
  readonly #mapListeners: Set<(map: NetworkMap) => void> = new Set();
  readonly #stateListeners: Set<(state: ControlState) => void> = new Set();
  readonly #plane: DataPlane;
  readonly #memberDns: MemberDns;
  readonly #peerApi: PeerApiDoor;
  readonly #control: ControlClient;
  readonly queryDns: QueryDns = (...query) => this.#dns.resolve(...query, this.#options.forwardDns);
  readonly post: ControlClient["post"] = (...asked) => this.#control.post(...asked);
  #map: NetworkMap | undefined;
  #addresses: readonly string[] = [];
  #state: ControlState = { kind: "connecting" };
  #stopWatching: () => void = () => {};
  /** From the server's word that we are no member until it has taken us again. */
  #isCutOff = false;
  #isClosed = false;

  private constructor(options: MeshNodeOptions, keys: OwnKeys, plane: DataPlane, discoKey: Uint8Array) {
    const random = options.random ?? systemRandom;
    this.#options = options;
    const { hostname, hasDoors = false } = options;
    const wish: OwnWish = { ingress: undefined, ...options.wish, hostname, hasDoors };
    const backendLogId = toHex(random(32));
    this.#own = new OwnDescription(wish, options.tags, backendLogId, () => this.#control.update());
    this.#clock = options.clock ?? systemClock;
    this.#log = options.log ?? silentLog;
    this.#keys = keys;
    this.#plane = plane;
    this.#peerApi = new PeerApiDoor(plane);
    this.#dns = new MagicDns(() => this.#clock.wall());
    this.#memberDns = new MemberDns({
      netstack: plane.netstack,
      clock: this.#clock,
      peer: (index) => plane.peers.byIndex(index)?.node,
      answer: this.queryDns,
    });
    this.onSyn = () => undefined;
    const { controlUrl } = options;
    this.#control = new ControlClient({
      serverUrl: controlUrl,
      machineKey: keys.machineKey,
      clock: this.#clock,
      random,
      log: this.#log.with("control"),
      ...(options.connect === undefined ? {} : { connect: options.connect }),
      ...(options.authKey === undefined ? {} : { authKey: options.authKey }),
      hostinfo: () => this.#own.hostinfo(this.#peerApi.isServed ? this.#ownAddresses() : []),
      funnelWish: () => this.#own.funnelWish(),
      nodeKey: () => keys.nodeKey,
      adoptNodeKey: (key) => keys.adopt(key),
      discoKey: publicKeyOf(discoKey),
      endpoints: () => this.#own.endpoints,
      get knownServerKey() {
        return keys.serverKeyOf(controlUrl);
      },
      onServerKey: (key) => {
        keys.rememberServer(controlUrl, key).catch((error: unknown) => this.#log.error("state.unsaved", { error }));
      },
      onC2n: async (request) => answerC2n(request, this, this.#own.services),
      onPing: (wanted) => pingForServer(plane, this.#clock, this.#map?.derpMap, wanted),
      onAuthUrl: (url) => options.onAuthUrl?.(url),
      onRefused: (reason) => options.onRefused?.(reason),
      onMap: (map, response) => this.#applyMap(map, response),
      onState: (state) => this.#applyState(state),
    });
  }

  static async open(options: MeshNodeOptions): Promise<MeshNode> {
    const { clock = systemClock, log = silentLog, random = systemRandom } = options;
    const keys = await OwnKeys.load(options.store, random);
    const discoKey = generatePrivateKey(random); // a new one each start: peers forget what they knew of our paths
    let node: MeshNode | undefined;
    const plane = await DataPlane.open({
      nodeKey: keys.nodeKey.private,
      discoKey,
      clock,
      random,
      log,
      port: options.port ?? 0,
      ...(options.keepalive === undefined ? {} : { keepalive: options.keepalive }),
      ...(options.tcpMemoryBytes === undefined ? {} : { tcpMemoryBytes: options.tcpMemoryBytes }),
      ...(options.udp === undefined ? {} : { udp: options.udp }),
      ...(options.openUdp === undefined ? {} : { openUdp: options.openUdp }),
      ...(options.connectDerp === undefined ? {} : { connectDerp: options.connectDerp }),
      derpMap: () => node?.map?.derpMap ?? { Regions: {} },
      serverWall: () => node?.wall() ?? clock.wall(),
      timestampFloor: keys.timestampFloor,
      onTimestamp: (wall) => keys.reserveTimestamps(wall, log),
      onEndpoints: (endpoints) => {
        if (node !== undefined) node.#own.endpoints = endpoints;
      },
      onNetInfo: (info) => {
        if (node !== undefined) node.#own.addNetInfo(info);
      },
    });
    node = new MeshNode(options, keys, plane, discoKey);
    node.#start();
    return node;
  }

  #start(): void {
    this.#stopWatching = watchLink({
      clock: this.#clock,
      addresses: this.#options.localAddresses ?? interfaceAddresses,
      onAddresses: (addresses) => {
        const isFirst = this.#plane.paths.endpoints.length === 0;
        this.#plane.setLocalAddresses(addresses);
        if (!isFirst) this.#linkChanged();
      },
      onWoken: () => this.#linkChanged(),
    });
    this.#control.start();
    if (this.#options.isPaused === true) this.#control.pause();
    this.#plane.wake();
  }

  #linkChanged(): void {
    this.#log.info("link.changed");
    this.#plane.linkChanged();
    this.#control.linkChanged();
  }

  #applyMap(map: NetworkMap, response: MapResponse): void {
    const isFirst = this.#map === undefined;
    this.#map = map;
    this.#addresses = (map.self.Addresses ?? []).map((text) => text.split("/")[0]!);
    this.#own.setServer(map);
    this.#dns.setMap(map);
    this.#memberDns.setMap(map);
    const isRenewed = map.self.Key === this.nodeKeyText && toHex(this.#plane.nodeKey) !== this.nodeKey;
    if (isRenewed) this.#plane.setNodeKey(this.#keys.nodeKey.private); // from now on peers know us by it
    this.#setPlane(map, isFirst || response.DERPMap != null);
    for (const listener of this.#mapListeners) listener(map);
  }

  #setPlane(map: NetworkMap, isDerpMapNew: boolean): void {
    const { rules, prefixes: served } = this.#memberDns;
    const answered = [...served, ...servicePrefixes(map.self)];
    this.#plane.setMap(map, { own: prefixesOf(map.self), served: answered, rules, isDerpMapNew });
    if (this.#isCutOff) this.#plane.cut();
    this.#openPeerApi();
  }

  /** Who is no member any more neither sends nor receives; who is one again gets its peers back. */
  #applyState(state: ControlState): void {
    this.#state = state;
    if (CUT_OFF.has(state.kind)) {
      this.#isCutOff = true;
      this.#plane.cut();
    } else if (this.#isCutOff && state.kind === "running") {
      this.#isCutOff = false;
      if (this.#map !== undefined) this.#setPlane(this.#map, false);
    }
    for (const listener of this.#stateListeners) listener(state);
  }

  #ownAddresses(): AddressBytes[] {
    return this.#map === undefined ? [] : prefixesOf(this.#map.self).map((prefix) => prefix.address);
  }

  #openPeerApi(): void {
    if (this.#peerApi.open(this.#ownAddresses())) this.#control.update();
  }

  /** Serves connections to our peerapi. */
  set onPeerApi(accept: (conn: Conn) => void) {
    this.#peerApi.serve(accept);
    this.#openPeerApi();
  }

  get map(): NetworkMap | undefined {
    return this.#map;
  }

  get state(): ControlState {
    return this.#state;
  }

  get isCutOff(): boolean {
    return this.#isCutOff;
  }

  /** The server's time in Unix ms: keys expire by it. */
  wall(): number {
    return this.#control.wall();
  }

  /** What is wrong, most urgent first, in words for the person who runs this node; empty = nothing. */
  get health(): readonly string[] {
    return healthOf({
      state: this.#state,
      map: this.#map,
      wall: this.wall(),
      homeRegion: this.#plane.homeRegion,
      isHomeConnected: this.#plane.derpRegions.includes(this.#plane.homeRegion),
      hasAuthKey: this.#options.authKey !== undefined,
      remedy: this.#options.remedy,
    });
  }

  /** What is known of the network under us. */
  get networkReport(): NetworkReport {
    return {
      netInfo: this.#own.netInfo,
      homeRegion: this.#plane.homeRegion,
      connectedRegions: this.#plane.derpRegions,
      endpoints: this.#own.endpoints.map(({ endpoint }) => endpoint),
    };
  }

  /** Which of several implementations are at work. */
  get means(): DataPlane["means"] {
    return this.#plane.means;
  }

  get counters(): Counters {
    return countersOf(this.#plane);
  }

  /** 32 bytes, hex. */
  get nodeKey(): string {
    return toHex(this.#keys.nodePublicKey);
  }

  get nodeKeyText(): string {
    return formatKey("nodekey", this.#keys.nodePublicKey);
  }

  /** Our mesh addresses as text, IPv4 first. */
  get addresses(): readonly string[] {
    return this.#addresses;
  }

  onMap(listener: (map: NetworkMap) => void): () => void {
    this.#mapListeners.add(listener);
    if (this.#map !== undefined) listener(this.#map);
    return () => void this.#mapListeners.delete(listener);
  }

  onState(listener: (state: ControlState) => void): () => void {
    this.#stateListeners.add(listener);
    listener(this.#state);
    return () => void this.#stateListeners.delete(listener);
  }

  /** Settles when the first network map is here. */
  ready(signal?: AbortSignal): Promise<NetworkMap> {
    return firstMap((listener) => this.onMap(listener), signal);
  }

  listen(port: number, accept: (conn: Conn) => void): Listener {
    return this.#plane.netstack.listenTcp(port, accept);
  }

  /** Decides about ports that nothing listens on; `undefined` = refuse. */
  set onSyn(decide: SynDecision) {
    this.#plane.netstack.onTcpSyn = (destination, source, peer) =>
      destination.address === SERVICE_ADDRESS
        ? this.#memberDns.accept(destination, peer)
        : decide(destination, source, peer);
  }

  /** Opens a TCP connection over the mesh; `address` may be a MagicDNS name. */
  async dial(target: AddressPort, options: { readonly signal?: AbortSignal } = {}): Promise<Conn> {
    const address = this.resolve(target.address);
    if (this.#plane.peerFor(address) < 0 && !this.addresses.includes(address)) {
      throw new Fault("MESH_NO_PEER", `Cannot dial "${target.address}": no peer of this mesh has address ${address}`);
    }
    return this.#plane.netstack.dialTcp({ address, port: target.port }, options);
  }

  /** @throws {Fault} MESH_UNKNOWN_NAME */
  resolve(name: string): string {
    if (parseAddress(name) !== undefined) return name;
    const [address] = this.#dns.lookup(name);
    if (address !== undefined) return address;
    throw new Fault("MESH_UNKNOWN_NAME", `Cannot find "${name}": no node of this mesh has that name`, {
      hint: "`sallyport status` lists the nodes that this one may see.",
    });
  }

  /** How the peer is reached and how long it takes. */
  ping(name: string, options: PingOptions = {}): Promise<PingReport> {
    return ping(this.#plane, this.#clock, { name, address: this.resolve(name) }, options);
  }

  peerStatus(): PeerStatus[] {
    return peerStatusOf(this.#plane);
  }

  /** The peer that owns `address` as one of its own. */
  peerByAddress(address: string): Node | undefined {
    return this.#plane.nodeAt(address);
  }

  login(wish: { readonly authKey?: string; readonly isRenewal?: boolean } = {}): void {
    this.#control.login(wish);
  }

  /** Off the mesh until `resume`: nothing is sent or taken, and the keys stay good. */
  pause(): void {
    this.#control.pause();
  }

  resume(): void {
    this.#control.resume();
  }

  /** What we ask the server for: a name, visitors from the Internet. */
  tell(wish: Partial<OwnWish & FunnelWish>): void {
    this.#own.tell(wish);
  }

  /** Leaves the mesh for good: the server is told, and the keys that it knew are forgotten whatever it says. */
  async logout(): Promise<void> {
    await this.#control.logout();
    await this.#keys.forget();
    this.#plane.cut();
    this.#plane.setNodeKey(this.#keys.nodeKey.private);
    this.#map = undefined;
    this.#addresses = [];
    this.#own.setServer(undefined);
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#stopWatching();
    await Promise.all([this.#plane.close(), this.#control.close()]);
  }
}

/** States in which this node is no member, by the server's word or its owner's. */
const CUT_OFF: ReadonlySet<ControlState["kind"]> = new Set(["expired", "removed", "logged-out", "stopped"]);

const prefixesOf = (node: Node): Prefix[] => node.Addresses.flatMap((text) => parsePrefix(text) ?? []);
