import { lookup } from "node:dns/promises";
import { totalmem } from "node:os";
import type { Duplex } from "node:stream";
import { type AddressPort, formatAddressPort, type Prefix, parseAddress } from "../base/address.ts";
import { toHex } from "../base/bytes.ts";
import type { Clock } from "../base/clock.ts";
import type { Proof } from "../base/conn.ts";
import { drive, type Machine } from "../base/drive.ts";
import { Fault } from "../base/fault.ts";
import type { Log } from "../base/log.ts";
import type { UdpIo } from "../base/packet.ts";
import { PathTable } from "../base/path-table.ts";
import type { Random } from "../base/random.ts";
import type { Aead } from "../crypto/aead/aead.ts";
import { chooseAead } from "../crypto/aead/choose.ts";
import { publicKeyOf } from "../crypto/keys.ts";
import type { NetworkMap } from "../wire/network-map.ts";
import type { DerpMap, DerpRegion, FilterRule, NetInfo, Node } from "../wire/tailcfg.ts";
import { Datapath } from "./datapath.ts";
import { DerpClients } from "./derp/derp-clients.ts";
import { PacketFilter } from "./filter/filter.ts";
import { type LocalEndpoint, Paths } from "./paths/paths.ts";
import { PeerTable } from "./peer-table.ts";
import type { Keepalive } from "./tcpip/keepalive.ts";
import { DEFAULT_MEMORY_BYTES } from "./tcpip/memory.ts";
import { Netstack } from "./tcpip/netstack.ts";
import { TsmpService } from "./tsmp.ts";
import { openUdpIo, type UdpKind } from "./udp/udp-io.ts";
import { WayFinder } from "./way-finder.ts";
import { WireGuard } from "./wireguard/device.ts";

const MTU_BYTES = 1280;
/** Of the machine's memory, for TCP's buffers. */
const LARGEST_PART = 1 / 8;
const LOOK_AGAIN_MS = 60_000;

export interface DataPlaneOptions {
  /** Private keys. */
  readonly nodeKey: Uint8Array;
  readonly discoKey: Uint8Array;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** UDP port; 0 = any. */
  readonly port: number;
  /** Of TCP inside the tunnels. */
  readonly keepalive?: Keepalive;
  readonly tcpMemoryBytes?: number;
  /** Absent: the fastest way to speak UDP that works here. */
  readonly udp?: UdpKind;
  /** In place of the system's UDP. */
  readonly openUdp?: (table: PathTable) => Promise<UdpIo>;
  /** Opens the stream to a DERP region, up to the end of the HTTP upgrade. */
  readonly connectDerp?: (region: DerpRegion, signal: AbortSignal) => Promise<Duplex>;
  readonly derpMap: () => DerpMap;
  /** The server's time, by which keys expire. */
  readonly serverWall: () => number;
  /** Wall ms of the newest WireGuard timestamp that was ever sent, and each newer one. */
  readonly timestampFloor: number;
  readonly onTimestamp: (wall: number) => void;
  readonly onEndpoints: (endpoints: readonly LocalEndpoint[]) => void;
  readonly onNetInfo: (info: NetInfo) => void;
}

/** What is ours beside the server's map. */
export interface LocalSide {
  /** Our addresses. */
  readonly own: readonly Prefix[];
  /** Addresses that we answer on besides, and the rules that admit packets to them. */
  readonly served: readonly Prefix[];
  readonly rules: readonly FilterRule[];
  readonly isDerpMapNew: boolean;
}

/** Everything that moves packets, wired: socket, DERP, paths, WireGuard, filter, TCP/IP. It knows nothing of control. */
export class DataPlane {
  readonly table: PathTable;
  readonly filter: PacketFilter = new PacketFilter();
  readonly wireguard: WireGuard;
  readonly paths: Paths;
  readonly netstack: Netstack;
  readonly peers: PeerTable;
  readonly tsmp: TsmpService;
  readonly datapath: Datapath;
  /** Which of several implementations are at work. */
  readonly means: { readonly udp: UdpKind | "plugged"; readonly aead: string };
  readonly #options: DataPlaneOptions;
  readonly #udp: UdpIo;
  readonly #poll: () => void;
  readonly #ways: WayFinder;
  #nodeKey: Uint8Array;
  #derp: DerpClients;
  #home = 0;
  /** What the connections of now were admitted by. */
  #admitted: NetworkMap["packetFilter"] | undefined;
  #cancelExpiry: () => void = () => {};
  #isWakeQueued = false;
  #isClosed = false;

