import type { Random } from "../../base/random.ts";
import type { Aead } from "../../crypto/aead/aead.ts";

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
  /** Packets that came by `path` are proven to be from `peer`. Once for a run of such packets. */
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

export function noDrops(): Drops {
  return {
    malformed: 0,
    unknownIndex: 0,
    expired: 0,
    forged: 0,
    replayed: 0,
    wrongSource: 0,
    badHandshake: 0,
    underLoad: 0,
  };
}
