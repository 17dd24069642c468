import { equalBytes, toHex } from "../../base/bytes.ts";
import { Fault } from "../../base/fault.ts";
import { PACKET, type PacketBatch, STRIDE } from "../../base/packet.ts";
import type { Random } from "../../base/random.ts";
import type { Aead } from "../../crypto/aead/aead.ts";
import { generatePrivateKey, publicKeyOf, readyPrivateKey, sharedSecret } from "../../crypto/keys.ts";
import {
  COOKIE_REPLY,
  DATA,
  encodeTimestamp,
  INITIATION,
  MESSAGE,
  messageType,
  RESPONSE,
  readU32,
} from "../../wire/wireguard.ts";
import { AllowedIps } from "./allowed-ips.ts";
import { CookieGuard } from "./cookie.ts";
import {
  createInitiation,
  createResponse,
  isLater,
  type KeyPair,
  openInitiation,
  openResponse,
  openTimestamp,
} from "./handshake.ts";
import { innerLength, sourceAt } from "./inner-packet.ts";
import { LoadMeter, RateLimiter } from "./load.ts";
import { PeerState, type WireGuardPeer } from "./peer.ts";
import { REJECT_AFTER_MS, Session } from "./session.ts";

export type { WireGuardPeer } from "./peer.ts";

// WireGuard paper section 6 and wireguard-go device/constants.go.
const REKEY_AFTER_MS = 120_000;
const REKEY_TIMEOUT_MS = 5_000;
const KEEPALIVE_MS = 10_000;
const NEW_HANDSHAKE_MS = KEEPALIVE_MS + REKEY_TIMEOUT_MS;
const LAST_MINUTE_MS = REJECT_AFTER_MS - KEEPALIVE_MS - REKEY_TIMEOUT_MS;
const ERASE_AFTER_MS = 3 * REJECT_AFTER_MS;
const MOST_ATTEMPTS = 18;
const MOST_JITTER_MS = 334;
const INITIATION_SPACING_MS = 20;
const DEFAULT_MTU = 1280;
const EMPTY = new Uint8Array(0);

export interface WireGuardOptions {
  readonly privateKey: Uint8Array;
  readonly random: Random;
  readonly wall: () => number;
  readonly aead: Aead;
  /** Inner packets are not padded beyond it. */
  readonly mtu?: number;
  /** The newest wall time (ms) ever sent in an initiation: ours are greater, so peers do not take them for replays. */
  readonly timestampFloor?: number;
  readonly onTimestamp?: (wallMs: number) => void;
  /**
   * Sends a datagram: on the peer's current path, or back along `path`. `peer` is -1 for a cookie reply, whose receiver
   * is not known yet. The view is dead on return; the callee must not
   * call into this object.
   */
  readonly send: (peer: number, path: number | undefined, datagram: Uint8Array) => void;
  /** A packet that came by `path` is proven to be from `peer`. */
  readonly onAuthenticated?: (peer: number, path: number, now: number) => void;
  /** Data came by `path` for a session that we do not have: who sent it may not know that we started anew. */
  readonly onStray?: (path: number, now: number) => void;
  /** Address bytes of a path without its port, to bind cookies and limits to; by default the path's number is taken. */
  readonly sourceOf?: (path: number) => Uint8Array | undefined;
}

/** What was thrown away, by reason. */
export interface Drops {
  malformed: number;
  unknownIndex: number;
  expired: number;
  forged: number;
  replayed: number;
  wrongSource: number;
  badHandshake: number;
  underLoad: number;
}

export interface WireGuardStatistics {
  /** Wall ms. */
  readonly lastHandshakeWall: number | undefined;
  readonly rxBytes: number;
  readonly txBytes: number;
  readonly hasSession: boolean;
  readonly staged: number;
}

/** One WireGuard interface: both roles, all its peers, no socket and no timer of its own. */
export class WireGuard {
  readonly drops: Drops = {
    malformed: 0,
    unknownIndex: 0,
    expired: 0,
    forged: 0,
    replayed: 0,
    wrongSource: 0,
    badHandshake: 0,
    underLoad: 0,
  };

