import { equalBytes, toHex } from "../../base/bytes.ts";
import { Fault } from "../../base/fault.ts";
import { PACKET, type PacketBatch, STRIDE } from "../../base/packet.ts";
import { sharedSecret } from "../../crypto/keys.ts";
import { DATA, MESSAGE, messageType, readU32 } from "../../wire/wireguard.ts";
import { AllowedIps } from "./allowed-ips.ts";
import { LAST_MINUTE_MS, REJECT_AFTER_MS, REKEY_AFTER_MS, REKEY_TIMEOUT_MS } from "./constants.ts";
import { type HandshakeHost, Handshakes } from "./handshakes.ts";
import { innerLength, sourceAt } from "./inner-packet.ts";
import { type Drops, noDrops, type WireGuardOptions } from "./options.ts";
import { PeerState, type WireGuardPeer } from "./peer.ts";
import { PeerTimers } from "./peer-timers.ts";
import { paddedLength } from "./session.ts";
import { SessionTable } from "./session-table.ts";
import { Strangers } from "./strangers.ts";

export type { Drops, WireGuardOptions } from "./options.ts";
export type { WireGuardPeer } from "./peer.ts";

const DEFAULT_MTU = 1280;
const EMPTY = new Uint8Array(0);

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
  readonly drops: Drops = noDrops();

  readonly #options: WireGuardOptions;
  readonly #mtu: number;
  readonly #allowed: AllowedIps = new AllowedIps();
  readonly #peers: (PeerState | undefined)[] = [];
  readonly #byKey: Map<string, PeerState> = new Map();
  readonly #table: SessionTable;
  readonly #timers: PeerTimers;
  readonly #handshakes: Handshakes;
  readonly #strangers: Strangers = new Strangers();
  /** Initiations of those who are strangers no more; answered at the next poll, when all is known of them. */
  #greeted: { readonly message: Uint8Array; readonly path: number }[] = [];
  readonly #scratch: Uint8Array = new Uint8Array(65_536 + DATA.smallest);
  /** Only for calls that are told no time. */
  #lastNow = 0;
  /** Who was told of last, in this batch. */
  #provenPeer = -1;
  #provenPath = -1;

  constructor(options: WireGuardOptions) {
    this.#options = options;
    this.#mtu = options.mtu ?? DEFAULT_MTU;
    this.#table = new SessionTable(options.random);
    this.#timers = new PeerTimers(
      {
        meet: (peer, now) => this.initiate(peer.index, now),
        initiateAgain: (peer, now) => this.#handshakes.initiate(peer, now),
        sendKeepalive: (peer, now) => this.#sendKeepalive(peer, now),
        erase: (peer) => this.#table.erase(peer),
      },
      options.random,
    );
    const host: HandshakeHost = {
      drops: this.drops,
      peerOfKey: (publicKey) => this.#byKey.get(toHex(publicKey)),
      stranger: (publicKey, message, path, now) => this.#strangers.hold(toHex(publicKey), message, path, now),
      peerAt: (index) => this.#peers[index],
      authenticated: (peer, path, length, now) => this.#receivedAuthenticated(peer, path, length, now),
      established: (peer, now) => {
        if (peer.staged.length === 0) this.#sendData(peer, EMPTY, now); // confirms the keys to the responder
        this.#sendStaged(peer, now);
      },
    };
    this.#handshakes = new Handshakes(options, host, this.#table, this.#timers);
  }

  /** Another key of ours: every session ends, peers keep their numbers and shake hands anew. */
  setPrivateKey(key: Uint8Array): void {
    this.#handshakes.setPrivateKey(key);
    this.#strangers.clear();
    this.#greeted = [];
    const { privateKey, publicKey } = this.#handshakes.self;
    for (const peer of this.#peers) {
      if (peer === undefined) continue;
      this.#table.erase(peer);
      peer.forgetHandshakes();
      const secret = sharedSecret(privateKey, peer.publicKey);
      if (secret === undefined || equalBytes(peer.publicKey, publicKey)) this.removePeer(peer.index);
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
    const { privateKey, publicKey } = this.#handshakes.self;
    const secret = sharedSecret(privateKey, peer.publicKey);
    if (secret === undefined || equalBytes(peer.publicKey, publicKey)) {
      throw new Fault(
        "WIREGUARD_PEER_KEY",
        `Cannot add peer "${toHex(peer.publicKey)}": a weak key or our own, another X25519 public key wanted`,
      );
    }
    const state = new PeerState(this.#peers.length, peer, secret);
    this.#peers.push(state);
    this.#byKey.set(toHex(peer.publicKey), state);
    for (const prefix of peer.allowedIps) this.#allowed.set(prefix, state.index);
    if (state.persistentKeepaliveMs > 0) this.#timers.arm(state, "persistent", now);
    const held = this.#strangers.take(toHex(peer.publicKey), now);
    if (held !== undefined) this.#greeted.push(held);
    return state.index;
  }

  updatePeer(index: number, change: Partial<Pick<WireGuardPeer, "allowedIps" | "persistentKeepaliveMs">>): void {
    const peer = this.#peers[index];
    if (peer === undefined) return;
    if (change.persistentKeepaliveMs !== undefined) {
      peer.persistentKeepaliveMs = change.persistentKeepaliveMs;
      // Switched on: due at the next poll. Switched off: the running timer is stopped.
      if (change.persistentKeepaliveMs === 0) peer.timers.persistent = Infinity;
      else this.#timers.arm(peer, "persistent", this.#lastNow);
    }
    if (change.allowedIps === undefined) return;
    for (const prefix of peer.allowedIps) this.#allowed.remove(prefix, index);
    for (const prefix of change.allowedIps) this.#allowed.set(prefix, index);
    peer.allowedIps = change.allowedIps;
  }

  removePeer(index: number): void {
    const peer = this.#peers[index];
    if (peer === undefined) return;
    this.#table.erase(peer);
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
    this.#timers.deadline = Infinity;
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

  /** Starts a handshake, unless we sent a handshake message to that peer within the last 5 s. */
  initiate(index: number, now: number): void {
    const peer = this.#peers[index];
    if (peer === undefined || now - peer.handshakeSent < REKEY_TIMEOUT_MS) return;
    peer.attempts = 0;
    this.#handshakes.initiate(peer, now);
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
    this.#table.erase(peer);
    peer.forgetHandshakes();
  }

  /** Monotonic ms of the next `poll`. It may be early, never late. */
  get deadline(): number {
    return this.#greeted.length > 0 ? this.#lastNow : this.#timers.deadline;
  }

  poll(now: number): void {
    this.#lastNow = now;
    for (const { message, path } of this.#greeted.splice(0)) {
      this.#handshakes.receive(MESSAGE.initiation, message, path, now);
    }
    this.#timers.poll(this.#peers, now);
  }

  // ---- receiving

  /**
   * Takes WireGuard datagrams. Data is decrypted where it stands and its entry rewritten to the inner IP packet, whose
   * source belongs to the peer; everything else leaves the batch.
   */
  open(batch: PacketBatch, now: number): void {
    this.#lastNow = now;
    this.#provenPeer = -1;
    const { slab, at, count } = batch;
    let kept = 0;
    for (let i = 0; i < count; i++) {
      const entry = i * STRIDE;
      if (!this.#receive(slab, at, entry, now)) continue;
      const target = kept++ * STRIDE;
      if (target !== entry) at.copyWithin(target, entry, entry + STRIDE);
    }
    batch.count = kept;
  }

  #receive(slab: Uint8Array, at: Int32Array, entry: number, now: number): boolean {
    const offset = at[entry + PACKET.offset]!;
    const length = at[entry + PACKET.length]!;
    const path = at[entry + PACKET.path]!;
    const type = messageType(slab, offset, length);
    if (type === MESSAGE.data) return this.#receiveData(slab, at, entry, now);
    if (type === undefined) this.drops.malformed++;
    else this.#handshakes.receive(type, slab.subarray(offset, offset + length), path, now);
    return false;
  }

  #receiveData(slab: Uint8Array, at: Int32Array, entry: number, now: number): boolean {
    const offset = at[entry + PACKET.offset]!;
    const length = at[entry + PACKET.length]!;
    const session = this.#table.session(readU32(slab, offset + DATA.receiver));
    if (session === undefined) {
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
    this.#timers.receivedData(peer, now);

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

  #receivedAuthenticated(peer: PeerState, path: number, length: number, now: number): void {
    peer.rxBytes += length;
    this.#timers.received(peer, now);
    if (peer.index === this.#provenPeer && path === this.#provenPath) return;
    this.#provenPeer = peer.index;
    this.#provenPath = path;
    this.#options.onAuthenticated?.(peer.index, path, now);
  }

  /** The first packet under `next` proves that the initiator has its keys. */
  #confirm(peer: PeerState, now: number): void {
    this.#table.retire(peer.previous);
    peer.previous = peer.current;
    peer.current = peer.next;
    peer.next = undefined;
    this.#timers.completed(peer, this.#options.wall());
    this.#sendStaged(peer, now);
  }

  #rekeyBeforeLastMinute(peer: PeerState, now: number): void {
    const session = peer.current;
    if (session === undefined || peer.hasAskedLastMinute || !session.isInitiator) return;
    if (now - session.created <= LAST_MINUTE_MS) return;
    peer.hasAskedLastMinute = true;
    this.initiate(peer.index, now);
  }

  // ---- sending

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
    this.#timers.sent(peer, now);
    if (packet.length > 0) this.#timers.sentData(peer, now);
    if (session.isWorn || (session.isInitiator && now - session.created >= REKEY_AFTER_MS)) this.initiate(index, now);
    return length;
  }

  /** What `seal` makes of a packet of `length` bytes. */
  sealedBytes(length: number): number {
    return DATA.smallest + paddedLength(length, this.#mtu);
  }

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
}
