import type { IncomingMessage } from "node:http";
import { foldName } from "../../identity/reserved.ts";
import { unescaped } from "../path.ts";

const PREFIX = "__Host-sallyport-";
const MOST_VALUES = 4;
/** Names of cookies that only doors set: by prefix of the folded name. */
const OURS: readonly string[] = ["sallyport", "host-sallyport", "secure-sallyport"];

export function cookieName(door: string): string {
  return PREFIX + door;
}

/** Secure and `__Host-`: no other site, no plain HTTP and no subdomain can set it. `maxAgeS` 0 takes it away. */
export function setCookie(door: string, token: string, maxAgeS: number): string {
  return `${cookieName(door)}=${token}; Path=/; Max-Age=${maxAgeS}; HttpOnly; Secure; SameSite=Lax`;
}

/** What the visitor's browser holds for this door; another of the same name may have been put beside it. */
export function cookieValues(request: IncomingMessage, door: string): readonly string[] {
  const name = cookieName(door);
  const values: string[] = [];
  for (const pair of (request.headers.cookie ?? "").split(";")) {
    const equals = pair.indexOf("=");
    if (equals < 0 || pair.slice(0, equals).trim() !== name) continue;
    const value = pair.slice(equals + 1).trim();
    if (/^[\w-]{43}$/.test(value) && values.length < MOST_VALUES) values.push(value);
  }
  return values;
}

/**
 * The value of a `Cookie` field without the doors' cookies, under any spelling that a backend may fold into one; the
 * others as they were. Empty when nothing is left (ID-20).
 */
export function withoutDoorCookies(value: string): string {
  if (!/sallyport|%/i.test(value)) return value;
  const parts = value.split(";");
  const kept = parts.filter((part) => !holdsDoorCookie(part));
  return kept.length === parts.length ? value : kept.join(";").trim();
}

/** Is a backend's `Set-Cookie` for one of the doors' names? */
export function setsDoorCookie(value: string): boolean {
  return isDoorCookie(nameOf(value.split(";", 1)[0]!));
}

/** Readers of RFC 2109 see further cookies behind commas, and some behind blanks or quotes. */
function holdsDoorCookie(part: string): boolean {
  return part.split(/[,\s"]+/).some((piece) => isDoorCookie(nameOf(piece)));
}

/** A cookie without a name, `=name=value`, is sent as `name=value` by some browsers, and read so by some servers. */
function nameOf(piece: string): string {
  return piece.replace(/^[\s=]+/, "").split("=", 1)[0]!;
}

function isDoorCookie(name: string): boolean {
  const folded = foldName(unescaped(name)); // old PHP decodes names before it folds them
  return OURS.some((own) => folded === own || folded.startsWith(`${own}-`));
}
