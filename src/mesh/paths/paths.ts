import { formatAddressPort } from "../../base/address.ts";
import { toHex } from "../../base/bytes.ts";
import { PACKET, type PacketBatch, STRIDE } from "../../base/packet.ts";
import type { Path, PathTable } from "../../base/path-table.ts";
import type { Random } from "../../base/random.ts";
import { BOX_NONCE_BYTES, boxKey, openBox, sealBox } from "../../crypto/box.ts";
import { publicKeyOf } from "../../crypto/keys.ts";
import {
  type DiscoMessage,
  decodeDiscoFrame,
  decodeDiscoMessage,
  encodeDiscoFrame,
  encodeDiscoMessage,
  looksLikeDisco,
  looksLikeGeneve,
} from "../../wire/disco.ts";
import { looksLikeStunAnswer } from "../../wire/stun.ts";
import type { DerpMap, NetInfo } from "../../wire/tailcfg.ts";
import { HomeChoice } from "./home.ts";
import { KnownPeers } from "./known-peers.ts";
import { Netcheck, type NetcheckReport, netInfoOf } from "./netcheck.ts";
import { type LocalEndpoint, OwnEndpoints } from "./own-endpoints.ts";
import { type PathsPeer, PeerPaths } from "./peer-paths.ts";
import { type OnPong, PING_TIMEOUT_MS, SentPings } from "./sent-pings.ts";

export type { LocalEndpoint } from "./own-endpoints.ts";
export type { PathsPeer } from "./peer-paths.ts";
export type { OnPong } from "./sent-pings.ts";

export interface PathsOptions {
  readonly discoPrivateKey: Uint8Array;
  readonly nodePublicKey: Uint8Array;
  readonly random: Random;
  readonly table: PathTable;
  /** `path` is a UDP address or a DERP path; the view is dead on return. */
  readonly send: (path: number, datagram: Uint8Array) => void;
  /** Our addresses changed; tell control. */
  readonly onEndpoints: (endpoints: readonly LocalEndpoint[]) => void;
  /** Home region or latencies changed; tell control. */
  readonly onNetInfo: (info: NetInfo) => void;
  /** Addresses of a STUN server that the DERP map knows only by name. */
  readonly resolve?: (hostName: string, onAnswer: (addresses: readonly string[]) => void) => void;
  /** Demo and tests: peers on this very host. Otherwise only where neither side has another address. */
  readonly allowLoopback?: boolean;
}

const TX_BYTES = 12;
const FULL_CHECK_MS = 300_000;
const ACTIVE_CHECK_MS = { least: 20_000, most: 26_000 } as const;
const CHECK_AFTER_CHANGE_MS = 50;

/**
 * Finds and keeps ways to peers: disco, STUN, choice of the home region. Upstream `wgengine/magicsock`, without peer
 * relays and MTU probes. Takes what is not WireGuard out of a batch.
 */
export class Paths {
  readonly #options: PathsOptions;
  readonly #discoPublicKey: Uint8Array;
  readonly #peers: KnownPeers = new KnownPeers();
  readonly #pings: SentPings = new SentPings();
  /** Peers that need `poll`. */
  readonly #awake: Set<PeerPaths> = new Set();
  readonly #waitingForEndpoints: Set<PeerPaths> = new Set();
  readonly #netcheck: Netcheck;
  readonly #home: HomeChoice = new HomeChoice();
  readonly #own: OwnEndpoints = new OwnEndpoints();
  #map: DerpMap | undefined;
  #netInfo = "";
  #nextCheck: number = Infinity;
  /** Never later than the next thing to do; may be earlier. */
  #wakeAt: number = Infinity;

  constructor(options: PathsOptions) {
    this.#options = options;
    this.#discoPublicKey = publicKeyOf(options.discoPrivateKey);
    this.#netcheck = new Netcheck(options);
  }

  /** 0 = none yet. */
  get homeRegion(): number {
    return this.#home.region;
  }

  /** What we announce now, best first. */
  get endpoints(): readonly LocalEndpoint[] {
    return this.#own.list;
  }

  get deadline(): number {
    return this.#wakeAt;
  }

