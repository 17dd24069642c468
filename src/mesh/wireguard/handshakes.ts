import { toHex } from "../../base/bytes.ts";
import { generatePrivateKey, publicKeyOf, readyPrivateKey } from "../../crypto/keys.ts";
import { COOKIE_REPLY, encodeTimestamp, INITIATION, MESSAGE, RESPONSE, readU32 } from "../../wire/wireguard.ts";
import { INITIATION_SPACING_MS } from "./constants.ts";
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
import { LoadMeter, RateLimiter } from "./load.ts";
import type { Drops, WireGuardOptions } from "./options.ts";
import type { PeerState } from "./peer.ts";
import type { PeerTimers } from "./peer-timers.ts";
import type { SessionTable } from "./session-table.ts";

/** What handshakes ask of the interface that they belong to. */
export interface HandshakeHost {
  readonly drops: Drops;
  peerOfKey(publicKey: Uint8Array): PeerState | undefined;
  /** An initiation for us, of a key that is no peer's. */
  stranger(publicKey: Uint8Array, message: Uint8Array, path: number, now: number): void;
  peerAt(index: number): PeerState | undefined;
  /** A message of `length` bytes that came by `path` is proven to be the peer's. */
  authenticated(peer: PeerState, path: number, length: number, now: number): void;
  /** We may send under new keys, and the peer must hear of it. */
  established(peer: PeerState, now: number): void;
}

/** Messages 1 to 3 of all peers, in both roles, with what protects us from a flood of them (paper section 5). */
export class Handshakes {
  readonly #options: WireGuardOptions;
  readonly #host: HandshakeHost;
  readonly #table: SessionTable;
  readonly #timers: PeerTimers;
  readonly #load: LoadMeter = new LoadMeter();
  readonly #limiter: RateLimiter = new RateLimiter();
  #self: KeyPair;
  #guard: CookieGuard;
  #latestStamp: number;

  constructor(options: WireGuardOptions, host: HandshakeHost, table: SessionTable, timers: PeerTimers) {
    this.#options = options;
    this.#host = host;
    this.#table = table;
    this.#timers = timers;
    this.#self = keyPairOf(options.privateKey);
    this.#guard = new CookieGuard(this.#self.publicKey, options.random);
    this.#latestStamp = options.timestampFloor ?? -Infinity;
  }

  get self(): KeyPair {
    return this.#self;
  }

  setPrivateKey(key: Uint8Array): void {
    this.#self = keyPairOf(key);
    this.#guard = new CookieGuard(this.#self.publicKey, this.#options.random);
  }

  receive(type: 1 | 2 | 3, message: Uint8Array, path: number, now: number): void {
    const { drops } = this.#host;
    if (type === MESSAGE.cookieReply) {
      if (!this.#receiveCookie(message, now)) drops.badHandshake++;
      return;
    }
    const mac1At = type === MESSAGE.initiation ? INITIATION.mac1 : RESPONSE.mac1;
    if (!this.#guard.hasMac1(message, mac1At)) {
      drops.badHandshake++;
      return;
    }
    if (this.#load.count(now) && !this.#isWelcome(message, mac1At, path, now)) {
      drops.underLoad++;
      return;
    }
    const isGood =
      type === MESSAGE.initiation
        ? this.#receiveInitiation(message, path, now)
        : this.#receiveResponse(message, path, now);
    if (!isGood) drops.badHandshake++;
  }

  #receiveCookie(message: Uint8Array, now: number): boolean {
    const index = readU32(message, COOKIE_REPLY.receiver);
    const session = this.#table.session(index);
    const peer = session === undefined ? this.#table.initiatedBy(index) : this.#host.peerAt(session.peer);
    return peer?.cookies.take(message, now) ?? false;
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
    const peer = opened === undefined ? undefined : this.#host.peerOfKey(opened.peerPublic);
    if (opened !== undefined && peer === undefined) this.#host.stranger(opened.peerPublic, message, path, now);
    if (opened === undefined || peer === undefined) return false;
    const timestamp = openTimestamp(opened, peer.staticSecret, message);
    if (timestamp === undefined || !isLater(timestamp, peer.latestTimestamp)) return false;
    if (now - peer.latestInitiation < INITIATION_SPACING_MS) return false;
    peer.latestTimestamp = timestamp;
    peer.latestInitiation = now;

    const table = this.#table;
    const localIndex = table.newIndex();
    const ephemeralPrivate = generatePrivateKey(this.#options.random);
    const receiver = readU32(message, INITIATION.sender);
    const { presharedKey } = peer;
    const response = createResponse({ opened, presharedKey, ephemeralPrivate, sender: localIndex, receiver });
    ephemeralPrivate.fill(0);
    if (response === undefined) return false;
    table.forgetPending(peer); // one handshake at a time: the peer's replaces ours
    this.#host.authenticated(peer, path, message.length, now);

    table.retire(peer.next);
    table.retire(peer.previous);
    peer.previous = undefined;
    peer.next = table.begin({
      peer: peer.index,
      localIndex,
      remoteIndex: receiver,
      sendKey: response.keys.second,
      receiveKey: response.keys.first,
      isInitiator: false,
      created: now,
    });
    this.#timers.began(peer, now);
    this.#send(peer, path, response.message, RESPONSE.mac1, now);
    return true;
  }

  #receiveResponse(message: Uint8Array, path: number, now: number): boolean {
    const table = this.#table;
    const peer = table.initiatedBy(readU32(message, RESPONSE.receiver));
    if (peer?.pending === undefined) return false;
    const { localIndex, ephemeralPrivate, transcript } = peer.pending;
    const keys = openResponse(this.#self, peer.presharedKey, ephemeralPrivate, transcript, message);
    if (keys === undefined) return false;
    table.forgetPending(peer);
    this.#host.authenticated(peer, path, message.length, now);

    const session = table.begin({
      peer: peer.index,
      localIndex,
      remoteIndex: readU32(message, RESPONSE.sender),
      sendKey: keys.first,
      receiveKey: keys.second,
      isInitiator: true,
      created: now,
    });
    this.#timers.began(peer, now);
    table.retire(peer.previous);
    if (peer.next === undefined) peer.previous = peer.current;
    else {
      table.retire(peer.current);
      peer.previous = peer.next;
      peer.next = undefined;
    }
    peer.current = session;
    this.#timers.completed(peer, this.#options.wall());
    this.#host.established(peer, now);
    return true;
  }

  initiate(peer: PeerState, now: number): void {
    this.#table.forgetPending(peer);
    const localIndex = this.#table.newIndex();
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
    this.#table.await(peer, { localIndex, ephemeralPrivate, transcript: initiation.transcript });
    this.#timers.initiated(peer, now);
    this.#send(peer, undefined, initiation.message, INITIATION.mac1, now);
  }

  #send(peer: PeerState, path: number | undefined, message: Uint8Array, mac1At: number, now: number): void {
    peer.cookies.sign(message, mac1At, now);
    peer.handshakeSent = now;
    peer.txBytes += message.length;
    this.#timers.sent(peer, now);
    this.#options.send(peer.index, path, message);
  }

  /** Wall time that never stands still or goes back, whatever the clock does. */
  #stamp(): number {
    this.#latestStamp = Math.max(Math.floor(this.#options.wall()), this.#latestStamp + 1);
    this.#options.onTimestamp?.(this.#latestStamp);
    return this.#latestStamp;
  }
}

function keyPairOf(key: Uint8Array): KeyPair {
  const privateKey = readyPrivateKey(key);
  return { privateKey, publicKey: publicKeyOf(privateKey) };
}