  private constructor(
    options: DataPlaneOptions,
    udp: UdpIo,
    table: PathTable,
    aead: Aead,
    udpKind: UdpKind | "plugged",
  ) {
    const { clock, random } = options;
    this.#options = options;
    this.#udp = udp;
    this.table = table;
    this.means = { udp: udpKind, aead: aead.name };
    this.#nodeKey = publicKeyOf(options.nodeKey);
    this.wireguard = new WireGuard({
      privateKey: options.nodeKey,
      random,
      wall: () => clock.wall(),
      aead,
      timestampFloor: options.timestampFloor,
      onTimestamp: options.onTimestamp,
      sourceOf: (path) => {
        const way = table.get(path);
        return way?.kind === "udp" ? parseAddress(way.address) : undefined;
      },
      send: (peer, path, datagram) => {
        if (path === undefined) this.#ways.send(peer, datagram, clock.now());
        else this.datapath.sendDatagram(path, datagram);
        this.wake();
      },
      onAuthenticated: (peer, path, now) => this.paths.authenticated(peer, path, now),
      onStray: (path, now) => {
        const peer = this.paths.ownerOf(path, now);
        if (peer >= 0) this.wireguard.meet(peer, now);
      },
    });
    const nodePublicKey = () => this.#nodeKey;
    this.paths = new Paths({
      discoPrivateKey: options.discoKey,
      get nodePublicKey() {
        return nodePublicKey(); // it may change while we run
      },
      random,
      table,
      resolve: resolveName,
      send: (path, datagram) => this.datapath.sendDatagram(path, datagram),
      onEndpoints: options.onEndpoints,
      onNetInfo: (info) => {
        if (info.PreferredDERP !== undefined) this.#setHome(info.PreferredDERP);
        options.onNetInfo(info);
      },
    });
    this.netstack = new Netstack({
      addresses: [],
      mtu: MTU_BYTES,
      random,
      now: () => clock.now(),
      output: (packet, peer, now) => this.datapath.output(packet, peer, now),
      tcpMemoryBytes: options.tcpMemoryBytes ?? Math.min(DEFAULT_MEMORY_BYTES, totalmem() * LARGEST_PART),
      ...(options.keepalive === undefined ? {} : { keepalive: options.keepalive }),
      proofOf: (peer, source, destination) => this.#proofOf(peer, source, destination),
      hasPeer: (remote) => this.datapath.routes(remote),
      wake: () => this.wake(),
    });
    this.tsmp = new TsmpService({ random, output: (packet, peer, now) => this.datapath.output(packet, peer, now) });
    this.filter.setOnReject((packet, peer, reason) => this.tsmp.reject(packet, peer, reason, clock.now()));
    this.#derp = this.#openDerp(options.nodeKey);
    this.datapath = new Datapath({
      table,
      udp,
      derpSend: (region, nodeKey, payload) => this.#derp.send(region, Buffer.from(nodeKey, "hex"), payload),
      paths: this.paths,
      wireguard: this.wireguard,
      filter: this.filter,
      tsmp: this.tsmp,
      netstack: this.netstack,
      now: () => clock.now(),
    });
    this.#ways = new WayFinder(this.paths, this.datapath);
    this.peers = new PeerTable({
      wireguard: this.wireguard,
      paths: this.paths,
      filter: this.filter,
      onRestarted: (index) => this.netstack.suspectPeer(index),
      onRemoved: (index) => {
        this.netstack.abortPeer(index, new Fault("MESH_PEER_GONE", "The peer has left the network map"));
        this.datapath.flush(); // its paths are forgotten next
      },
    });
    this.#poll = drive<never>(this.#machine(), clock, () => {});
    udp.start((batch, now) => {
      this.datapath.receive(batch, now);
      this.wake();
    });
  }

  static async open(options: DataPlaneOptions): Promise<DataPlane> {
    const { clock, port, udp, openUdp } = options;
    const table = new PathTable();
    const { io, kind } =
      openUdp === undefined
        ? await openUdpIo({ port, table, clock, ...(udp === undefined ? {} : { force: udp }) })
        : { io: await openUdp(table), kind: "plugged" as const };
    return new DataPlane(options, io, table, chooseAead(), kind);
  }

  get port(): number {
    return this.#udp.port;
  }

  /** Public, 32 bytes. */
  get nodeKey(): Uint8Array {
    return this.#nodeKey;
  }

  /** Our key was renewed: tunnels shake hands anew, relays are told. Connections inside the tunnels live on. */
  setNodeKey(privateKey: Uint8Array): void {
    this.#nodeKey = publicKeyOf(privateKey);
    this.wireguard.setPrivateKey(privateKey);
    this.#ways.forget(); // they were made with the old key
    this.#derp.close();
    this.#derp = this.#openDerp(privateKey);
    this.#derp.setHome(this.#home);
    this.wake();
  }

  /** Who is there and what they may send us. */
  setMap(map: NetworkMap, local: LocalSide): void {
    const own = local.own.map((prefix) => prefix.address);
    this.netstack.setAddresses([...own, ...local.served.map((prefix) => prefix.address)]);
    this.tsmp.setAddresses(own);
    const rules = [...map.packetFilter, ...local.rules];
    const capsOf = (peer: number) => this.peers.byIndex(peer)?.node.CapMap ?? {};
    this.filter.setRules(rules, [...local.own, ...local.served], capsOf);
    if (local.isDerpMapNew) this.paths.setDerpMap(map.derpMap, this.now());
    this.#applyPeers(map);
    if (map.packetFilter !== this.#admitted) {
      this.#admitted = map.packetFilter;
      const fault = new Fault("MESH_NOT_ADMITTED", "The network's policy admits this connection no more");
      this.netstack.abortUnless((...opened) => this.filter.admitsTcp(...opened), fault);
    }
    this.wake();
  }

