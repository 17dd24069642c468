import { randomBytes } from "node:crypto";
import type { Clock } from "../../base/clock.ts";
import { visitorNetwork } from "./guess-limits.ts";
import { tokenDigest } from "./secret-hash.ts";

/** Who passed a door, as the door knows it. */
export interface Guest {
  readonly issuer: string;
  readonly subject: string;
  /** A mail address that the issuer has verified. */
  readonly mail?: string;
  readonly displayName?: string;
  readonly profilePicture?: string;
  /** The link or certificate that let the guest in. */
  readonly pass?: string;
}

export interface SessionLife {
  /** Without a request or an open connection. */
  readonly idleMs: number;
  /** In total. */
  readonly longestMs: number;
}

/**
 * On both clocks, and what comes first counts: one stands still while the machine sleeps, the other may be set back.
 */
interface Instant {
  now: number;
  wall: number;
}

interface Session {
  readonly id: string;
  readonly door: string;
  readonly guest: Guest;
  readonly address: string;
  /** Where its visitor came from. */
  readonly network: string;
  readonly startedWall: number;
  readonly ends: Instant;
  readonly idleMs: number;
  readonly idle: Instant;
  /** Ends what is under way with it. */
  readonly cuts: Set<() => void>;
}

/** What may be shown of a session: nothing that could be used in its place. */
export interface SessionRecord {
  readonly id: string;
  readonly door: string;
  readonly issuer: string;
  readonly subject: string;
  readonly name?: string;
  readonly pass?: string;
  readonly address: string;
  /** Unix ms. */
  readonly startedAt: number;
  readonly connections: number;
}

const MOST_OF_A_DOOR = 4096;
const ID_CHARACTERS = 16;
const SWEEP_MS = 2000;

/**
 * Who is inside, by door. A browser holds a random name for its session and nothing else; here only the name's digest is
 * kept. What ends a session also ends what it has open, within `SWEEP_MS`.
 */
export class Sessions {
  readonly #clock: Clock;
  /** By digest; of each door those used longest ago first. */
  readonly #doors: Map<string, Map<string, Session>> = new Map();
  #isSweeping = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The token that names it. */
  start(door: string, guest: Guest, address: string, life: SessionLife): string {
    const token = randomBytes(32).toString("base64url");
    this.#start(door, tokenDigest(token), guest, address, life);
    return token;
  }

  find(door: string, token: string): HeldSession | undefined {
    return this.#find(door, tokenDigest(token));
  }

  /** Of a guest who proves itself with every connection by what `key` stands for; begun where there is none. */
  of(door: string, key: string, guest: Guest, address: string, life: SessionLife): HeldSession {
    const digest = tokenDigest(`key ${key}`); // no token has a blank
    return this.#find(door, digest) ?? this.#start(door, digest, guest, address, life);
  }

  #start(door: string, digest: string, guest: Guest, address: string, { idleMs, longestMs }: SessionLife): Session {
    const [now, wall] = [this.#clock.now(), this.#clock.wall()];
    const own = this.#doors.get(door) ?? new Map<string, Session>();
    this.#doors.set(door, own);
    if (own.size >= MOST_OF_A_DOOR) this.#end(own, whoMakesRoom(own));
    const session: Session = {
      id: digest.slice(0, ID_CHARACTERS),
      door,
      guest,
      address,
      network: visitorNetwork(address),
      startedWall: wall,
      ends: { now: now + longestMs, wall: wall + longestMs },
      idleMs,
      idle: { now: now + idleMs, wall: wall + idleMs },
      cuts: new Set(),
    };
    own.set(digest, session);
    this.#sweepLater();
    return session;
  }

  #find(door: string, digest: string): Session | undefined {
    const own = this.#doors.get(door);
    const session = own?.get(digest);
    if (own === undefined || session === undefined) return undefined;
    const [now, wall] = [this.#clock.now(), this.#clock.wall()];
    if (isOver(session, now, wall)) {
      this.#end(own, digest);
      return undefined;
    }
    isSeen(session, now, wall);
    own.delete(digest);
    own.set(digest, session);
    return session;
  }

  /** The one that a browser gives back. */
  leave(door: string, token: string): void {
    const own = this.#doors.get(door);
    if (own !== undefined) this.#end(own, tokenDigest(token));
  }

  /** Ends those that `isMeant`; how many there were. */
  revoke(isMeant: (session: SessionRecord) => boolean): number {
    let ended = 0;
    for (const own of this.#doors.values()) {
      for (const [digest, session] of own) {
        if (!isMeant(recordOf(session))) continue;
        this.#end(own, digest);
        ended++;
      }
    }
    return ended;
  }

  list(): readonly SessionRecord[] {
    const [now, wall] = [this.#clock.now(), this.#clock.wall()];
    const all = [...this.#doors.values()].flatMap((own) => [...own.values()]);
    return all.filter((session) => !isOver(session, now, wall)).map(recordOf);
  }

  #end(own: Map<string, Session>, digest: string): void {
    const session = own.get(digest);
    own.delete(digest);
    for (const cut of session?.cuts ?? []) cut();
  }

  #sweepLater(): void {
    if (this.#isSweeping) return;
    this.#isSweeping = true;
    this.#clock.at(this.#clock.now() + SWEEP_MS, () => {
      this.#isSweeping = false;
      this.#sweep();
      if (this.#doors.size > 0) this.#sweepLater();
    });
  }

  #sweep(): void {
    const [now, wall] = [this.#clock.now(), this.#clock.wall()];
    for (const [door, own] of this.#doors) {
      for (const [digest, session] of own) {
        if (session.cuts.size > 0) isSeen(session, now, wall); // something is open: not idle
        if (isOver(session, now, wall)) this.#end(own, digest);
      }
      if (own.size === 0) this.#doors.delete(door);
    }
  }
}

/** A session that a request came with; whatever it opens is to be put into `cuts` while it is open. */
export type HeldSession = Pick<Session, "guest" | "cuts">;

/**
 * Of the network that has most of them the one seen longest ago, and of those with nothing open where there are any: a guest who comes in
 * again and again puts out himself and nobody else.
 */
function whoMakesRoom(own: ReadonlyMap<string, Session>): string {
  const crowds = new Map<string, number>();
  for (const { network } of own.values()) crowds.set(network, (crowds.get(network) ?? 0) + 1);
  const most = Math.max(...crowds.values());
  let busy = "";
  for (const [digest, { network, cuts }] of own) {
    if (crowds.get(network) !== most) continue;
    if (cuts.size === 0) return digest;
    busy ||= digest;
  }
  return busy;
}

function isSeen({ idle, idleMs }: Session, now: number, wall: number): void {
  idle.now = now + idleMs;
  idle.wall = wall + idleMs;
}

function isOver({ ends, idle, cuts }: Session, now: number, wall: number): boolean {
  if (now >= ends.now || wall >= ends.wall) return true;
  return cuts.size === 0 && (now >= idle.now || wall >= idle.wall);
}

function recordOf({ id, door, guest, address, startedWall, cuts }: Session): SessionRecord {
  const { issuer, subject, displayName: name, pass } = guest;
  return {
    id,
    door,
    issuer,
    subject,
    ...(name === undefined ? {} : { name }),
    ...(pass === undefined ? {} : { pass }),
    address,
    startedAt: startedWall,
    connections: cuts.size,
  };
}
