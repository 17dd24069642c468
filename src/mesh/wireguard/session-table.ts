import type { Random } from "../../base/random.ts";
import { readU32 } from "../../wire/wireguard.ts";
import type { PeerState, Pending } from "./peer.ts";
import { Session, type SessionInput } from "./session.ts";

/** What our indices name: the session that a peer writes to, or the initiation that it answers. */
export class SessionTable {
  readonly #random: Random;
  readonly #sessions: Map<number, Session> = new Map();
  readonly #pending: Map<number, PeerState> = new Map();

  constructor(random: Random) {
    this.#random = random;
  }

  session(index: number): Session | undefined {
    return this.#sessions.get(index);
  }

  /** Whose initiation it was. */
  initiatedBy(index: number): PeerState | undefined {
    return this.#pending.get(index);
  }

  /** An index that names nothing. */
  newIndex(): number {
    let index = readU32(this.#random(4), 0);
    while (this.#sessions.has(index) || this.#pending.has(index)) index = (index + 1) >>> 0;
    return index;
  }

  begin(input: SessionInput): Session {
    const session = new Session(input);
    this.#sessions.set(input.localIndex, session);
    return session;
  }

  retire(session: Session | undefined): void {
    if (session === undefined) return;
    this.#sessions.delete(session.localIndex);
    session.erase();
  }

  await(peer: PeerState, pending: Pending): void {
    peer.pending = pending;
    this.#pending.set(pending.localIndex, peer);
  }

  /** Our initiation needs no answer any more. */
  forgetPending(peer: PeerState): void {
    const index = peer.dropPending();
    if (index !== undefined) this.#pending.delete(index);
  }

  /** All keys of a peer. */
  erase(peer: PeerState): void {
    this.forgetPending(peer);
    for (const session of [peer.previous, peer.current, peer.next]) this.retire(session);
    peer.previous = undefined;
    peer.current = undefined;
    peer.next = undefined;
  }
}
