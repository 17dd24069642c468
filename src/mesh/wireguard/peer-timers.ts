import type { Random } from "../../base/random.ts";
import {
  ERASE_AFTER_MS,
  KEEPALIVE_MS,
  MOST_ATTEMPTS,
  MOST_JITTER_MS,
  NEW_HANDSHAKE_MS,
  REKEY_TIMEOUT_MS,
} from "./constants.ts";
import type { PeerState, Timers } from "./peer.ts";

/** What a timer that fires asks for. */
export interface TimerActions {
  /** A handshake, unless there was one just now. */
  meet(peer: PeerState, now: number): void;
  /** Another initiation. */
  initiateAgain(peer: PeerState, now: number): void;
  sendKeepalive(peer: PeerState, now: number): void;
  erase(peer: PeerState): void;
}

/** The timers of all peers: wireguard-go device/timers.go. */
export class PeerTimers {
  /** Monotonic ms of the next `poll`. It may be early, never late. */
  deadline: number = Infinity;
  readonly #actions: TimerActions;
  readonly #random: Random;

  constructor(actions: TimerActions, random: Random) {
    this.#actions = actions;
    this.#random = random;
  }

  arm(peer: PeerState, timer: keyof Timers, at: number): void {
    peer.timers[timer] = at;
    if (at < this.deadline) this.deadline = at;
  }

  initiated(peer: PeerState, now: number): void {
    this.arm(peer, "retransmit", now + REKEY_TIMEOUT_MS + this.#jitter());
  }

  /** There are new keys. */
  began(peer: PeerState, now: number): void {
    peer.jitterMs = this.#jitter();
    this.arm(peer, "erase", now + ERASE_AFTER_MS);
  }

  /** Anything left under our keys. */
  sent(peer: PeerState, now: number): void {
    peer.timers.keepalive = Infinity;
    peer.needsKeepaliveAgain = false;
    this.#restartPersistent(peer, now);
  }

  /** Data left that wants an answer. The jitter is drawn once a session: this runs once an exchange. */
  sentData(peer: PeerState, now: number): void {
    if (peer.timers.newHandshake === Infinity) {
      this.arm(peer, "newHandshake", now + NEW_HANDSHAKE_MS + peer.jitterMs);
    }
  }

  /** Anything came under the peer's keys. */
  received(peer: PeerState, now: number): void {
    peer.timers.newHandshake = Infinity;
    this.#restartPersistent(peer, now);
  }

  receivedData(peer: PeerState, now: number): void {
    if (peer.timers.keepalive === Infinity) this.arm(peer, "keepalive", now + KEEPALIVE_MS);
    else peer.needsKeepaliveAgain = true;
  }

  /** A handshake is done. */
  completed(peer: PeerState, wall: number): void {
    peer.timers.retransmit = Infinity;
    peer.attempts = 0;
    peer.hasAskedLastMinute = false;
    peer.lastHandshakeWall = wall;
  }

  poll(peers: readonly (PeerState | undefined)[], now: number): void {
    if (now < this.deadline) return;
    this.deadline = Infinity;
    for (const peer of peers) {
      if (peer === undefined) continue;
      if (peer.deadline <= now) this.#run(peer, now);
      this.deadline = Math.min(this.deadline, peer.deadline);
    }
  }

  #run(peer: PeerState, now: number): void {
    const { timers } = peer;
    if (timers.erase <= now) {
      timers.erase = Infinity;
      this.#actions.erase(peer);
    }
    if (timers.retransmit <= now) this.#retransmit(peer, now);
    if (timers.newHandshake <= now) {
      timers.newHandshake = Infinity;
      this.#actions.meet(peer, now);
    }
    if (timers.keepalive <= now) {
      const again = peer.needsKeepaliveAgain;
      timers.keepalive = Infinity;
      this.#actions.sendKeepalive(peer, now);
      if (again) this.arm(peer, "keepalive", now + KEEPALIVE_MS);
    }
    if (timers.persistent <= now) {
      this.#restartPersistent(peer, now); // also when the 5 s gate keeps us from sending
      this.#actions.sendKeepalive(peer, now);
    }
  }

  #retransmit(peer: PeerState, now: number): void {
    peer.timers.retransmit = Infinity;
    if (peer.attempts > MOST_ATTEMPTS) {
      peer.timers.keepalive = Infinity;
      peer.staged = [];
      if (peer.timers.erase === Infinity) this.arm(peer, "erase", now + ERASE_AFTER_MS);
      return;
    }
    const attempts = peer.attempts + 1;
    this.#actions.initiateAgain(peer, now);
    peer.attempts = attempts;
  }

  #restartPersistent(peer: PeerState, now: number): void {
    if (peer.persistentKeepaliveMs > 0) this.arm(peer, "persistent", now + peer.persistentKeepaliveMs);
  }

  #jitter(): number {
    const [low = 0, high = 0] = this.#random(2);
    return (low | (high << 8)) % MOST_JITTER_MS;
  }
}
