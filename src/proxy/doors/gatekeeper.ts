import type { Clock } from "../../base/clock.ts";
import { Fault } from "../../base/fault.ts";
import type { Log } from "../../base/log.ts";
import type { Store } from "../../base/store.ts";
import type { Caller } from "../../identity/caller.ts";
import { whenOver } from "../passages.ts";
import { isCrossSite } from "../route-rules.ts";
import { type Door, type DoorEvent, dropTokens, issuerOf, presentedToken, tokenNamed } from "./door.ts";
import { cookieValues } from "./door-cookies.ts";
import { doorPage, doorPath, notePage } from "./door-pages.ts";
import { DoorRooms } from "./door-rooms.ts";
import { GuessLimits } from "./guess-limits.ts";
import { GuestPasses } from "./guest-passes.ts";
import { localPath } from "./local-path.ts";
import { type Guest, type HeldSession, Sessions } from "./sessions.ts";
import { sendJson, sendNote, sendPage, type Visit, wantsJson, wantsPage } from "./visit.ts";

export interface GatekeeperOptions {
  readonly clock: Clock;
  readonly log: Log;
  /** Links and wrong guesses outlive the process in it. */
  readonly store: Store;
  /** Called for what should be counted. */
  readonly count?: (event: DoorEvent) => void;
}

/** Where tokens stand in the path, or secrets in the body. */
const SECRET_ROOM = /\/\.sallyport\/+door\/+([a-z0-9-]{1,32})\/+(?:link|enter)(?:\/|$)/i;

/** What the route asks of its door. */
export interface DoorRules {
  readonly door: string;
  /** The one issuer whose guests are users by the address that it has verified. */
  readonly guestsAsUsers: string | undefined;
}

/**
 * Stands before every route that has a door. Whoever has no session and no token is answered here; whoever has is a guest,
 * with the identity that the door proved and no other.
 */
export class Gatekeeper {
  readonly sessions: Sessions;
  readonly passes: GuestPasses;
  readonly #options: GatekeeperOptions;
  readonly #limits: GuessLimits;
  readonly #rooms: DoorRooms;
  #doors: ReadonlyMap<string, Door> = new Map();

  private constructor(options: GatekeeperOptions, limits: GuessLimits, passes: GuestPasses) {
    const { clock, log, count } = options;
    this.#options = options;
    this.#limits = limits;
    this.passes = passes;
    this.sessions = new Sessions(clock);
    const door = (name: string): Door | undefined => this.#doors.get(name);
    this.#rooms = new DoorRooms({ clock, log, limits, passes, sessions: this.sessions, door, count });
  }

  static async open(options: GatekeeperOptions): Promise<Gatekeeper> {
    const { clock, store } = options;
    return new Gatekeeper(options, await GuessLimits.open(clock, store), await GuestPasses.open(clock, store));
  }

