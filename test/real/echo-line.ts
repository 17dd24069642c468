import { createHash } from "node:crypto";

/** What a server says of a request that it was asked: `METHOD TARGET |NAME=VALUES|... LENGTH:SHA1-OF-BODY`. */
export interface Reading {
  readonly method: string;
  readonly target: string;
  /** All that a field has, in their order. */
  readonly values: (name: string) => readonly string[];
  readonly body: Buffer;
}

/** What of a request cannot be known of a server, or is its own. */
export interface Quirks {
  /** It tells the path only decoded. */
  readonly isDecoded?: boolean;
  /** It takes several slashes at the start for one. */
  readonly isMerging?: boolean;
  /** It escapes what RFC 3986 does not allow in a URI. */
  readonly isEscaping?: boolean;
  /** Of a field that comes twice it tells the last. */
  readonly isLastOnly?: boolean;
  /** Fields that it writes itself. */
  readonly own?: readonly string[];
}

/** `tailscale-user-login`: whom a backend believes to talk to. */
const FIELDS = ["host", "cookie", "x", "x-forwarded-for", "tailscale-user-login"] as const;

/** Of such a path no server reads the body. */
export const IGNORED = "/ignored";

export function lineOf({ method, target, values, body }: Reading): string {
  const seen = target.startsWith(IGNORED) ? Buffer.alloc(0) : body;
  const fields = FIELDS.map((name) => `${name}=${values(name).join(",")}`).join("|");
  return `${method} ${target} |${fields} ${seen.length}:${createHash("sha1").update(seen).digest("hex")}`;
}

/** `GET /a?b |host=... 0:da39...`, without what servers may write in several ways (RFC 9110 section 5.3, blanks at edges). */
export function tidied(line: string, quirks: Quirks): string {
  const { isDecoded = false, isMerging = false, isEscaping = false, own = [] } = quirks;
  const [start, middle, end] = [line.indexOf(" "), line.indexOf(" |"), line.lastIndexOf(" ")];
  const fields = line
    .slice(middle + 2, end)
    .split("|")
    .filter((field) => !own.some((name) => field.startsWith(`${name}=`)));
  // Python takes \x85 and \xa0 for blanks as well.
  const text = fields
    .join("|")
    .replace(/[\t \x85\xa0]+/g, "")
    .replace(/[,;]+/g, ",")
    .replace(/,(?=\||$)|(?<==),/g, "")
    .replace(/^host=[^|]*/, (host) => host.toLowerCase().replace(/\.?(?::(?:80)?)?$/, ""));
  const spelled = line.slice(start, middle).replace(/\?$/, ""); // a query that is empty is not told by all
  const merged = isMerging ? spelled.replace(/^ \/+/, " /") : spelled;
  const target = isEscaping ? escaped(merged) : merged;
  return `${line.slice(0, start)}${isDecoded ? unescaped(target) : target} |${text}${line.slice(end)}`;
}

const escaped = (text: string): string =>
  text.replace(/["<>\\^`{|}]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);

const unescaped = (text: string): string =>
  text.replace(/%([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));

export const ECHO: RegExp = /^[A-Z-]+ [^\r\n]* \|host=[^\r\n]* \d+:[0-9a-f]{40}$/;

/** Lines in what a server has answered: bodies behind a head, of which none is in chunks. */
export const ECHOES: RegExp = /\r\n\r\n([A-Z-]+ [^\r\n]* \|host=[^\r\n]* \d+:[0-9a-f]{40})(?=HTTP\/1\.1 |$)/g;
