import type { Prefix } from "../../base/address.ts";
import { TIMESTAMP_BYTES } from "../../wire/wireguard.ts";
import { CookieJar } from "./cookie.ts";
import { forgetTranscript, type Transcript } from "./handshake.ts";
import type { Session } from "./session.ts";

export interface WireGuardPeer {
  readonly publicKey: Uint8Array;
  readonly presharedKey?: Uint8Array;
  readonly allowedIps: readonly Prefix[];
  readonly persistentKeepaliveMs?: number;
}

/** Packets that wait for a session, per peer; the oldest is dropped (wireguard-go `QueueStagedSize`). */
const MOST_STAGED = 128;

/** Our initiation that waits for its response. */
export interface Pending {
  readonly localIndex: number;
  readonly ephemeralPrivate: Uint8Array;
  readonly transcript: Transcript;
}

/** When each timer of a peer fires; `Infinity` while idle. WireGuard paper section 6, wireguard-go device/timers.go. */
export interface Timers {
  retransmit: number;
  keepalive: number;
  newHandshake: number;
  erase: number;
  persistent: number;
}

/** All that is known of one peer. Only `WireGuard` changes it. */
export class PeerState {
  readonly index: number;
  readonly publicKey: Uint8Array;
  readonly presharedKey: Uint8Array;
  /** X25519 of both static keys. */
  readonly staticSecret: Uint8Array;
  readonly cookies: CookieJar;
  allowedIps: readonly Prefix[];
  persistentKeepaliveMs: number;

  pending: Pending | undefined;
  previous: Session | undefined;
  current: Session | undefined;
  next: Session | undefined;
  /** The greatest time accepted in an initiation. */
  latestTimestamp: Uint8Array = new Uint8Array(TIMESTAMP_BYTES);
  latestInitiation: number = -Infinity;
  /** When we last sent message 1 or 2. */
  handshakeSent: number = -Infinity;
  attempts = 0;
  /** Data came while the keepalive timer was running: run it once more. */
  needsKeepaliveAgain = false;
  /** The early rekey of a session that only receives was asked for. */
  hasAskedLastMinute = false;

  readonly timers: Timers = {
    retransmit: Infinity,
    keepalive: Infinity,
    newHandshake: Infinity,
    erase: Infinity,
    persistent: Infinity,
  };

  /** Of this session, for the timer that asks for the next one. */
  jitterMs = 0;
  staged: Uint8Array[] = [];
  rxBytes = 0;
  txBytes = 0;
  lastHandshakeWall: number | undefined;

  constructor(index: number, peer: WireGuardPeer, staticSecret: Uint8Array) {
    this.index = index;
    this.publicKey = peer.publicKey.slice();
    this.presharedKey = peer.presharedKey?.slice() ?? new Uint8Array(32);
    this.staticSecret = staticSecret;
    this.cookies = new CookieJar(peer.publicKey);
    this.allowedIps = peer.allowedIps;
    this.persistentKeepaliveMs = peer.persistentKeepaliveMs ?? 0;
  }

  /** Keeps a copy. */
  stage(packet: Uint8Array): void {
    if (this.staged.length >= MOST_STAGED) this.staged.shift();
    this.staged.push(packet.slice());
  }

  /** As if none had ever been sent: the next may go out at once. What the peer said before stays a replay. */
  forgetHandshakes(): void {
    this.handshakeSent = -Infinity;
    this.attempts = 0;
    this.hasAskedLastMinute = false;
    this.needsKeepaliveAgain = false;
    const { timers } = this;
    timers.retransmit = timers.keepalive = timers.newHandshake = timers.erase = Infinity;
  }

  /** Forgets our initiation and gives the index that it held. */
  dropPending(): number | undefined {
    const pending = this.pending;
    this.pending = undefined;
    pending?.ephemeralPrivate.fill(0);
    if (pending !== undefined) forgetTranscript(pending.transcript);
    return pending?.localIndex;
  }

  get deadline(): number {
    const { retransmit, keepalive, newHandshake, erase, persistent } = this.timers;
    return Math.min(retransmit, keepalive, newHandshake, erase, persistent);
  }
}