  readonly #options: WireGuardOptions;
  #self: KeyPair;
  readonly #mtu: number;
  #guard: CookieGuard;
  readonly #load: LoadMeter = new LoadMeter();
  readonly #limiter: RateLimiter = new RateLimiter();
  readonly #allowed: AllowedIps = new AllowedIps();
  readonly #peers: (PeerState | undefined)[] = [];
  readonly #byKey: Map<string, PeerState> = new Map();
  /** By our index: the peer with that pending initiation, or the session. */
  readonly #byIndex: Map<number, PeerState | Session> = new Map();
  readonly #scratch: Uint8Array = new Uint8Array(65_536 + DATA.smallest);
  #latestStamp: number;
  #deadline = Infinity;
  /** Only for calls that are told no time. */
  #lastNow = 0;

  constructor(options: WireGuardOptions) {
    this.#options = options;
    this.#self = keyPairOf(options.privateKey);
    this.#mtu = options.mtu ?? DEFAULT_MTU;
    this.#guard = new CookieGuard(this.#self.publicKey, options.random);
    this.#latestStamp = options.timestampFloor ?? -Infinity;
  }

  /** Another key of ours: every session ends, peers keep their numbers and shake hands anew. */
  setPrivateKey(key: Uint8Array): void {
    this.#self = keyPairOf(key);
    this.#guard = new CookieGuard(this.#self.publicKey, this.#options.random);
    for (const peer of this.#peers) {
      if (peer === undefined) continue;
      this.#erase(peer);
      peer.forgetHandshakes();
      const secret = sharedSecret(this.#self.privateKey, peer.publicKey);
      if (secret === undefined || equalBytes(peer.publicKey, this.#self.publicKey)) this.removePeer(peer.index);
      else peer.staticSecret.set(secret);
    }
  }

  /** The peer's number: never given to another. A peer that is already there is updated. */
  addPeer(peer: WireGuardPeer, now: number): number {
    const known = this.#byKey.get(toHex(peer.publicKey));
    if (known !== undefined) {
      this.updatePeer(known.index, peer);
      return known.index;
    }
    const secret = sharedSecret(this.#self.privateKey, peer.publicKey);
    if (secret === undefined || equalBytes(peer.publicKey, this.#self.publicKey)) {
      throw new Fault(
        "WIREGUARD_PEER_KEY",
        `Cannot add peer "${toHex(peer.publicKey)}": a weak key or our own, another X25519 public key wanted`,
      );
    }
    const state = new PeerState(this.#peers.length, peer, secret);
    this.#peers.push(state);
    this.#byKey.set(toHex(peer.publicKey), state);
    for (const prefix of peer.allowedIps) this.#allowed.set(prefix, state.index);
    if (state.persistentKeepaliveMs > 0) this.#arm(state, "persistent", now);
    return state.index;
  }

  updatePeer(index: number, change: Partial<Pick<WireGuardPeer, "allowedIps" | "persistentKeepaliveMs">>): void {
    const peer = this.#peers[index];
    if (peer === undefined) return;
    if (change.persistentKeepaliveMs !== undefined) {
      peer.persistentKeepaliveMs = change.persistentKeepaliveMs;
      // Switched on: due at the next poll. Switched off: the running timer is stopped.
      if (change.persistentKeepaliveMs === 0) peer.timers.persistent = Infinity;
      else this.#arm(peer, "persistent", this.#lastNow);
    }
    if (change.allowedIps === undefined) return;
    for (const prefix of peer.allowedIps) this.#allowed.remove(prefix, index);
    for (const prefix of change.allowedIps) this.#allowed.set(prefix, index);
    peer.allowedIps = change.allowedIps;
  }

  removePeer(index: number): void {
    const peer = this.#peers[index];
    if (peer === undefined) return;
    this.#erase(peer);
    for (const prefix of peer.allowedIps) this.#allowed.remove(prefix, index);
    this.#byKey.delete(toHex(peer.publicKey));
    peer.staged = [];
    peer.staticSecret.fill(0);
    peer.presharedKey.fill(0);
    this.#peers[index] = undefined;
  }

  /** Erases all session keys and forgets all peers. Afterwards nothing is delivered, sealed or sent. */
  close(): void {
    for (const peer of this.#peers) if (peer !== undefined) this.removePeer(peer.index);
    this.#deadline = Infinity;
  }

  peerOf(publicKey: Uint8Array): number | undefined {
    return this.#byKey.get(toHex(publicKey))?.index;
  }

  publicKeyOf(index: number): Uint8Array | undefined {
    return this.#peers[index]?.publicKey;
  }

  /** The peer that owns the address at `offset`, by longest prefix; -1 when none does. */
  route(bytes: Uint8Array, offset: number, length: 4 | 16): number {
    return this.#allowed.find(bytes, offset, length);
  }

  statistics(index: number, now: number = this.#lastNow): WireGuardStatistics | undefined {
    const peer = this.#peers[index];
    if (peer === undefined) return undefined;
    return {
      lastHandshakeWall: peer.lastHandshakeWall,
      rxBytes: peer.rxBytes,
      txBytes: peer.txBytes,
      hasSession: peer.current?.canSend(now) ?? false,
      staged: peer.staged.length,
    };
  }

  /**
   * Takes WireGuard datagrams. Data is decrypted where it stands and its entry rewritten to the inner IP packet, whose
   * source belongs to the peer; everything else leaves the batch.
   */
  open(batch: PacketBatch, now: number): void {
    this.#lastNow = now;
    const { slab, at } = batch;
    let kept = 0;
    for (let i = 0; i < batch.count; i++) {
      const entry = i * STRIDE;
      if (!this.#receive(slab, at, entry, now)) continue;
      const target = kept++ * STRIDE;
      if (target !== entry) at.copyWithin(target, entry, entry + STRIDE);
    }
    batch.count = kept;
  }

  /** Seals and sends; without a session the packet waits for the handshake that this starts. */
  send(index: number, packet: Uint8Array, now: number): void {
    this.#lastNow = now;
    const peer = this.#peers[index];
    if (peer === undefined || packet.length > 65_535) return;
    if (peer.current?.canSend(now)) {
      this.#sendData(peer, packet, now);
      return;
    }
    peer.stage(packet);
    this.initiate(index, now);
  }

  /**
   * Writes the sealed packet at `offset` and gives its length: 32 and the padded packet. 0: no session, use `send`.
   * The packet may already stand at `offset + 16` of the same slab.
   */
  seal(index: number, packet: Uint8Array, slab: Uint8Array, offset: number, now: number): number {
    const peer = this.#peers[index];
    const session = peer?.current;
    if (peer === undefined || session === undefined || !session.canSend(now)) return 0;
    const length = session.seal(this.#options.aead, packet, slab, offset, this.#mtu);
    peer.txBytes += length;
    this.#sentAuthenticated(peer, now);
    if (packet.length > 0 && peer.timers.newHandshake === Infinity) {
      this.#arm(peer, "newHandshake", now + NEW_HANDSHAKE_MS + this.#jitter());
    }
    if (session.isWorn || (session.isInitiator && now - session.created >= REKEY_AFTER_MS)) this.initiate(index, now);
    return length;
  }

  /** Starts a handshake, unless we sent a handshake message to that peer within the last 5 s. */
  initiate(index: number, now: number): void {
    const peer = this.#peers[index];
    if (peer === undefined) return;
    if (now - peer.handshakeSent < REKEY_TIMEOUT_MS) return;
    peer.attempts = 0;
    this.#initiate(peer, now);
  }

  /** Starts a handshake with a peer that we have no session with. */
  meet(index: number, now: number): void {
    if (this.#peers[index]?.current?.canSend(now) !== true) this.initiate(index, now);
  }

  /**
   * The peer has started anew and so lost its sessions: the next packet to it shakes hands at once. Without that it would
   * take WireGuard 15 s to notice (`NEW_HANDSHAKE_MS`). A session that is just beginning is of the new life.
   */
  forgetSessions(index: number, now: number): void {
    const peer = this.#peers[index];
    if (peer?.current === undefined || now - peer.current.created < REKEY_TIMEOUT_MS) return;
    this.#erase(peer);
    peer.forgetHandshakes();
  }

  /** Monotonic ms of the next `poll`. It may be early, never late. */
  get deadline(): number {
    return this.#deadline;
  }

  poll(now: number): void {
    this.#lastNow = now;
    if (now < this.#deadline) return;
    this.#deadline = Infinity;
    for (const peer of this.#peers) {
      if (peer === undefined) continue;
      if (peer.deadline <= now) this.#runTimers(peer, now);
      this.#deadline = Math.min(this.#deadline, peer.deadline);
    }
  }

  // ---- receiving

  #receive(slab: Uint8Array, at: Int32Array, entry: number, now: number): boolean {
    const offset = at[entry + PACKET.offset]!;
    const length = at[entry + PACKET.length]!;
    const path = at[entry + PACKET.path]!;
    const type = messageType(slab, offset, length);
    if (type === MESSAGE.data) return this.#receiveData(slab, at, entry, now);
    if (type === undefined) this.drops.malformed++;
    else this.#receiveHandshake(type, slab.subarray(offset, offset + length), path, now);
    return false;
  }

  #receiveData(slab: Uint8Array, at: Int32Array, entry: number, now: number): boolean {
    const offset = at[entry + PACKET.offset]!;
    const length = at[entry + PACKET.length]!;
    const session = this.#byIndex.get(readU32(slab, offset + DATA.receiver));
    if (!(session instanceof Session)) {
      this.#options.onStray?.(at[entry + PACKET.path]!, now);
      return this.#drop("unknownIndex");
    }
    if (now - session.created >= REJECT_AFTER_MS) return this.#drop("expired");
    const low = readU32(slab, offset + DATA.counter);
    const high = readU32(slab, offset + DATA.counter + 4);
    const start = offset + DATA.content;
    const result = session.open(this.#options.aead, low, high, slab, start, length - DATA.content);
    if (result !== "opened") return this.#drop(result);
    const peer = this.#peers[session.peer];
    if (peer === undefined) return this.#drop("unknownIndex");

    const plain = length - DATA.smallest;
    this.#receivedAuthenticated(peer, at[entry + PACKET.path]!, length, now);
    if (session === peer.next) this.#confirm(peer, now);
    this.#rekeyBeforeLastMinute(peer, now);
    if (plain === 0) return false; // a keepalive
    this.#receivedData(peer, now);

    const packetLength = innerLength(slab, start, plain);
    if (packetLength === 0) return this.#drop("malformed");
    const isIpv4 = slab[start]! >> 4 === 4;
    const owner = this.#allowed.find(slab, start + sourceAt(isIpv4), isIpv4 ? 4 : 16);
    if (owner !== peer.index) return this.#drop("wrongSource");
    at[entry + PACKET.offset] = start;
    at[entry + PACKET.length] = packetLength;
    at[entry + PACKET.peer] = peer.index;
    return true;
  }

  #drop(reason: keyof Drops): false {
    this.drops[reason]++;
    return false;
  }

  #receiveHandshake(type: 1 | 2 | 3, message: Uint8Array, path: number, now: number): void {
    if (type === MESSAGE.cookieReply) {
      const owner = this.#byIndex.get(readU32(message, COOKIE_REPLY.receiver));
      const peer = owner instanceof Session ? this.#peers[owner.peer] : owner;
      if (!peer?.cookies.take(message, now)) this.#drop("badHandshake");
      return;
    }
    const mac1At = type === MESSAGE.initiation ? INITIATION.mac1 : RESPONSE.mac1;
    if (!this.#guard.hasMac1(message, mac1At)) {
      this.#drop("badHandshake");
      return;
    }
    if (this.#load.count(now) && !this.#isWelcome(message, mac1At, path, now)) {
      this.#drop("underLoad");
      return;
    }
    const isGood =
      type === MESSAGE.initiation
        ? this.#receiveInitiation(message, path, now)
        : this.#receiveResponse(message, path, now);
    if (!isGood) this.#drop("badHandshake");
  }

  /** Under load: who has no valid cookie gets one and nothing else. */
  #isWelcome(message: Uint8Array, mac1At: number, path: number, now: number): boolean {
    const address = this.#options.sourceOf?.(path) ?? Uint8Array.of(path, path >> 8, path >> 16, path >> 24);
    const mac2At = mac1At + 16;
    if (this.#guard.hasMac2(message, mac2At, address, now)) return this.#limiter.allow(toHex(address), now);
    const sender = readU32(message, INITIATION.sender);
    this.#options.send(-1, path, this.#guard.reply(message, mac1At, sender, address, now));
    return false;
  }

  #receiveInitiation(message: Uint8Array, path: number, now: number): boolean {
    const opened = openInitiation(this.#self, message);
    const peer = opened === undefined ? undefined : this.#byKey.get(toHex(opened.peerPublic));
    if (opened === undefined || peer === undefined) return false;
    const timestamp = openTimestamp(opened, peer.staticSecret, message);
    if (timestamp === undefined || !isLater(timestamp, peer.latestTimestamp)) return false;
    if (now - peer.latestInitiation < INITIATION_SPACING_MS) return false;
    peer.latestTimestamp = timestamp;
    peer.latestInitiation = now;

    const localIndex = this.#newIndex();
    const ephemeralPrivate = generatePrivateKey(this.#options.random);
    const receiver = readU32(message, INITIATION.sender);
    const { presharedKey } = peer;
    const response = createResponse({ opened, presharedKey, ephemeralPrivate, sender: localIndex, receiver });
    ephemeralPrivate.fill(0);
    if (response === undefined) return false;
    this.#forgetPending(peer); // one handshake at a time: the peer's replaces ours
    this.#receivedAuthenticated(peer, path, message.length, now);

    this.#retire(peer.next);
    this.#retire(peer.previous);
    peer.previous = undefined;
    peer.next = this.#begin(peer, {
      localIndex,
      remoteIndex: receiver,
      sendKey: response.keys.second,
      receiveKey: response.keys.first,
      isInitiator: false,
      now,
    });
    this.#sendHandshake(peer, path, response.message, RESPONSE.mac1, now);
    return true;
  }

  #receiveResponse(message: Uint8Array, path: number, now: number): boolean {
    const peer = this.#byIndex.get(readU32(message, RESPONSE.receiver));
    if (!(peer instanceof PeerState) || peer.pending === undefined) return false;
    const { localIndex, ephemeralPrivate, transcript } = peer.pending;
    const keys = openResponse(this.#self, peer.presharedKey, ephemeralPrivate, transcript, message);
    if (keys === undefined) return false;
    this.#forgetPending(peer);
    this.#receivedAuthenticated(peer, path, message.length, now);

    const session = this.#begin(peer, {
      localIndex,
      remoteIndex: readU32(message, RESPONSE.sender),
      sendKey: keys.first,
      receiveKey: keys.second,
      isInitiator: true,
      now,
    });
    this.#retire(peer.previous);
    if (peer.next === undefined) peer.previous = peer.current;
    else {
      this.#retire(peer.current);
      peer.previous = peer.next;
      peer.next = undefined;
    }
    peer.current = session;
    this.#completed(peer);
    if (peer.staged.length === 0) this.#sendData(peer, EMPTY, now); // confirms the keys to the responder
    this.#sendStaged(peer, now);
    return true;
  }

  /** The first packet under `next` proves that the initiator has its keys. */
  #confirm(peer: PeerState, now: number): void {
    this.#retire(peer.previous);
    peer.previous = peer.current;
    peer.current = peer.next;
    peer.next = undefined;
    this.#completed(peer);
    this.#sendStaged(peer, now);
  }

  // ---- sending

  #sendData(peer: PeerState, packet: Uint8Array, now: number): void {
    const length = this.seal(peer.index, packet, this.#scratch, 0, now);
    if (length > 0) this.#options.send(peer.index, undefined, this.#scratch.subarray(0, length));
  }

  #sendStaged(peer: PeerState, now: number): void {
    const staged = peer.staged;
    peer.staged = [];
    for (const packet of staged) this.#sendData(peer, packet, now);
  }

  #sendKeepalive(peer: PeerState, now: number): void {
    if (peer.current?.canSend(now)) this.#sendData(peer, EMPTY, now);
    else this.initiate(peer.index, now);
  }

  #initiate(peer: PeerState, now: number): void {
    this.#forgetPending(peer);
    const localIndex = this.#newIndex();
    const ephemeralPrivate = generatePrivateKey(this.#options.random);
    const initiation = createInitiation({
      self: this.#self,
      peerPublic: peer.publicKey,
      staticSecret: peer.staticSecret,
      ephemeralPrivate,
      sender: localIndex,
      timestamp: encodeTimestamp(this.#stamp()),
    });
    if (initiation === undefined) return;
    peer.pending = { localIndex, ephemeralPrivate, transcript: initiation.transcript };
    this.#byIndex.set(localIndex, peer);
    this.#arm(peer, "retransmit", now + REKEY_TIMEOUT_MS + this.#jitter());
    this.#sendHandshake(peer, undefined, initiation.message, INITIATION.mac1, now);
  }

  #sendHandshake(peer: PeerState, path: number | undefined, message: Uint8Array, mac1At: number, now: number): void {
    peer.cookies.sign(message, mac1At, now);
    peer.handshakeSent = now;
    peer.txBytes += message.length;
    this.#sentAuthenticated(peer, now);
    this.#options.send(peer.index, path, message);
  }

  /** Wall time that never stands still or goes back, whatever the clock does. */
  #stamp(): number {
    this.#latestStamp = Math.max(Math.floor(this.#options.wall()), this.#latestStamp + 1);
    this.#options.onTimestamp?.(this.#latestStamp);
    return this.#latestStamp;
  }

  // ---- keys

  #begin(
    peer: PeerState,
    keys: {
      readonly localIndex: number;
      readonly remoteIndex: number;
      readonly sendKey: Uint8Array;
      readonly receiveKey: Uint8Array;
      readonly isInitiator: boolean;
      readonly now: number;
    },
  ): Session {
    const session = new Session({ ...keys, peer: peer.index, created: keys.now });
    this.#byIndex.set(keys.localIndex, session);
    this.#arm(peer, "erase", keys.now + ERASE_AFTER_MS);
    return session;
  }

