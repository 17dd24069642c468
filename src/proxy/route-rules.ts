import type { IncomingMessage } from "node:http";
import type { HeaderPair } from "../identity/headers.ts";
import { foldName, isForwarding, isPlainName, isReserved } from "../identity/reserved.ts";
import { withoutDoorCookies } from "./doors/door-cookies.ts";

/** What the operator asks of one mount beyond what upstream's configuration can say. */
export interface RouteRules {
  /** An unsafe request or an upgrade that another site's page makes with the caller's identity (ID-19). @default "pass" */
  readonly crossSite?: "pass" | "deny";
  /** Field names with other characters than letters, digits and dashes that may pass; what folds into one is dropped. */
  readonly otherNames?: readonly string[];
  /** What becomes of a request with any other such name (ID-2). @default "drop" */
  readonly onOtherName?: "drop" | "reject";
  /** Longest body of a request; a longer one is 413. */
  readonly bodyBytes?: number;
  /** Name of the door that stands before it. */
  readonly door?: string;
  /** Where no door stands, nobody from the Internet passes: the network's policy demands one. */
  readonly visitorsNeedDoor?: boolean;
  /** The one issuer whose guests the backend is told of as users, by the mail address that it has verified. */
  readonly guestsAsUsers?: string;
  /**
   * The backend, as `Proxy` names it, that surely reads every body: its connections are kept after one. Where another is
   * asked at that place, nothing is known of it.
   */
  readonly keepAliveAfterBody?: string;
}

const SAFE: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS"]);

/** Does another site's page ask, by what every browser of today says of itself? Programs say nothing of the kind. */
export function isCrossSite({ method, headers }: IncomingMessage, served: string, isUpgrade: boolean): boolean {
  if (SAFE.has(method ?? "") && !isUpgrade) return false;
  const { origin, "sec-fetch-site": site } = headers;
  if (/cross-site/i.test(String(site))) return true; // doubled by somebody on the way, too
  // A page whose policy is `no-referrer` hides its origin in forms of its own site, too (Fetch, "append a request `Origin` header").
  if (origin === "null" && site === "same-origin" && !isUpgrade) return false;
  return origin !== undefined && originOf(origin) !== originOf(served);
}

/** With the scheme's own port left out; `null` and what is no origin equal nothing. */
function originOf(text: string): string | symbol {
  try {
    const { origin } = new URL(text);
    return origin === "null" ? Symbol() : origin;
  } catch {
    return Symbol();
  }
}

export function hasOtherName(raw: readonly string[], listed: readonly string[] = []): boolean {
  const allowed = new Set(listed.map((name) => name.toLowerCase()));
  return raw.some(
    (name, i) => i % 2 === 0 && !name.startsWith(":") && !isPlainName(name) && !allowed.has(name.toLowerCase()),
  );
}

/** Takes listed names, and whatever a backend may fold into them, out of the fields; the listed ones are the result. */
export function takeListed(raw: string[], listed: readonly string[]): HeaderPair[] {
  const spellings = new Map(listed.map((name) => [foldName(name), name.toLowerCase()]));
  const taken: HeaderPair[] = [];
  for (let i = 0; i < raw.length; ) {
    const name = raw[i]!;
    const spelling = spellings.get(foldName(name));
    if (spelling === undefined || name.startsWith(":")) {
      i += 2;
      continue;
    }
    const [, value] = raw.splice(i, 2);
    if (name.toLowerCase() === spelling && !isReserved(name) && !isForwarding(name)) {
      taken.push([name, spelling === "cookie" ? withoutDoorCookies(value!) : value!]);
    }
  }
  return taken;
}
