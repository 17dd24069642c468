import type { Clock } from "../../base/clock.ts";
import { Fault } from "../../base/fault.ts";
import type { Log } from "../../base/log.ts";
import { type Door, type DoorEvent, issuerOf, mayEnter } from "./door.ts";
import { cookieValues, setCookie } from "./door-cookies.ts";
import { CALLBACK_PATH, doorPage, doorPath, leavePage, linkPage, notePage } from "./door-pages.ts";
import type { GuessedWay, GuessLimits } from "./guess-limits.ts";
import type { GuestPass, GuestPasses } from "./guest-passes.ts";
import { localPath } from "./local-path.ts";
import { LONGEST_PASSWORD, SecretChecks, withoutMarks } from "./secret-hash.ts";
import type { Guest, SessionLife, Sessions } from "./sessions.ts";
import { SignIns } from "./sign-ins.ts";
import { SpentLinks } from "./spent-links.ts";
import { isFromHere, readForm, sendOn, sendPage, type Visit } from "./visit.ts";

export interface DoorRoomsOptions {
  readonly clock: Clock;
  readonly log: Log;
  readonly limits: GuessLimits;
  readonly passes: GuestPasses;
  readonly sessions: Sessions;
  /** The door of this name as it is now. */
  readonly door: (name: string) => Door | undefined;
  readonly count?: ((event: DoorEvent) => void) | undefined;
}

const ROOM = /^\/\.sallyport\/door\/([a-z0-9-]{1,32})(?:\/(enter|oidc|leave|link)(?:\/([\w-]{43}))?)?$/;
const SIGN_IN_COOKIE = "oidc-state";
const SIGN_IN_S = 600;

/** The pages and forms of the doors themselves: what turns a stranger into a guest. */
export class DoorRooms {
  readonly #options: DoorRoomsOptions;
  readonly #checks: SecretChecks = new SecretChecks();
  readonly #signIns: SignIns;
  readonly #spentLinks: SpentLinks;

  constructor(options: DoorRoomsOptions) {
    this.#options = options;
    this.#signIns = new SignIns(options.clock);
    this.#spentLinks = new SpentLinks(options.clock);
  }

  /** False when the path is none of these doors'. */
  async answer(visit: Visit, doors: readonly Door[]): Promise<boolean> {
    const { pathname, searchParams, search } = new URL(visit.target, "https://unused");
    const { method } = visit.request;
    const isRead = method === "GET" || method === "HEAD";
    const to = localPath(searchParams.get("to"));
    try {
      if (pathname === CALLBACK_PATH && isRead) {
        await this.#callback(visit, search, doors);
        return true;
      }
      const [, name, room, token] = ROOM.exec(pathname) ?? [];
      const door = doors.find((one) => one.name === name);
      if (door === undefined) return false;
      // The address of a form, loaded again, is the door's.
      if ((room === undefined || room === "enter") && isRead) sendPage(visit, 200, doorPage(door, to));
      else if (room === "leave" && isRead) sendPage(visit, 200, leavePage(door.name));
      else if (room === "oidc" && isRead && door.oidc !== undefined) await this.#begin(visit, door, to);
      else if (room === "link" && isRead && token !== undefined) this.#showLink(visit, door, token, to);
      else if (method !== "POST" || room === undefined || room === "oidc") return false;
      else if (!isFromHere(visit)) sendPage(visit, 403, notePage("Not let in", NOT_FROM_HERE, doorPath(door.name)));
      else if (room === "leave") this.#leave(visit, door);
      else if (room === "enter") await this.#enter(visit, door);
      else if (token !== undefined) await this.#useLink(visit, door, token);
      else return false;
    } catch (thrown) {
      this.#fail(visit, thrown);
    }
    return true;
  }

