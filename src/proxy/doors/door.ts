import { timingSafeEqual } from "node:crypto";
import { foldMail, isInDomains, type OidcClient, type OidcPerson } from "../../identity/oidc-client.ts";
import { foldName } from "../../identity/reserved.ts";
import { unescaped } from "../path.ts";
import { DOOR_PATHS } from "./local-path.ts";
import { type SecretHash, tokenDigest } from "./secret-hash.ts";
import type { SessionLife } from "./sessions.ts";

/** One door: in which ways it can be passed, and by whom it must be. */
export interface Door {
  readonly name: string;
  /** Changes with any of its secrets: who came in by the old ones is out. */
  readonly version: string;
  /** `public`: who has an identity in the mesh passes without. */
  readonly stops: "public" | "everyone";
  readonly password?: SecretHash;
  readonly pin?: SecretHash;
  readonly hasLinks: boolean;
  /** Guests may be let in by client certificates that the gateway has made. */
  readonly hasCertificates: boolean;
  readonly tokens: readonly DoorToken[];
  /** The field that a machine's token comes in; in `Authorization` it is a bearer token. */
  readonly tokenHeader: string;
  readonly oidc?: DoorOidc;
  readonly life: SessionLife;
}

/** What is counted: requests that a door has answered, guesses that came too early, visitors who came in. */
export type DoorEvent = "door_refused" | "door_throttled" | "door_passed";

export interface DoorToken {
  /** Of the machine. */
  readonly name: string;
  readonly digest: string;
}

export interface DoorOidc {
  readonly client: OidcClient;
  /** For the button. */
  readonly label: string;
  readonly who: OidcGuests;
}

/** Who may enter, of all whom the provider knows: any of the three. Mail addresses count only when verified. */
export interface OidcGuests {
  readonly addresses: readonly string[];
  readonly domains: readonly string[];
  readonly groups: readonly string[];
  /** Where the provider says in which groups somebody is. */
  readonly groupsClaim: string;
}

export const TOKEN_HEADER = "Sallyport-Door-Token";

/** Whom a door of ours has let in has no other issuer than that door. */
export function issuerOf(door: string): string {
  return `urn:sallyport:door:${door}`;
}

export function mayEnter(who: OidcGuests, { mail, claims }: OidcPerson): boolean {
  if (mail !== undefined) {
    if (who.addresses.some((address) => foldMail(address) === foldMail(mail))) return true;
    if (isInDomains(mail, who.domains)) return true;
  }
  const groups = claims[who.groupsClaim];
  return Array.isArray(groups) && groups.some((group) => who.groups.includes(group as string));
}

/** What a machine presents; `undefined` when it presents none. */
export function presentedToken(raw: readonly string[], header: string): string | undefined {
  const wanted = header.toLowerCase();
  for (let i = 0; i < raw.length; i += 2) {
    if (raw[i]!.toLowerCase() !== wanted) continue;
    const value = raw[i + 1]!.trim();
    if (wanted !== "authorization") return value;
    return /^bearer +(\S+)$/i.exec(value)?.[1];
  }
  return undefined;
}

/** Compares with every token, so that the time says nothing of any. */
export function tokenNamed(tokens: readonly DoorToken[], presented: string): DoorToken | undefined {
  const digest = Buffer.from(tokenDigest(presented));
  let found: DoorToken | undefined;
  for (const token of tokens) if (timingSafeEqual(Buffer.from(token.digest), digest)) found = token;
  return found;
}

/**
 * Takes a door's tokens out of a request's fields (ID-20), under every spelling that folds into its field. Before its own
 * mounts (`isHere`) the field goes wholly; `Authorization`, and whatever comes to other mounts, may be meant for the backend,
 * and goes only when it holds a token, or might hold one. A link may stand in `Referer`.
 */
export function dropTokens(raw: string[], { tokenHeader, tokens }: Door, isHere: boolean): void {
  const header = tokens.length === 0 ? undefined : foldName(tokenHeader);
  const goesWholly = isHere && header !== "authorization";
  for (let i = 0; i < raw.length; ) {
    const [name, value] = [foldName(raw[i]!), raw[i + 1]!];
    const isTokens = name === header && (goesWholly || holdsToken(value, tokens));
    const isOurs = isTokens || (name === "referer" && unescaped(value).toLowerCase().includes(DOOR_PATHS));
    if (isOurs && !raw[i]!.startsWith(":")) raw.splice(i, 2);
    else i += 2;
  }
}

/** Each is hashed: no credentials have more of them, and who sends 30,000 must not have them all looked at. */
const MOST_WORDS = 64;

function holdsToken(value: string, tokens: readonly DoorToken[]): boolean {
  const words = value.split(/[\s,]+/, MOST_WORDS + 1);
  return words.length > MOST_WORDS || words.some((word) => tokenNamed(tokens, word) !== undefined);
}
