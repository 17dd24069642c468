import { networkInterfaces, hostname as systemHostname } from "node:os";
import type { Duplex } from "node:stream";
import { type AddressBytes, type AddressPort, parseAddress, parsePrefix } from "../base/address.ts";
import { toHex } from "../base/bytes.ts";
import { type Clock, systemClock } from "../base/clock.ts";
import type { Conn, Listener, Proof } from "../base/conn.ts";
import { drive } from "../base/drive.ts";
import { Fault } from "../base/fault.ts";
import { type Log, silentLog } from "../base/log.ts";
import type { UdpIo } from "../base/packet.ts";
import { PathTable } from "../base/path-table.ts";
import { type Random, systemRandom } from "../base/random.ts";
import type { Store } from "../base/store.ts";
import { chooseAead } from "../crypto/aead/choose.ts";
import { formatKey, generatePrivateKey, publicKeyOf } from "../crypto/keys.ts";
import type { NetworkMap } from "../wire/network-map.ts";
import type { DerpMap, DerpRegion, Hostinfo, MapResponse, NetInfo, Node } from "../wire/tailcfg.ts";
import { ControlClient, type ControlState } from "./control/control-client.ts";
import { Datapath } from "./datapath.ts";
import { DerpClients } from "./derp/derp-clients.ts";
import { MagicDns } from "./dns/magic-dns.ts";
import { PacketFilter } from "./filter/filter.ts";
import { Paths } from "./paths/paths.ts";
import { PeerTable } from "./peer-table.ts";
import { peerApiPort } from "./peerapi.ts";
import { type Identity, loadIdentity, saveIdentity, TIMESTAMP_RESERVE_MS } from "./state.ts";
import { Netstack } from "./tcpip/netstack.ts";
import { openDgramIo } from "./udp/dgram-io.ts";
import { WireGuard } from "./wireguard/device.ts";

const MTU_BYTES = 1280;
const PING_AGAIN_MS = 1000;
const HANDSHAKE_INITIATION = 1;

export interface MeshNodeOptions {
  /** URL of the coordination server. */
  readonly controlUrl: string;
  readonly authKey?: string;
  readonly hostname?: string;
  readonly store: Store;
  /** UDP port; 0 = any. @default 0 */
  readonly port?: number;
  readonly log?: Log;
  readonly clock?: Clock;
  readonly random?: Random;
  /** A person must open this URL to let the node in. */
  readonly onAuthUrl?: (url: string) => void;
  /** Opens the stream to the coordination server; the network of the test internet plugs in here. */
  readonly connect?: (url: URL, signal: AbortSignal) => Promise<Duplex>;
  /** The same for a DERP region, up to the end of the HTTP upgrade. */
  readonly connectDerp?: (region: DerpRegion, signal: AbortSignal) => Promise<Duplex>;
  readonly openUdp?: (table: PathTable) => Promise<UdpIo>;
  /** Addresses of this machine's interfaces, for direct paths. */
  readonly localAddresses?: () => readonly string[];
  readonly tags?: readonly string[];
}

export interface PeerStatus {
  readonly node: Node;
  readonly isDirect: boolean;
  /** `ip:port` of the direct path, or `derp <region>`. */
  readonly path: string | undefined;
  readonly rxBytes: number;
  readonly txBytes: number;
}

/** A node of a mesh in userspace: what `createNode` gives, seen from inside. */
export class MeshNode {
  readonly #options: MeshNodeOptions;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #random: Random;
  readonly #table: PathTable = new PathTable();
  readonly #discoKey: Uint8Array;
  readonly #backendLogId: string;
  readonly #filter: PacketFilter = new PacketFilter();
  readonly #dns: MagicDns = new MagicDns();
  readonly #mapListeners: Set<(map: NetworkMap) => void> = new Set();
  readonly #stateListeners: Set<(state: ControlState) => void> = new Set();
  readonly #wakers: (() => void)[] = [];
  #identity: Identity;
  #udp!: UdpIo;
  #wireguard!: WireGuard;
  #paths!: Paths;
  #netstack!: Netstack;
  #datapath!: Datapath;
  #peers!: PeerTable;
  #derp!: DerpClients;
  #control!: ControlClient;
  #map: NetworkMap | undefined;
  #state: ControlState = { kind: "connecting" };
  #endpoints: readonly { endpoint: string; type: number }[] = [];
  #netInfo: NetInfo = {};
  #peerApi: Listener | undefined;
  #onPeerApi: ((conn: Conn) => void) | undefined;
  #isClosed = false;

