import type { IncomingHttpHeaders } from "node:http";

/** What the conditional fields and `Range` of a request leave to be sent of a file without an ETag. */
export type Wanted =
  | { readonly status: 200 | 304 | 412 | 416 }
  | { readonly status: 206; readonly start: number; readonly end: number };

interface Asked {
  readonly method: string;
  readonly headers: IncomingHttpHeaders;
}

/** In the order of RFC 9110 section 13.2.2. */
export function wantedOf({ method, headers }: Asked, size: number, modified: Date): Wanted {
  const at = Math.floor(modified.getTime() / 1000) * 1000;
  const isRead = method === "GET" || method === "HEAD";
  const { "if-match": match, "if-unmodified-since": before, "if-none-match": noneMatch } = headers;
  if (match !== undefined && match !== "") {
    if (match.trim() !== "*") return { status: 412 }; // we send no ETag, so no other can match
  } else if (at > (dateOf(before) ?? Number.POSITIVE_INFINITY)) return { status: 412 };
  if (noneMatch !== undefined && noneMatch !== "") {
    if (noneMatch.trim() === "*") return { status: isRead ? 304 : 412 };
  } else if (isRead && at <= (dateOf(headers["if-modified-since"]) ?? Number.NEGATIVE_INFINITY)) return { status: 304 };
  const condition = headers["if-range"]?.toString();
  if (isRead && condition !== undefined && condition !== "" && dateOf(condition) !== at) return { status: 200 };
  return rangeOf(headers.range ?? "", size);
}

/** RFC 9110 section 5.6.7: the three forms, and nothing else that `Date` would read. */
const DATES: readonly RegExp[] = [
  /^[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT$/,
  /^[A-Z][a-z]{5,8}, \d\d-[A-Z][a-z]{2}-\d\d \d\d:\d\d:\d\d GMT$/,
  /^[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}$/,
];

function dateOf(text: string | undefined): number | undefined {
  if (text === undefined || !DATES.some((form) => form.test(text))) return undefined;
  const at = Date.parse(text.endsWith("GMT") ? text : `${text} GMT`);
  return Number.isNaN(at) ? undefined : at;
}

/** One range; other units and several ranges are answered whole, as RFC 9110 section 14.2 has it. */
function rangeOf(text: string, size: number): Wanted {
  if (!text.startsWith("bytes=") || text.includes(",")) return { status: 200 };
  const spec = text.slice("bytes=".length).trim();
  if (spec === "") return { status: 200 };
  const match = /^(\d*)\s*-\s*(\d*)$/.exec(spec);
  if (match === null || (match[1] === "" && match[2] === "")) return { status: 416 };
  const [first, last] = [Number(match[1]), Number(match[2])];
  if (first > Number.MAX_SAFE_INTEGER || last > Number.MAX_SAFE_INTEGER) return { status: 416 };
  if (match[1] === "") {
    return last === 0 || size === 0 ? { status: 416 } : { status: 206, start: Math.max(0, size - last), end: size };
  }
  const end = match[2] === "" ? size : Math.min(size, last + 1);
  return first >= size || (match[2] !== "" && last < first) ? { status: 416 } : { status: 206, start: first, end };
}
