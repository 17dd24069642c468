import type { Mount, Site } from "./serve-lookup.ts";

/** A request target in the one normal form that both decides the route and travels to the backend (RT-1). */
export interface Target {
  /** As it travels: escaped, without dot segments. */
  readonly path: string;
  /** As the caller spelled it, but for dot segments. */
  readonly spelled: string;
  /** Decoded; each character is one byte. */
  readonly decoded: string;
  /** With its `?`; empty when there is none. */
  readonly query: string;
  /** What else a backend may take the decoded path for; empty for nearly every path. */
  readonly readings: readonly string[];
}

const ILLEGAL_IN_PATH = /[^A-Za-z0-9\-._~!$&'()*+,;=:@[\]/%]|%(?![0-9A-Fa-f]{2})/;

/** `undefined` = a target that different parsers read differently: 400. */
export function readTarget(text: string): Target | undefined {
  if (!/^\/[\x21-\x7e]*$/.test(text) || /[#\\]/.test(text)) return undefined;
  const mark = text.indexOf("?");
  const raw = mark < 0 ? text : text.slice(0, mark);
  if (/%(?![0-9A-Fa-f]{2})/.test(raw)) return undefined;
  const spelled = withoutDots(raw);
  const decoded = unescaped(spelled);
  const readings = otherReadings(decoded);
  if (hidesDots(decoded) || readings.some(hidesDots)) return undefined;
  const path = escapedAs(spelled, decoded);
  return { path, spelled, decoded, query: mark < 0 ? "" : normalQuery(text.slice(mark)), readings };
}

/**
 * Each is what some backend does to a path: Windows; C, and whoever makes an address of it again (CVE-2024-38475); Java's servlets;
 * the URL Standard.
 */
const HABITS: readonly ((text: string) => string)[] = [
  (text) => text.replaceAll("\\", "/"),
  (text) => /^[^\0?#]*/.exec(text)![0],
  (text) => text.replace(/;[^/]*/g, ""),
  (text) => text.replace(/[\t\n\r]/g, ""),
];

/** The path as backends read it that decode it twice, or have one of the habits, or several of them. */
function otherReadings(decoded: string): readonly string[] {
  if (!/[;\\\0%?#\t\n\r]/.test(decoded)) return [];
  const readings = new Set([decoded, unescaped(decoded)]);
  for (const habit of HABITS) for (const reading of [...readings]) readings.add(habit(reading));
  readings.delete(decoded);
  return [...readings];
}

const PERCENT = 0x25;
const NO_DIGIT = 0xff;
/** Of each byte that is a hex digit, its value. */
const DIGITS: Uint8Array = new Uint8Array(256).fill(NO_DIGIT);
for (const digit of "0123456789abcdefABCDEF") DIGITS[digit.charCodeAt(0)] = Number.parseInt(digit, 16);

/** Each `%xx` as one character, and nothing refused. A loop: a function call for each escape of 8 KiB is 2 ms (RT-4). */
export function unescaped(text: string): string {
  const first = text.indexOf("%");
  if (first < 0) return text;
  const bytes = Buffer.from(text, "latin1");
  let length = first;
  for (let at = first; at < bytes.length; at++) {
    const high = DIGITS[bytes[at + 1] ?? 0]!;
    const low = DIGITS[bytes[at + 2] ?? 0]!;
    const isEscape = bytes[at] === PERCENT && high !== NO_DIGIT && low !== NO_DIGIT;
    bytes[length++] = isEscape ? 16 * high + low : bytes[at]!;
    if (isEscape) at += 2;
  }
  return bytes.toString("latin1", 0, length);
}

/** Go keeps the caller's spelling of a legal path and encodes any other one anew (net/url validEncoded). */
function escapedAs(spelled: string, decoded: string): string {
  return ILLEGAL_IN_PATH.test(spelled) ? escapePath(decoded) : spelled;
}

/** Go `url.escape` in its mode for paths. */
function escapePath(decoded: string): string {
  return decoded.replace(/[^A-Za-z0-9\-._~$&+,/:;=@]/g, hexed);
}

function hexed(character: string): string {
  return `%${character.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}`;
}

/** No dot segment is longer than `%2e%2e`. */
const dotsOf = (segment: string): string =>
  segment.length <= 6 && segment.includes("%") ? segment.replace(/%2e/gi, ".") : segment;

/** RFC 3986 section 5.2.4, also for dots that are escaped. Empty segments stay: backends tell them apart. */
function withoutDots(path: string): string {
  if (!/\/(?:\.|%2e)/i.test(path)) return path;
  const segments = path.split("/");
  const kept: string[] = [];
  for (let i = 1; i < segments.length; i++) {
    const plain = dotsOf(segments[i]!);
    if (plain === "..") kept.pop();
    if (plain !== "." && plain !== "..") kept.push(segments[i]!);
    else if (i === segments.length - 1) kept.push("");
  }
  return `/${kept.join("/")}`;
}

/** Dot segments that only show once `%2F` or `%5C` is decoded, or behind path parameters (`..;x`). */
function hidesDots(decoded: string): boolean {
  return /(?:^|[/\\])\.{1,2}(?:;[^/\\]*)?(?:[/\\]|$)/.test(decoded);
}

/** Go's ReverseProxy drops what `url.ParseQuery` cannot read, so that both ends see the same parameters. */
function normalQuery(query: string): string {
  if (!query.includes(";") && !/%(?![0-9A-Fa-f]{2})/.test(query)) return query;
  const pairs = new Map<string, string[]>();
  for (const part of query.slice(1).split("&")) {
    if (part === "" || part.includes(";") || /%(?![0-9A-Fa-f]{2})/.test(part)) continue;
    const equals = part.indexOf("=");
    const key = formDecoded(equals < 0 ? part : part.slice(0, equals));
    const value = equals < 0 ? "" : formDecoded(part.slice(equals + 1));
    const values = pairs.get(key);
    if (values === undefined) pairs.set(key, [value]);
    else values.push(value);
  }
  const keys = [...pairs.keys()].sort((a, b) => (a < b ? -1 : 1));
  const text = keys
    .flatMap((key) => pairs.get(key)!.map((value) => `${formEncoded(key)}=${formEncoded(value)}`))
    .join("&");
  return text === "" ? "" : `?${text}`;
}

const formDecoded = (text: string): string => unescaped(text.replaceAll("+", " "));
const formEncoded = (bytes: string): string => bytes.replace(/[^A-Za-z0-9\-._~ ]/g, hexed).replaceAll(" ", "+");

/** The mount of a decoded path (serve sheet 3.3). */
export function findMount(site: Site, decoded: string): Mount | undefined {
  const exact = site.get(decoded);
  if (exact !== undefined) return exact;
  if (!decoded.startsWith("/")) return undefined;
  let path = decoded.replace(/\/{2,}/g, "/");
  if (path.length > 1 && path.endsWith("/")) path = path.slice(0, -1);
  // Nothing longer than the longest mount can be one, so the steps below are those of a mount and not of the path (RT-4).
  let longest = 1;
  for (const point of site.keys()) if (point.length > longest) longest = point.length;
  if (path.length > longest) path = path.slice(0, path.lastIndexOf("/", longest)) || "/";
  for (;;) {
    const found = site.get(path === "/" ? "/" : `${path}/`) ?? site.get(path);
    if (found !== undefined || path === "/") return found;
    path = path.slice(0, path.lastIndexOf("/")) || "/";
  }
}

/** Does some backend read a path that lies below another mount, with other rights (RT-1)? */
export function isAmbiguous(site: Site, { readings }: Target, mount: Mount): boolean {
  return readings.some((reading) => findMount(site, reading) !== mount);
}

/**
 * At the ends of a segment: Windows drops dots and blanks behind it, Spring blanks on both sides, and Python's `$` stands before a line
 * feed, too. `::$INDEX_ALLOCATION` is the folder itself on NTFS.
 */
const LOST_ENDS = /(?<=\/)[\0- ]+|(?<![.\0- ])[.\0- ]+(?=\/|$)|:[^/:]{0,32}:?\$[^/]*/g;

/** What file systems and frameworks make of a path before they compare it. */
function small(text: string): string {
  const plain = /[\x80-\xff]/.test(text) ? plainForms(text) : text;
  const ascii = plain.replace(/[A-Z]+/g, (letters) => letters.toLowerCase());
  return /[.\0- $]/.test(ascii) ? ascii.replace(LOST_ENDS, "") : ascii;
}

/** Fullwidth letters, `ı` for I, Kelvin's sign for k: what lower case, and code pages, make of them; HFS+ ignores what nobody sees. */
function plainForms(text: string): string {
  const letters = Buffer.from(text, "latin1").toString().normalize("NFKC").toUpperCase().toLowerCase();
  return Buffer.from(letters.replace(/\p{Default_Ignorable_Code_Point}/gu, "")).toString("latin1");
}

const smallSites: WeakMap<Site, Site> = new WeakMap();

/**
 * The mounts below which `target` lies for a backend that does not tell capital letters from small ones, or forms of one letter: Express,
 * Windows and macOS do not, unless they are told to. Where mounts differ by nothing else somebody means it.
 */
export function mountsWhateverCase(site: Site, { decoded, readings }: Target, mount: Mount): readonly Mount[] {
  if (site.size < 2) return [];
  let folded = smallSites.get(site);
  if (folded === undefined) {
    folded = new Map([...site].map(([point, one]) => [small(point), one]));
    smallSites.set(site, folded);
  }
  const found = [decoded, ...readings].map((reading) => findMount(folded, small(reading)));
  return found.filter((other) => other !== undefined && small(other.point) !== small(mount.point)) as Mount[];
}

/** What is left of the path below the mount, or `undefined` when the mount is no literal prefix of it: 404. */
export function belowMount(target: Target, point: string): string | undefined {
  if (target.path === "/") return "/";
  const prefix = point.endsWith("/") ? point.slice(0, -1) : point;
  if (!target.decoded.startsWith(prefix) || !target.spelled.startsWith(prefix)) return undefined;
  return escapedAs(target.spelled.slice(prefix.length), target.decoded.slice(prefix.length));
}

/** Exactly one slash between the backend's own path and the rest. */
export function joinPaths(base: string, rest: string): string {
  if (rest === "") return base === "" ? "/" : base;
  if (base.endsWith("/") && rest.startsWith("/")) return base + rest.slice(1);
  if (!base.endsWith("/") && !rest.startsWith("/")) return `${base}/${rest}`;
  return base + rest;
}
