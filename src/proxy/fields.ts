import type { HeaderPair } from "../identity/headers.ts";
import { isForwarding, isPlainName, isReserved } from "../identity/reserved.ts";
import { setsDoorCookie, withoutDoorCookies } from "./doors/door-cookies.ts";

/** RFC 9110 section 7.6.1 and what proxies of old add to it. */
const HOP_BY_HOP: ReadonlySet<string> = new Set([
  "connection",
  "proxy-connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "http2-settings",
]);

/** RFC 9110 section 7.6.1; `undefined` when nothing is named. */
function namedInConnection(raw: readonly string[]): Set<string> | undefined {
  let named: Set<string> | undefined;
  for (let i = 0; i < raw.length; i += 2) {
    if (raw[i]!.length !== 10 || raw[i]!.toLowerCase() !== "connection") continue;
    named ??= new Set();
    for (const token of raw[i + 1]!.split(",")) named.add(token.trim().toLowerCase());
  }
  return named;
}

/** What becomes of a caller's field, by its name alone. */
type Fate = "drop" | "pass" | "cookie" | "te" | "trailer";

/** Reserved names are the first question, before anything else is asked about a field. */
const fateOf: (name: string) => Fate = remembered((name) => {
  if (isReserved(name) || !isPlainName(name) || isForwarding(name)) return "drop";
  const lower = name.toLowerCase();
  if (lower === "host" || lower === "content-length") return "drop"; // written anew
  if (lower === "te" || lower === "trailer" || lower === "cookie") return lower;
  return HOP_BY_HOP.has(lower) ? "drop" : "pass";
});

const MOST_REMEMBERED = 2048;

/** By spelling: nearly every message brings the same dozen names. */
function remembered<T>(judge: (name: string) => T): (name: string) => T {
  const known: Map<string, T> = new Map();
  return (name) => {
    let fate = known.get(name);
    if (fate === undefined) {
      if (known.size >= MOST_REMEMBERED) known.clear();
      fate = judge(name);
      known.set(name, fate);
    }
    return fate;
  };
}

/** The caller's fields that may travel on, in its order. */
export function requestFields(raw: readonly string[], isChunked: boolean): HeaderPair[] {
  const named = namedInConnection(raw);
  const pairs: HeaderPair[] = [];
  let cookieAt = -1;
  let hasTe = false;
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i]!;
    const fate = fateOf(name);
    if (fate === "drop") continue;
    const value = raw[i + 1]!;
    if (fate === "te") {
      if (!hasTe && /(?:^|[,\s])trailers(?:$|[,;\s])/i.test(value)) pairs.push(["Te", "trailers"]);
      hasTe = true;
    } else if (fate === "trailer") {
      const allowed = isChunked ? value.split(",").filter((token) => mayTrail(token.trim())) : [];
      if (allowed.length > 0) pairs.push([name, allowed.map((token) => token.trim()).join(", ")]);
    } else if (named?.has(name.toLowerCase()) === true) {
      // meant for us alone
    } else if (fate === "cookie") {
      const left = withoutDoorCookies(value);
      if (left === "" && value !== "") continue;
      if (cookieAt < 0) cookieAt = pairs.push([name, left]) - 1;
      else pairs[cookieAt] = [name, `${pairs[cookieAt]![1]}; ${left}`]; // HTTP/2 may split it (RFC 9113 section 8.2.3)
    } else pairs.push([name, value]);
  }
  return pairs;
}

function mayTrail(name: string): boolean {
  return isPlainName(name) && !isReserved(name) && !isForwarding(name);
}

type AnswerFate = "drop" | "pass" | "trailer" | "length" | "rewrite";

const answerFateOf: (name: string) => AnswerFate = remembered((name) => {
  const lower = name.toLowerCase();
  if (isReserved(name) || lower.startsWith("x-forwarded-")) return "drop";
  if (lower === "trailer") return "trailer";
  if (lower === "content-length") return "length";
  if (lower === "location" || lower === "content-location" || lower === "set-cookie") return "rewrite";
  return HOP_BY_HOP.has(lower) ? "drop" : "pass";
});

export interface AnswerShape {
  /** Trailers may follow, so they may be announced. */
  readonly hasTrailers: boolean;
  readonly hasLength: boolean;
}

const WHOLE: AnswerShape = { hasTrailers: true, hasLength: true };

/** The backend's fields that may travel back; `rewrite` is asked about those that may name its address. */
export function answerFields(
  raw: readonly string[],
  rewrite: (name: string, value: string) => string,
  { hasTrailers, hasLength }: AnswerShape = WHOLE,
): HeaderPair[] {
  const named = namedInConnection(raw);
  const pairs: HeaderPair[] = [];
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i]!;
    const fate = answerFateOf(name);
    if (fate === "drop" || (fate === "length" && !hasLength)) continue;
    const value = raw[i + 1]!;
    if (fate === "trailer") {
      const allowed = hasTrailers ? value.split(",").filter((token) => !isReserved(token.trim())) : [];
      if (allowed.length > 0) pairs.push([name, allowed.join(",").trim()]);
    } else if (named?.has(name.toLowerCase()) !== true) {
      if (fate === "rewrite" && name.length === 10 && setsDoorCookie(value)) continue;
      pairs.push([name, fate === "rewrite" ? rewrite(name.toLowerCase(), value) : value]);
    }
  }
  return pairs;
}

/** Trailer fields of an answer, without what no trailer may carry (RFC 9110 section 6.5.1). */
export function trailerFields(raw: readonly string[]): HeaderPair[] {
  const pairs: HeaderPair[] = [];
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i]!;
    const lower = name.toLowerCase();
    const isFraming = HOP_BY_HOP.has(lower) || lower === "content-length" || lower === "host" || lower === "set-cookie";
    if (!isFraming && !isReserved(name) && isPlainName(name)) pairs.push([name, raw[i + 1]!]);
  }
  return pairs;
}