  private constructor(options: MeshNodeOptions, identity: Identity) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#log = options.log ?? silentLog;
    this.#random = options.random ?? systemRandom;
    this.#identity = identity;
    this.#discoKey = generatePrivateKey(this.#random);
    this.#backendLogId = toHex(this.#random(32));
  }

  static async open(options: MeshNodeOptions): Promise<MeshNode> {
    const node = new MeshNode(options, await loadIdentity(options.store, options.random ?? systemRandom));
    await node.#start();
    return node;
  }

  async #start(): Promise<void> {
    const { clock, table, random } = { clock: this.#clock, table: this.#table, random: this.#random };
    const openUdp = this.#options.openUdp ?? ((to) => openDgramIo({ port: this.#options.port ?? 0, table: to, clock }));
    this.#udp = await openUdp(table);
    const nodePublicKey = publicKeyOf(this.#identity.nodeKey);

    this.#wireguard = new WireGuard({
      privateKey: this.#identity.nodeKey,
      random,
      wall: () => clock.wall(),
      aead: await chooseAead(),
      timestampFloor: this.#identity.timestampFloor,
      onTimestamp: (wall) => this.#reserveTimestamps(wall),
      sourceOf: (path) => {
        const way = table.get(path);
        return way?.kind === "udp" ? parseAddress(way.address) : undefined;
      },
      send: (peer, path, datagram) => {
        if (path === undefined) this.#sendByBestPath(peer, datagram);
        else this.#datapath.sendDatagram(path, datagram);
        this.#wake();
      },
      onAuthenticated: (peer, path, now) => this.#paths.authenticated(peer, path, now),
    });
    this.#paths = new Paths({
      discoPrivateKey: this.#discoKey,
      nodePublicKey,
      random,
      table,
      send: (path, datagram) => this.#datapath.sendDatagram(path, datagram),
      onEndpoints: (endpoints) => {
        this.#endpoints = endpoints;
        this.#control?.update();
      },
      onNetInfo: (info) => {
        this.#netInfo = { ...this.#netInfo, ...info };
        if (info.PreferredDERP !== undefined) this.#derp.setHome(info.PreferredDERP);
        this.#control?.update();
      },
    });
    this.#netstack = new Netstack({
      addresses: [],
      mtu: MTU_BYTES,
      random,
      now: () => clock.now(),
      output: (packet, peer, now) => this.#datapath.output(packet, peer, now),
      proofOf: (peer, source, destination) => this.#proofOf(peer, source, destination),
      wake: () => this.#wake(),
    });
    this.#derp = new DerpClients({
      nodePrivateKey: this.#identity.nodeKey,
      random,
      clock,
      log: this.#log.with("derp"),
      map: () => this.#map?.derpMap ?? { Regions: {} },
      onPacket: (region, sourceKey, payload) => {
        const path = table.intern({ kind: "derp", region, nodeKey: toHex(sourceKey) });
        this.#datapath.receiveDerp(path, payload, clock.now());
        this.#wake();
      },
      onAlive: (region) => this.#paths.heardDerp(region, clock.now()),
      onConnected: () => this.#wake(),
      ...(this.#options.connectDerp === undefined ? {} : { connect: this.#options.connectDerp }),
    });
    this.#datapath = new Datapath(
      {
        table,
        udp: this.#udp,
        derpSend: (region, nodeKey, payload) => this.#derp.send(region, Buffer.from(nodeKey, "hex"), payload),
        paths: this.#paths,
        wireguard: this.#wireguard,
        filter: this.#filter,
        netstack: this.#netstack,
        now: () => clock.now(),
      },
      MTU_BYTES,
    );
    this.#peers = new PeerTable({
      wireguard: this.#wireguard,
      paths: this.#paths,
      onRemoved: (index) =>
        this.#netstack.abortPeer(index, new Fault("MESH_PEER_GONE", "The peer has left the network map")),
    });
    for (const machine of [this.#wireguard, this.#paths, this.#netstack]) this.#wakers.push(this.#drive(machine));
    this.#udp.start((batch, now) => {
      this.#datapath.receive(batch, now);
      this.#wake();
    });
    this.#control = new ControlClient({
      serverUrl: this.#options.controlUrl,
      machineKey: this.#identity.machineKey,
      clock,
      random,
      log: this.#log.with("control"),
      ...(this.#options.connect === undefined ? {} : { connect: this.#options.connect }),
      ...(this.#options.authKey === undefined ? {} : { authKey: this.#options.authKey }),
      hostinfo: () => this.#hostinfo(),
      nodeKey: () => ({
        private: this.#identity.nodeKey,
        ...(this.#identity.oldNodeKey === undefined ? {} : { old: this.#identity.oldNodeKey }),
      }),
      rotateNodeKey: () => this.#rotateNodeKey(),
      discoKey: publicKeyOf(this.#discoKey),
      endpoints: () => this.#endpoints,
      onAuthUrl: (url) => this.#options.onAuthUrl?.(url),
      onMap: (map, response) => this.#applyMap(map, response),
      onState: (state) => {
        this.#state = state;
        for (const listener of this.#stateListeners) listener(state);
      },
    });
    this.#paths.setLocalAddresses((this.#options.localAddresses ?? interfaceAddresses)(), this.#udp.port, clock.now());
    this.#control.start();
    this.#wake();
  }

  #drive(machine: { readonly deadline: number; poll(now: number): void }): () => void {
    // These machines act through their own callbacks, so one poll does all that is due.
    return drive<never>(
      {
        get deadline() {
          return machine.deadline;
        },
        poll: (now) => {
          machine.poll(now);
          this.#datapath.flush();
          return undefined;
        },
      },
      this.#clock,
      () => {},
    );
  }

  readonly #pathless: Map<number, Uint8Array> = new Map();
  #isWakeQueued = false;
  /** Facts were reported to the machines: look at their deadlines once this task is over. */
  #wake(): void {
    if (this.#isWakeQueued || this.#isClosed) return;
    this.#isWakeQueued = true;
    queueMicrotask(() => {
      this.#isWakeQueued = false;
      if (this.#isClosed) return;
      if (this.#pathless.size > 0) this.#retryPathless();
      for (const waker of this.#wakers) waker();
    });
  }

  /** A first handshake may be due before any path is known: it waits for one instead of for WireGuard's 5 s. */
  #sendByBestPath(peer: number, datagram: Uint8Array): void {
    const now = this.#clock.now();
    this.#paths.sent(peer, now);
    const best = this.#paths.best(peer, now);
    if (best < 0) {
      if (datagram[0] === HANDSHAKE_INITIATION) this.#pathless.set(peer, datagram.slice());
      return;
    }
    this.#pathless.delete(peer);
    this.#datapath.sendDatagram(best, datagram);
    const second = this.#paths.second(peer, now);
    if (second >= 0) this.#datapath.sendDatagram(second, datagram);
  }

  #retryPathless(): void {
    for (const [peer, datagram] of this.#pathless) {
      if (this.#peers.byIndex(peer) === undefined) this.#pathless.delete(peer);
      else if (this.#paths.best(peer, this.#clock.now()) >= 0) this.#sendByBestPath(peer, datagram);
    }
  }

  #applyMap(map: NetworkMap, response: MapResponse): void {
    const now = this.#clock.now();
    const isFirst = this.#map === undefined;
    this.#map = map;
    const own = map.self.Addresses.map((text) => parsePrefix(text)).filter((prefix) => prefix !== undefined);
    this.#netstack.setAddresses(own.map((prefix) => prefix.address));
    this.#filter.setRules(map.packetFilter, own, (peer) => this.#peers.byIndex(peer)?.node.CapMap ?? {});
    this.#dns.setMap(map);
    if (isFirst || response.DERPMap) this.#paths.setDerpMap(map.derpMap as DerpMap, now);
    this.#peers.apply(map, now);
    this.#listenPeerApi(own.map((prefix) => prefix.address));
    this.#wake();
    for (const listener of this.#mapListeners) listener(map);
  }

  #proofOf(peer: number, source: AddressPort, destination: AddressPort): Proof {
    const nodeKey = this.#peers.byIndex(peer)?.keyHex ?? "";
    return { kind: "mesh", nodeKey, source, destination };
  }

  #hostinfo(): Hostinfo {
    const own = this.#onPeerApi === undefined ? [] : this.#ownAddresses();
    const services = own.map((address) => ({
      Proto: address.length === 4 ? "peerapi4" : "peerapi6",
      Port: peerApiPort(address),
    }));
    return {
      IPNVersion: "1.80.0-sallyport",
      BackendLogID: this.#backendLogId,
      OS: process.platform === "darwin" ? "macOS" : process.platform,
      Hostname: this.#options.hostname ?? systemHostname(),
      GoArch: process.arch === "x64" ? "amd64" : process.arch,
      ...(this.#options.tags === undefined ? {} : { RequestTags: this.#options.tags }),
      Services: services,
      NetInfo: this.#netInfo,
      Userspace: true,
      App: "sallyport",
    };
  }

  #ownAddresses(): AddressBytes[] {
    return (this.#map?.self.Addresses ?? [])
      .map((text) => parsePrefix(text)?.address)
      .filter((address) => address !== undefined);
  }

  async #rotateNodeKey(): Promise<void> {
    const { machineKey, nodeKey, timestampFloor } = this.#identity;
    this.#identity = { machineKey, nodeKey: generatePrivateKey(this.#random), oldNodeKey: nodeKey, timestampFloor };
    await saveIdentity(this.#options.store, this.#identity);
  }

  #reserveTimestamps(wall: number): void {
    if (wall < this.#identity.timestampFloor) return;
    this.#identity = { ...this.#identity, timestampFloor: wall + TIMESTAMP_RESERVE_MS };
    saveIdentity(this.#options.store, this.#identity).catch((error: unknown) =>
      this.#log.error("state.unsaved", { error }),
    );
  }

  #listenPeerApi(addresses: readonly AddressBytes[]): void {
    const port = addresses[0] === undefined ? 0 : peerApiPort(addresses[0]);
    if (port === this.#peerApi?.port || this.#onPeerApi === undefined) return;
    this.#peerApi?.close();
    this.#peerApi = port === 0 ? undefined : this.#netstack.listenTcp(port, this.#onPeerApi);
    this.#filter.setPeerApi(addresses, port);
    this.#datapath.peerApiPort = port;
    this.#control.update();
  }

  /** Serves connections to our peerapi. */
  set onPeerApi(accept: (conn: Conn) => void) {
    this.#onPeerApi = accept;
    this.#listenPeerApi(this.#ownAddresses());
  }

  get map(): NetworkMap | undefined {
    return this.#map;
  }

  get state(): ControlState {
    return this.#state;
  }

  /** 32 bytes, hex. */
  get nodeKey(): string {
    return toHex(publicKeyOf(this.#identity.nodeKey));
  }

  get nodeKeyText(): string {
    return formatKey("nodekey", publicKeyOf(this.#identity.nodeKey));
  }

  get filterEpoch(): number {
    return this.#filter.epoch;
  }

  /** Our mesh addresses as text, IPv4 first. */
  get addresses(): readonly string[] {
    return (this.#map?.self.Addresses ?? []).map((text) => text.split("/")[0]!);
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
  async ready(signal?: AbortSignal): Promise<NetworkMap> {
    if (this.#map !== undefined) return this.#map;
    const { promise, resolve, reject } = Promise.withResolvers<NetworkMap>();
    const stop = this.onMap(resolve);
    const giveUp = () => reject(new Fault("MESH_NOT_JOINED", "Cannot join the mesh: ended before a network map came"));
    signal?.addEventListener("abort", giveUp, { once: true });
    try {
      return await promise;
    } finally {
      stop();
      signal?.removeEventListener("abort", giveUp);
    }
  }

  listen(port: number, accept: (conn: Conn) => void): Listener {
    return this.#netstack.listenTcp(port, accept);
  }

  /** Decides about ports that nothing listens on; `undefined` = refuse. */
  set onSyn(decide: (
    destination: AddressPort,
    source: AddressPort,
    peer: number,
  ) => ((conn: Conn) => void) | undefined,) {
    this.#netstack.onTcpSyn = decide;
  }

  /** Opens a TCP connection over the mesh; `address` may be a MagicDNS name. */
  async dial(target: AddressPort, options: { readonly signal?: AbortSignal } = {}): Promise<Conn> {
    const address = this.resolve(target.address);
    if (this.#datapath.peerFor(address) < 0) {
      throw new Fault("MESH_NO_PEER", `Cannot dial "${target.address}": no peer of this mesh has address ${address}`);
    }
    return this.#netstack.dialTcp({ address, port: target.port }, options);
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

  /** Disco ping: how the peer is reached and how long it takes. */
  async ping(
    name: string,
    options: { readonly timeoutMs?: number } = {},
  ): Promise<{ path: string; latencyMs: number }> {
    const peer = this.#datapath.peerFor(this.resolve(name));
    if (peer < 0) throw new Fault("MESH_NO_PEER", `Cannot ping "${name}": it is no peer of this mesh`);
    const { promise, resolve, reject } = Promise.withResolvers<{ path: string; latencyMs: number }>();
    const end = this.#clock.now() + (options.timeoutMs ?? 5000);
    let cancel = () => {};
    const attempt = () => {
      const now = this.#clock.now();
      if (now >= end) {
        reject(new Fault("MESH_PING_TIMEOUT", `Cannot ping "${name}": no answer in time`));
        return;
      }
      this.#paths.ping(peer, now, ({ path, latencyMs }) => resolve({ path: this.#describePath(path), latencyMs }));
      this.#wake();
      cancel = this.#clock.at(Math.min(end, now + PING_AGAIN_MS), attempt); // a ping or its answer may get lost
    };
    attempt();
    try {
      return await promise;
    } finally {
      cancel();
    }
  }

  #describePath(number: number): string {
    const path = this.#table.get(number);
    if (path === undefined) return "unknown";
    if (path.kind === "derp") return `derp ${path.region}`;
    return path.address.includes(":") ? `[${path.address}]:${path.port}` : `${path.address}:${path.port}`;
  }

  peerStatus(): PeerStatus[] {
    return [...this.#peers.all].map(({ index, node }) => {
      const statistics = this.#wireguard.statistics(index);
      const best = this.#paths.best(index, this.#clock.now());
      return {
        node,
        isDirect: this.#table.get(best)?.kind === "udp",
        path: best < 0 ? undefined : this.#describePath(best),
        rxBytes: statistics?.rxBytes ?? 0,
        txBytes: statistics?.txBytes ?? 0,
      };
    });
  }

  /** The peer that owns `address` as one of its own. */
  peerByAddress(address: string): Node | undefined {
    return this.#peers.byIndex(this.#datapath.peerFor(address))?.node;
  }

  login(options: { readonly authKey?: string } = {}): void {
    this.#control.login(options);
  }

  async logout(): Promise<void> {
    await this.#control.logout();
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#netstack.close();
    this.#pathless.clear();
    this.#datapath.flush();
    await this.#control.close();
    await this.#derp.close();
    await this.#udp.close();
  }
}

/** This machine's own addresses, without loopback unless that is all there is. */
export function interfaceAddresses(): readonly string[] {
  const all = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  const usable = all.filter(({ address }) => !address.startsWith("fe80:"));
  const outside = usable.filter(({ internal }) => !internal);
  return (outside.length > 0 ? outside : usable).map(({ address }) => address);
}