  #retire(session: Session | undefined): void {
    if (session === undefined) return;
    this.#byIndex.delete(session.localIndex);
    session.erase();
  }

  #forgetPending(peer: PeerState): void {
    const index = peer.dropPending();
    if (index !== undefined) this.#byIndex.delete(index);
  }

  #erase(peer: PeerState): void {
    this.#forgetPending(peer);
    for (const session of [peer.previous, peer.current, peer.next]) this.#retire(session);
    peer.previous = undefined;
    peer.current = undefined;
    peer.next = undefined;
  }

  #newIndex(): number {
    let index = readU32(this.#options.random(4), 0);
    while (this.#byIndex.has(index)) index = (index + 1) >>> 0;
    return index;
  }

  // ---- timers: wireguard-go device/timers.go

  #arm(peer: PeerState, timer: keyof PeerState["timers"], at: number): void {
    peer.timers[timer] = at;
    if (at < this.#deadline) this.#deadline = at;
  }

  #jitter(): number {
    const [low = 0, high = 0] = this.#options.random(2);
    return (low | (high << 8)) % MOST_JITTER_MS;
  }

  #sentAuthenticated(peer: PeerState, now: number): void {
    peer.timers.keepalive = Infinity;
    peer.needsKeepaliveAgain = false;
    this.#restartPersistent(peer, now);
  }

  #receivedAuthenticated(peer: PeerState, path: number, length: number, now: number): void {
    peer.rxBytes += length;
    peer.timers.newHandshake = Infinity;
    this.#restartPersistent(peer, now);
    this.#options.onAuthenticated?.(peer.index, path, now);
  }

  #receivedData(peer: PeerState, now: number): void {
    if (peer.timers.keepalive === Infinity) this.#arm(peer, "keepalive", now + KEEPALIVE_MS);
    else peer.needsKeepaliveAgain = true;
  }

  #restartPersistent(peer: PeerState, now: number): void {
    if (peer.persistentKeepaliveMs > 0) this.#arm(peer, "persistent", now + peer.persistentKeepaliveMs);
  }

  #rekeyBeforeLastMinute(peer: PeerState, now: number): void {
    const session = peer.current;
    if (session === undefined || peer.hasAskedLastMinute || !session.isInitiator) return;
    if (now - session.created <= LAST_MINUTE_MS) return;
    peer.hasAskedLastMinute = true;
    this.initiate(peer.index, now);
  }

  #completed(peer: PeerState): void {
    peer.timers.retransmit = Infinity;
    peer.attempts = 0;
    peer.hasAskedLastMinute = false;
    peer.lastHandshakeWall = this.#options.wall();
  }

  #runTimers(peer: PeerState, now: number): void {
    const { timers } = peer;
    if (timers.erase <= now) {
      timers.erase = Infinity;
      this.#erase(peer);
    }
    if (timers.retransmit <= now) this.#retransmit(peer, now);
    if (timers.newHandshake <= now) {
      timers.newHandshake = Infinity;
      this.initiate(peer.index, now);
    }
    if (timers.keepalive <= now) {
      const again = peer.needsKeepaliveAgain;
      timers.keepalive = Infinity;
      this.#sendKeepalive(peer, now);
      if (again) this.#arm(peer, "keepalive", now + KEEPALIVE_MS);
    }
    if (timers.persistent <= now) {
      this.#restartPersistent(peer, now); // also when the 5 s gate keeps us from sending
      this.#sendKeepalive(peer, now);
    }
  }

  #retransmit(peer: PeerState, now: number): void {
    peer.timers.retransmit = Infinity;
    if (peer.attempts > MOST_ATTEMPTS) {
      peer.timers.keepalive = Infinity;
      peer.staged = [];
      if (peer.timers.erase === Infinity) this.#arm(peer, "erase", now + ERASE_AFTER_MS);
      return;
    }
    const attempts = peer.attempts + 1;
    this.#initiate(peer, now);
    peer.attempts = attempts;
  }
}

function keyPairOf(key: Uint8Array): KeyPair {
  const privateKey = readyPrivateKey(key);
  return { privateKey, publicKey: publicKeyOf(privateKey) };
}