  get doors(): readonly Door[] {
    return [...this.#doors.values()];
  }

  /** Other doors from now on. Who came in by one that is gone or has other secrets is out. */
  setDoors(doors: readonly Door[]): void {
    const next = new Map(doors.map((door) => [door.name, door]));
    const changed = [...this.#doors.values()].filter(({ name, version }) => next.get(name)?.version !== version);
    this.#doors = next;
    const names = new Set(changed.map(({ name }) => name));
    this.sessions.revoke(({ door }) => names.has(door));
  }

  /** Takes a pass back, and ends what it let in: at once, and even if it cannot be written to disk. */
  async removePass(id: string): Promise<boolean> {
    const removed = this.passes.remove(id);
    const ended = this.sessions.revoke(({ pass }) => pass === id);
    return (await removed) || ended > 0;
  }

  /** Is one of these doors passed by client certificates? Who need not pass it is not asked for one. */
  wantsCertificate(names: ReadonlySet<string>, caller: Caller | Fault): boolean {
    const needsNone = !(caller instanceof Fault) && isMember(caller);
    return this.doors.some(
      ({ name, hasCertificates, stops }) => hasCertificates && names.has(name) && (stops === "everyone" || !needsNone),
    );
  }

  /** Is it a link's or form's, of a door of this gateway, wherever that stands? No backend is asked for it. */
  isSecretRoom(path: string): boolean {
    return this.#doors.has(SECRET_ROOM.exec(path)?.[1]?.toLowerCase() ?? "");
  }

  /** A machine may send its token to mounts behind other doors, or none. */
  dropTokens(raw: string[]): void {
    for (const door of this.#doors.values()) dropTokens(raw, door, false);
  }

  /** A path of the doors' own, on a site where `names` stand; false when it is none of theirs. */
  answer(visit: Visit, names: ReadonlySet<string>): Promise<boolean> {
    const doors = [...this.#doors.values()].filter(({ name }) => names.has(name));
    return this.#rooms.answer(visit, doors);
  }

  door(name: string): Door | undefined {
    return this.#doors.get(name);
  }

  /** May go on what came in when door `passed`, or none, stood where door `name` stands now? */
  mayStay(name: string, passed: Door | undefined, caller: Caller): boolean {
    const door = this.#doors.get(name);
    if (door === undefined) return false;
    return (isMember(caller) && door.stops === "public") || (passed?.name === name && passed.version === door.version);
  }

  /** Who comes in, or `undefined`: then the visit has been answered. */
  admit(visit: Visit, rules: DoorRules): Caller | undefined {
    const { caller, request } = visit;
    const door = this.#doors.get(rules.door);
    if (door === undefined) return void this.#refuse(visit, 503, "the door of this place is not there yet");
    const token = presentedToken(request.rawHeaders, door.tokenHeader);
    const machine = token === undefined ? undefined : tokenNamed(door.tokens, token);
    dropTokens(request.rawHeaders, door, true);
    const isKnown = isMember(caller);
    if (isKnown && door.stops === "public") return caller;
    if (!visit.isTls) return void this.#refuse(visit, 403, "this place is entered by https:// only");
    if (machine !== undefined) {
      return isKnown ? caller : guestOf(door, { subject: `token:${machine.name}` }, caller.address);
    }
    const held = this.#certified(visit, door) ?? this.#heldSession(visit, door);
    if (held !== undefined) {
      const refusal = this.#misuse(visit);
      if (refusal !== undefined) return void this.#refuse(visit, 403, refusal);
      this.#hold(visit, held);
      return isKnown ? caller : asCaller(held.guest, caller.address, rules.guestsAsUsers);
    }
    if (token !== undefined && door.tokens.length > 0) {
      const wait = this.#limits.take(door.name, "token", caller.address);
      if (wait > 0) return void this.#slow(visit, wait);
    }
    this.#options.count?.("door_refused");
    this.#challenge(visit, door);
    return undefined;
  }

  #certified({ certificate, caller }: Visit, door: Door): HeldSession | undefined {
    const pass =
      door.hasCertificates && certificate !== undefined ? this.passes.holder(door.name, certificate) : undefined;
    if (pass === undefined) return undefined;
    const { id, name, expiresAt } = pass;
    const guest = { issuer: issuerOf(door.name), subject: `certificate:${name}`, displayName: name, pass: id };
    const longestMs = Math.max(1, Math.min(door.life.longestMs, expiresAt - this.#options.clock.wall()));
    return this.sessions.of(door.name, id, guest, caller.address, { ...door.life, longestMs });
  }

  #heldSession({ request }: Visit, door: Door): HeldSession | undefined {
    for (const value of cookieValues(request, door.name)) {
      const session = this.sessions.find(door.name, value);
      if (session !== undefined) return session;
    }
    return undefined;
  }

  /** A cookie comes with every request, whoever makes the browser send it; so does a certificate. */
  #misuse({ request, origin, isUpgrade }: Visit): string | undefined {
    if (isUpgrade && request.headers.origin === undefined) return "an upgrade with this cookie must say its origin";
    return isCrossSite(request, origin, isUpgrade) ? "another site asks in your name" : undefined;
  }

  #hold(visit: Visit, { cuts }: HeldSession): void {
    const { cut } = visit;
    cuts.add(cut);
    whenOver(visit, () => cuts.delete(cut));
  }

  #challenge(visit: Visit, door: Door): void {
    const { request, origin, target } = visit;
    const isForm = request.method !== "GET" && request.method !== "HEAD";
    const to = localPath(isForm ? "/" : target);
    const scheme = door.tokenHeader.toLowerCase() === "authorization" ? "Bearer" : "Sallyport-Door";
    const extra = [["WWW-Authenticate", `${scheme} realm="${door.name}"`]] as const;
    const address = `${origin}${doorPath(door.name)}`;
    if (visit.isUpgrade || (!wantsPage(visit) && !wantsJson(visit))) {
      const hint = door.tokens.length > 0 ? `, or send a token in ${door.tokenHeader}` : "";
      sendNote(visit, 401, `401 this place has a door: open ${address} in a browser${hint}`, extra);
    } else if (wantsPage(visit)) sendPage(visit, 401, doorPage(door, to), extra);
    else sendJson(visit, 401, { error: "this place has a door", door: door.name, open: address }, extra);
  }

  #refuse(visit: Visit, status: number, text: string): void {
    if (wantsPage(visit) && !visit.isUpgrade) sendPage(visit, status, notePage("Not let in", text));
    else sendNote(visit, status, `${status} ${text}`);
  }

  #slow(visit: Visit, waitMs: number): void {
    this.#options.count?.("door_throttled");
    sendNote(visit, 429, "429 too many wrong tokens", [["Retry-After", String(Math.ceil(waitMs / 1000))]]);
  }
}

const isMember = ({ kind }: Caller): boolean => kind === "user" || kind === "tagged";

function guestOf(door: Door, { subject }: { subject: string }, address: string): Caller {
  return { kind: "guest", issuer: issuerOf(door.name), subject, address };
}

function asCaller(guest: Guest, address: string, guestsAsUsers: string | undefined): Caller {
  const { issuer, subject, mail, displayName = "", profilePicture = "" } = guest;
  const caller = { kind: "guest", issuer, subject, address } as const;
  if (guestsAsUsers === undefined || issuer !== guestsAsUsers || mail === undefined) return caller;
  return { ...caller, user: { login: mail, displayName, profilePicture } };
}