  /** Peers whose key runs out are cut at that moment, without a word from the server. */
  #applyPeers(map: NetworkMap): void {
    const { clock, serverWall } = this.#options;
    this.#cancelExpiry();
    const wall = serverWall();
    const next = this.peers.apply(map, clock.now(), wall);
    this.netstack.abortLostDials();
    if (next === Infinity) return;
    const delay = Math.min(next - wall, LOOK_AGAIN_MS); // the wall clock may be set meanwhile
    this.#cancelExpiry = clock.at(clock.now() + delay, () => this.#applyPeers(map));
  }

  /** We are no member any more: every tunnel and connection ends. */
  cut(): void {
    this.#cancelExpiry();
    this.#ways.forget();
    this.peers.clear();
    this.netstack.abortLostDials();
    this.wake();
  }

  now(): number {
    return this.#options.clock.now();
  }

  setLocalAddresses(addresses: readonly string[]): void {
    this.paths.setLocalAddresses(addresses, this.#udp.port, this.#options.clock.now());
    this.wake();
  }

  /** The network under us changed, or the machine slept. */
  linkChanged(): void {
    this.paths.linkChanged(this.#options.clock.now());
    this.#derp.linkChanged();
    this.wake();
  }

  /** The peer that holds `address`, or -1. */
  peerFor(address: string): number {
    return this.datapath.peerFor(address);
  }

  /** The node that owns `address` as one of its own. */
  nodeAt(address: string): Node | undefined {
    return this.peers.byIndex(this.peerFor(address))?.node;
  }

  describePath(number: number): string {
    const path = this.table.get(number);
    if (path === undefined) return "unknown";
    return path.kind === "derp" ? `derp ${path.region}` : formatAddressPort(path);
  }

  /** The relays that we are connected to. */
  get derpRegions(): readonly number[] {
    return this.#derp.connected;
  }

  get homeRegion(): number {
    return this.#home;
  }

  /**
   * Facts were reported to the machines: look at their deadlines once all that this turn of the loop brings is in.
   * Answers of many backends then leave in one train.
   */
  wake(): void {
    if (this.#isWakeQueued || this.#isClosed) return;
    this.#isWakeQueued = true;
    setImmediate(() => {
      this.#isWakeQueued = false;
      if (this.#isClosed) return;
      if (this.#ways.isAwaited) this.#ways.retry((peer) => this.peers.byIndex(peer) !== undefined, this.now());
      this.#poll();
    });
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#cancelExpiry();
    this.netstack.close();
    this.#ways.forget();
    this.datapath.flush();
    this.wireguard.close();
    this.#derp.close();
    await this.#udp.close();
  }

  #setHome(region: number): void {
    this.#home = region;
    this.#derp.setHome(region);
  }

  #openDerp(nodePrivateKey: Uint8Array): DerpClients {
    const { clock, random, log, derpMap, connectDerp } = this.#options;
    const derp: DerpClients = new DerpClients({
      nodePrivateKey,
      random,
      clock,
      log: log.with("derp"),
      map: derpMap,
      onPacket: (region, sourceKey, payload) => {
        if (derp !== this.#derp) return; // a connection under the key that was replaced
        const path = this.table.intern({ kind: "derp", region, nodeKey: toHex(sourceKey) });
        this.datapath.receiveDerp(path, payload, clock.now());
        this.wake();
      },
      onAlive: (region) => this.paths.heardDerp(region, clock.now()),
      onConnected: () => this.wake(),
      ...(connectDerp === undefined ? {} : { connect: connectDerp }),
    });
    return derp;
  }

  /** All machines as one: they act through their own callbacks, so one poll does what is due and one flush sends it. */
  #machine(): Machine<never> {
    const { wireguard, paths, netstack, datapath } = this;
    const hasClosed = () => this.#isClosed;
    return {
      get deadline() {
        return hasClosed() ? Infinity : Math.min(wireguard.deadline, paths.deadline, netstack.deadline);
      },
      poll(now) {
        if (hasClosed()) return undefined;
        wireguard.poll(now);
        paths.poll(now);
        netstack.poll(now);
        datapath.flush();
        return undefined;
      },
    };
  }

  #proofOf(peer: number, source: AddressPort, destination: AddressPort): Proof {
    const nodeKey = this.peers.byIndex(peer)?.keyHex ?? "";
    return { kind: "mesh", nodeKey, source, destination };
  }
}

/** For STUN servers that the DERP map knows only by name. */
function resolveName(name: string, onAnswer: (addresses: readonly string[]) => void): void {
  lookup(name, { all: true }).then(
    (found) => onAnswer(found.map(({ address }) => address)),
    () => {}, // asked again with the next round
  );
}