  async #enter(visit: Visit, door: Door): Promise<void> {
    const { limits } = this.#options;
    const { address } = visit.caller;
    const form = await readForm(visit, this.#options.clock);
    const way = form.get("way") === "pin" ? "pin" : "password";
    const hash = door[way];
    const to = localPath(form.get("to"));
    const given = form.get("secret") ?? "";
    const secret = way === "pin" ? withoutMarks(given) : given;
    if (hash === undefined || secret === "" || secret.length > LONGEST_PASSWORD) {
      return sendPage(visit, 400, doorPage(door, to, "Nothing that this door asks for was sent."));
    }
    if (this.#mustWait(visit, door, way)) return;
    let isRight: boolean;
    try {
      isRight = await this.#checks.matches(hash, secret);
    } catch (thrown) {
      limits.giveBack(door.name, way, address); // it was not looked at
      throw thrown;
    }
    if (!isRight) {
      this.#options.log.info("door.wrong_guess", { door: door.name, way });
      const what = way === "pin" ? "PIN" : "password";
      return sendPage(visit, 401, doorPage(door, to, `That is not the ${what}. Nothing else is known of it here.`));
    }
    limits.right(door.name, way, address);
    this.#letIn(visit, door, { issuer: issuerOf(door.name), subject: way }, to);
  }

  /** Answered with when to come back, if it is too early. */
  #mustWait(visit: Visit, door: Door, way: GuessedWay): boolean {
    const wait = this.#options.limits.take(door.name, way, visit.caller.address);
    if (wait <= 0) return false;
    this.#options.count?.("door_throttled");
    const seconds = Math.ceil(wait / 1000);
    const when = seconds > 90 ? `${Math.ceil(seconds / 60)} minutes` : `${seconds} seconds`;
    const text = `Too many wrong tries. Come back in ${when}; trying earlier does not help.`;
    sendPage(visit, 429, notePage("Wait a while", text, doorPath(door.name)), [["Retry-After", String(seconds)]]);
    return true;
  }

  #showLink(visit: Visit, door: Door, token: string, to: string): void {
    const link = door.hasLinks ? this.#options.passes.find(door.name, token) : undefined;
    // People keep the link that they were sent, and come by it again.
    if (link === undefined && this.#isInside(visit, door)) sendOn(visit, to);
    else if (link === undefined) this.#linkIsOver(visit, door);
    else sendPage(visit, 200, linkPage(`${doorPath(door.name)}/link/${token}`, to, link.name));
  }

  #isInside({ request }: Visit, { name }: Door): boolean {
    return cookieValues(request, name).some((token) => this.#options.sessions.find(name, token) !== undefined);
  }

  async #useLink(visit: Visit, door: Door, token: string): Promise<void> {
    const { passes, sessions } = this.#options;
    const form = await readForm(visit, this.#options.clock);
    const [page, to] = [form.get("page"), localPath(form.get("to"))];
    const found = door.hasLinks ? passes.find(door.name, token) : undefined;
    if (found === undefined) {
      const before = door.hasLinks ? await this.#spentLinks.find(token, page) : undefined;
      const isIn = before?.door === door.name && sessions.revoke(({ pass }) => pass === before.id) > 0;
      if (isIn) this.#letInBy(before, visit, door, to);
      else if (!this.#mustWait(visit, door, "link")) this.#linkIsOver(visit, door);
      return;
    }
    if (this.#isChanged(visit, door)) return;
    const spent = passes.spend(door.name, token);
    if (found.isOnce) this.#spentLinks.add(token, page, spent);
    const link = await spent;
    if (link === undefined) return this.#linkIsOver(visit, door);
    this.#letInBy(link, visit, door, to);
  }

  #letInBy(link: GuestPass, visit: Visit, door: Door, to: string): void {
    const subject = `link:${link.name}`;
    const guest = { issuer: issuerOf(door.name), subject, displayName: link.name, pass: link.id };
    const untilExpiry = Math.max(1, link.expiresAt - this.#options.clock.wall());
    const longestMs = link.isOnce ? door.life.longestMs : Math.min(door.life.longestMs, untilExpiry);
    this.#letIn(visit, door, guest, to, { ...door.life, longestMs });
  }

  #linkIsOver(visit: Visit, door: Door): void {
    sendPage(visit, 404, notePage("This link is over", LINK_OVER, doorPath(door.name)));
  }

  async #begin(visit: Visit, door: Door, to: string): Promise<void> {
    const { origin, caller } = visit;
    const attempt = await door.oidc!.client.begin(new URL(CALLBACK_PATH, origin).href);
    const [before] = cookieValues(visit.request, SIGN_IN_COOKIE);
    const secret = this.#signIns.begin({ door: door.name, to, attempt }, caller.address, before);
    sendOn(visit, attempt.url.href, [["Set-Cookie", setCookie(SIGN_IN_COOKIE, secret, SIGN_IN_S)]]);
  }