  setPeer(peer: PathsPeer, now: number): void {
    const known = this.#peers.get(peer.index);
    if (known?.matches(peer) === true) {
      known.update(peer, this.#own, this.#options.allowLoopback === true);
      this.#wake(known, now);
      return;
    }
    this.removePeer(peer.index); // another node or another disco key: nothing learned holds any more
    const usable = peer.discoKey?.length === 32 ? boxKey(this.#options.discoPrivateKey, peer.discoKey) : undefined;
    const added = new PeerPaths(peer, usable, this.#options.table);
    added.update(peer, this.#own, this.#options.allowLoopback === true);
    this.#peers.add(added);
  }

  removePeer(index: number): void {
    const peer = this.#peers.remove(index);
    if (peer === undefined) return;
    this.#awake.delete(peer);
    this.#waitingForEndpoints.delete(peer);
    this.#pings.forget(peer);
  }

  /** `Regions` or `HomeParams` null or absent = unchanged. */
  setDerpMap(map: DerpMap, now: number): void {
    this.#map = {
      ...map,
      Regions: map.Regions ?? this.#map?.Regions ?? null,
      HomeParams: map.HomeParams ?? this.#map?.HomeParams ?? null,
    };
    if (this.#home.chooseOnly(this.#map)) this.#options.onNetInfo({ PreferredDERP: this.#home.region });
    this.#netcheck.forget();
    this.#checkSoon(now, 0);
  }

  /** `addresses` of the interfaces, `port` of the UDP socket. A change is a new network: nothing is trusted any more. */
  setLocalAddresses(addresses: readonly string[], port: number, now: number): void {
    const isFirst = this.#own.port === 0;
    if (!this.#own.setLocal(addresses, port, this.#options.allowLoopback === true)) return;
    this.#options.onEndpoints(this.#own.list);
    if (!isFirst) this.linkChanged(now);
    else this.#checkSoon(now, 0);
  }

  /** The network under us changed (or woke up): all trust is void, and our addresses are asked anew. */
  linkChanged(now: number): void {
    for (const peer of this.#peers.all) {
      peer.distrust();
      if (peer.isActive(now)) this.#discover(peer, now);
    }
    this.#netcheck.forget();
    this.#checkSoon(now, CHECK_AFTER_CHANGE_MS);
  }

  /** Takes STUN answers, disco and relay datagrams out of the batch, from UDP and from DERP alike. */
  input(batch: PacketBatch, now: number): void {
    const { slab, at } = batch;
    let kept = 0;
    for (let i = 0; i < batch.count; i++) {
      const from = i * STRIDE;
      const offset = at[from + PACKET.offset]!;
      const length = at[from + PACKET.length]!;
      const path = at[from + PACKET.path]!;
      if (looksLikeDisco(slab, offset, length)) {
        this.#disco(slab.subarray(offset, offset + length), path, now);
      } else if (looksLikeStunAnswer(slab, offset, length)) {
        this.#netcheck.answered(slab.subarray(offset, offset + length), path, now);
        this.#wakeBy(this.#netcheck.deadline);
      } else if (!looksLikeGeneve(slab, offset, length)) {
        if (kept !== i) at.copyWithin(kept * STRIDE, from, from + STRIDE);
        kept++;
      }
    }
    batch.count = kept;
  }

  /** Where to send WireGuard data: a trusted direct way, else the way through DERP; -1 = none. */
  best(index: number, now: number): number {
    return this.#peers.get(index)?.bestPath(now) ?? -1;
  }

  /**
   * While a direct way is known but not trusted, data goes both ways and the receiver's replay window drops the copy.
   * -1 = only `best`.
   */
  second(index: number, now: number): number {
    return this.#peers.get(index)?.secondPath(now) ?? -1;
  }

  /** We send data to the peer: starts discovery, or keeps it going. */
  sent(index: number, now: number): void {
    const peer = this.#peers.get(index);
    if (peer === undefined) return;
    const doubted = peer.sent(now);
    if (!peer.hasDisco) return;
    if (doubted >= 0) this.#sendPing(peer, doubted, now, undefined);
    if (peer.heartbeatAt === Infinity) this.#armHeartbeat(peer, now);
    if (!peer.isTrusted(now)) this.#discover(peer, now);
  }

  /** WireGuard authenticated a packet from `path`. For peers without disco that is how they roam. */
  authenticated(index: number, path: number, now: number): void {
    const peer = this.#peers.get(index);
    const way = this.#options.table.get(path);
    if (peer === undefined || way === undefined) return;
    peer.heardFrom(way, path, now);
    if (way.kind === "derp") this.#home.heard(way.region, now);
  }

  /** The peer whose way `path` is, as far as that can be told without a proof; -1 = nobody's that we know. */
  ownerOf(path: number, now: number): number {
    const way = this.#options.table.get(path);
    return way === undefined ? -1 : (this.#peers.ownerOf(way, now)?.index ?? -1);
  }

  /** A frame of any kind came from the DERP server of `region`. */
  heardDerp(region: number, now: number): void {
    this.#home.heard(region, now);
  }

  /** CLI ping: over DERP while there is no trusted direct way, and on every candidate at once. */
  ping(index: number, now: number, onPong: OnPong): void {
    const peer = this.#peers.get(index);
    if (peer === undefined || !peer.hasDisco) return;
    peer.lastSentAt = now;
    const derp = peer.derpPath();
    if (!peer.isTrusted(now) && derp >= 0) this.#sendPing(peer, derp, now, onPong);
    if (peer.isTrusted(now)) {
      this.#sendPing(peer, peer.bestPath(now), now, onPong);
    } else {
      for (const candidate of peer.candidates) this.#sendPing(peer, peer.pathOf(candidate), now, onPong);
      this.#callMeMaybe(peer, now);
    }
    if (peer.heartbeatAt === Infinity) this.#armHeartbeat(peer, now);
  }

  poll(now: number): void {
    if (now < this.#wakeAt) return;
    for (const ping of this.#pings.takeTimedOut(now)) ping.peer.pingTimedOut(ping.to, now);
    for (const peer of this.#awake) this.#pollPeer(peer, now);
    if (now >= this.#nextCheck && !this.#netcheck.isRunning) {
      this.#nextCheck = Infinity;
      this.#netcheck.start(this.#map, this.#home.region, now);
    }
    const report = this.#netcheck.poll(now);
    if (report !== undefined) this.#checked(report, now);
    this.#wakeAt = this.#earliest();
  }

  #earliest(): number {
    let earliest = Math.min(this.#nextCheck, this.#netcheck.deadline, this.#pings.deadline);
    for (const peer of this.#awake) earliest = Math.min(earliest, peer.deadline);
    return earliest;
  }

  #pollPeer(peer: PeerPaths, now: number): void {
    if (now >= peer.heartbeatAt) this.#heartbeat(peer, now);
    for (let next = peer.nextProbe(now); next !== undefined; next = peer.nextProbe(now)) {
      this.#sendPing(peer, peer.pathOf(next), now, undefined);
    }
    if (peer.deadline === Infinity) this.#awake.delete(peer);
  }

  #wake(peer: PeerPaths, now: number): void {
    this.#awake.add(peer);
    this.#wakeBy(Math.max(now, peer.deadline));
  }

  #wakeBy(at: number): void {
    if (at < this.#wakeAt) this.#wakeAt = at;
  }

  #armHeartbeat(peer: PeerPaths, now: number): void {
    peer.armHeartbeat(now);
    this.#wake(peer, now);
    if (this.#nextCheck > now + ACTIVE_CHECK_MS.most) this.#checkSoon(now, this.#jitter());
  }

  #heartbeat(peer: PeerPaths, now: number): void {
    peer.forgetStale(now);
    if (!peer.isActive(now)) {
      peer.heartbeatAt = Infinity;
      return;
    }
    const path = peer.directPath();
    if (path >= 0) this.#sendPing(peer, path, now, undefined);
    if (peer.wantsFullPing(now)) this.#discover(peer, now);
    peer.armHeartbeat(now);
  }

  /** Pings every candidate in turn, and asks the peer through DERP to do the same: that opens NATs on both sides. */
  #discover(peer: PeerPaths, now: number): void {
    const isAny = peer.probeAll(now);
    if (isAny || peer.candidates.length === 0) this.#callMeMaybe(peer, now);
    this.#wake(peer, now);
  }

  #callMeMaybe(peer: PeerPaths, now: number): void {
    if (peer.derpPath() < 0 || !peer.hasDisco || now < peer.callMeMaybeAfter) return;
    if (!this.#own.isFresh(now) && this.#map !== undefined) {
      this.#waitingForEndpoints.add(peer);
      this.#checkSoon(now, 0);
      return;
    }
    peer.sentCallMeMaybe(now);
    const endpoints = this.#own.list.flatMap(({ endpoint }) => this.#own.parsed(endpoint));
    this.#send(peer, peer.derpPath(), { kind: "callMeMaybe", endpoints });
  }

  #sendPing(peer: PeerPaths, path: number, now: number, onPong: OnPong | undefined): void {
    const to = this.#options.table.get(path);
    if (to === undefined) return;
    const tx = this.#options.random(TX_BYTES);
    this.#pings.add(tx, { peer, path, to, sentAt: now, onPong });
    this.#wakeBy(now + PING_TIMEOUT_MS);
    this.#send(peer, path, { kind: "ping", tx, nodeKey: this.#options.nodePublicKey });
  }

  #send(peer: PeerPaths, path: number, message: DiscoMessage): void {
    if (peer.boxKey === undefined) return;
    const nonce = this.#options.random(BOX_NONCE_BYTES);
    const box = sealBox(peer.boxKey, nonce, encodeDiscoMessage(message));
    this.#options.send(path, encodeDiscoFrame({ senderKey: this.#discoPublicKey, nonce, box }));
  }

  #disco(datagram: Uint8Array, path: number, now: number): void {
    const way = this.#options.table.get(path);
    const frame = decodeDiscoFrame(datagram);
    if (way === undefined || frame === undefined) return;
    const sharing = this.#peers.sharing(frame.senderKey);
    const [first] = sharing;
    if (first?.boxKey === undefined) return; // not a peer of ours: no answer
    const plain = openBox(first.boxKey, frame.nonce, frame.box);
    const message = plain === undefined ? undefined : decodeDiscoMessage(plain);
    if (message === undefined) return;
    const peer = this.#peers.senderOf(sharing, way, message);
    if (message.kind === "pong") {
      this.#pong(sharing, message.tx, way, now);
      return;
    }
    if (peer === undefined) return;
    if (way.kind === "derp") {
      peer.heardFrom(way, path, now);
      this.#home.heard(way.region, now);
    }
    if (message.kind === "ping") {
      const source = way.kind === "udp" ? way : { address: "127.3.3.40", port: way.region };
      this.#send(peer, path, { kind: "pong", tx: message.tx, source: { address: source.address, port: source.port } });
      if (way.kind === "udp" && peer.pingedFrom(formatAddressPort(way), toHex(message.tx), this.#own, now)) {
        this.#wake(peer, now);
      }
    } else if (way.kind === "derp") {
      // Over UDP it would let anybody who can replay it start our pings.
      peer.calledMe(message.endpoints.map(formatAddressPort), this.#own, this.#options.allowLoopback === true, now);
      this.#wake(peer, now);
    }
  }

  #pong(sharing: ReadonlySet<PeerPaths>, tx: Uint8Array, way: Path, now: number): void {
    const ping = this.#pings.take(tx, sharing, way, now);
    if (ping === undefined) return;
    const latencyMs = now - ping.sentAt;
    if (ping.to.kind === "udp") ping.peer.pongFrom(formatAddressPort(ping.to), latencyMs, now);
    ping.onPong?.({ path: ping.path, latencyMs });
  }

  #checkSoon(now: number, delayMs: number): void {
    this.#nextCheck = Math.min(this.#nextCheck, now + delayMs);
    this.#wakeBy(this.#nextCheck);
  }

  #jitter(): number {
    const { least, most } = ACTIVE_CHECK_MS;
    const [high = 0, low = 0] = this.#options.random(2);
    return least + ((most - least) * (high * 256 + low)) / 65_536;
  }

  #checked(report: NetcheckReport, now: number): void {
    const isActive = [...this.#awake].some((peer) => peer.isActive(now));
    this.#checkSoon(now, isActive ? this.#jitter() : FULL_CHECK_MS);
    const hasChanged = this.#own.learned(report.seenV4, report.seenV6, now);
    if (hasChanged) this.#options.onEndpoints(this.#own.list);
    const anyRegion = new DataView(this.#options.nodePublicKey.slice(0, 4).buffer).getUint32(0);
    const home = this.#home.choose(report, this.#map, anyRegion, now);
    this.#announce(report, home);
    const waiting = [...this.#waitingForEndpoints];
    this.#waitingForEndpoints.clear();
    for (const peer of waiting) this.#callMeMaybe(peer, now);
  }

  /** NetInfo goes out when something in it changed that peers or operators act on; latencies alone wander. */
  #announce(report: NetcheckReport, home: number): void {
    const info = netInfoOf(report, home, this.#own.hasIpv6);
    const gist = JSON.stringify({ ...info, DERPLatency: Object.keys(info.DERPLatency ?? {}).sort() });
    if (gist === this.#netInfo) return;
    this.#netInfo = gist;
    this.#options.onNetInfo(info);
  }
}
