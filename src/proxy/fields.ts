import type { HeaderPair } from "../identity/headers.ts";
import { isForwarding, isPlainName, isReserved } from "../identity/reserved.ts";

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

function namedInConnection(raw: readonly string[]): Set<string> {
  const named = new Set<string>();
  for (let i = 0; i < raw.length; i += 2) {
    if (raw[i]!.length !== 10 || raw[i]!.toLowerCase() !== "connection") continue;
    for (const token of raw[i + 1]!.split(",")) named.add(token.trim().toLowerCase());
  }
  return named;
}

/** The caller's fields that may travel on. Reserved ones go first, before anything looks at the request. */
export function requestFields(
  raw: readonly string[],
  isChunked: boolean,
): Map<string, [name: string, values: string[]]> {
  const named = namedInConnection(raw);
  const fields = new Map<string, [string, string[]]>();
  const add = (name: string, value: string): void => {
    const lower = name.toLowerCase();
    const field = fields.get(lower);
    if (field === undefined) fields.set(lower, [name, [value]]);
    else if (lower === "cookie")
      field[1][0] += `; ${value}`; // HTTP/2 may split it (RFC 9113 section 8.2.3)
    else field[1].push(value);
  };
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i]!;
    const value = raw[i + 1]!;
    if (isReserved(name) || !isPlainName(name) || isForwarding(name)) continue;
    const lower = name.toLowerCase();
    if (lower === "host" || lower === "content-length") continue; // written anew
    if (lower === "te" && /(?:^|[,\s])trailers(?:$|[,;\s])/i.test(value)) add("Te", "trailers");
    if (lower === "trailer" && isChunked) {
      const announced = value.split(",").map((token) => token.trim());
      const allowed = announced.filter((token) => isPlainName(token) && !isReserved(token) && !isForwarding(token));
      if (allowed.length > 0) add(name, allowed.join(", "));
    }
    if (HOP_BY_HOP.has(lower) || named.has(lower)) continue;
    add(name, value);
  }
  return fields;
}

/** The backend's fields that may travel back. */
export function answerFields(raw: readonly string[], rewrite: (name: string, value: string) => string): HeaderPair[] {
  const named = namedInConnection(raw);
  const pairs: HeaderPair[] = [];
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i]!;
    const lower = name.toLowerCase();
    if (isReserved(name) || lower.startsWith("x-forwarded-")) continue;
    if (lower === "trailer") {
      const allowed = raw[i + 1]!.split(",").filter((token) => !isReserved(token.trim()));
      if (allowed.length > 0) pairs.push([name, allowed.join(",").trim()]);
      continue;
    }
    if (HOP_BY_HOP.has(lower) || named.has(lower)) continue;
    pairs.push([name, rewrite(lower, raw[i + 1]!)]);
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