  async #callback(visit: Visit, query: string, doors: readonly Door[]): Promise<void> {
    const [secret] = cookieValues(visit.request, SIGN_IN_COOKIE);
    const state = new URLSearchParams(query).get("state") ?? "";
    const begun = secret === undefined ? undefined : this.#signIns.take(secret, state);
    const door = doors.find(({ name }) => name === begun?.door);
    const oidc = door?.oidc;
    if (begun === undefined || door === undefined || oidc === undefined) {
      return sendPage(visit, 403, notePage("Not let in", NOT_BEGUN, "/"));
    }
    const person = await oidc.client.finish(query, begun.attempt);
    if (!mayEnter(oidc.who, person)) {
      this.#options.log.info("door.stranger", { door: door.name, issuer: person.issuer, subject: person.subject });
      return sendPage(visit, 403, notePage("Not let in", NOT_A_GUEST, doorPath(door.name)));
    }
    const { claims: _, mail, ...guest } = person;
    this.#letIn(visit, door, mail === undefined ? guest : { ...guest, mail }, begun.to);
  }

  /** A session of its own for each time; one that the browser had before is over. */
  #letIn(visit: Visit, door: Door, guest: Guest, to: string, life: SessionLife = door.life): void {
    const { sessions, log, count } = this.#options;
    if (this.#isChanged(visit, door)) return;
    for (const before of cookieValues(visit.request, door.name)) sessions.leave(door.name, before);
    const token = sessions.start(door.name, guest, visit.caller.address, life);
    log.info("door.passed", { door: door.name, issuer: guest.issuer, subject: guest.subject });
    count?.("door_passed");
    sendOn(visit, to, [["Set-Cookie", setCookie(door.name, token, Math.ceil(life.longestMs / 1000))]]);
  }

  /** Forms, hashes and providers take their time: what was right by the secrets of before lets nobody in by now. */
  #isChanged(visit: Visit, { name, version }: Door): boolean {
    if (this.#options.door(name)?.version === version) return false;
    sendPage(visit, 403, notePage("Not let in", DOOR_CHANGED, doorPath(name)));
    return true;
  }

  #leave(visit: Visit, door: Door): void {
    for (const token of cookieValues(visit.request, door.name)) this.#options.sessions.leave(door.name, token);
    const gone = [["Set-Cookie", setCookie(door.name, "", 0)]] as const;
    sendPage(visit, 200, notePage("You have left", "The door is closed behind you.", doorPath(door.name)), gone);
  }

  #fail(visit: Visit, thrown: unknown): void {
    const { log } = this.#options;
    const { response } = visit;
    if (response.headersSent || response.destroyed) return void response.destroy();
    const code = thrown instanceof Fault ? thrown.code : "";
    if (code === "") log.error("door.failed", { error: String(thrown) });
    else log.warn("door.refused", { code, error: (thrown as Fault).message });
    const [status, text] = FAILURES.get(code) ?? [500, "Something went wrong. The gateway's log says what."];
    const extra = status === 503 ? ([["Retry-After", "5"]] as const) : [];
    sendPage(visit, status, notePage("Not let in", text, "/"), extra);
  }
}

const FAILURES: ReadonlyMap<string, readonly [status: number, text: string]> = new Map([
  ["DOOR_BUSY", [503, "Too many are at the door. Try again in a moment."]],
  ["DOOR_FORM", [400, "The form could not be read."]],
  ["OIDC_REFUSED", [403, "The provider did not say who you are. Start again."]],
  ["OIDC_UNREACHABLE", [502, "The provider cannot be asked now. Try again later."]],
]);

const NOT_FROM_HERE = "This form was not sent by a page of this place. Open the door again.";
const NOT_BEGUN = "This browser has not begun to sign in here, or that was too long ago. Start again.";
const NOT_A_GUEST = "You are known, but not among those who may enter here.";
const DOOR_CHANGED = "This door was changed meanwhile. Open it again.";
const LINK_OVER = "It was used, has run out, or was taken back. Ask for another one.";
