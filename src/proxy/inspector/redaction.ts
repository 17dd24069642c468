import type { HeaderPair } from "../../identity/headers.ts";
import { foldName } from "../../identity/reserved.ts";

export const REDACTED = "REDACTED";

const SECRET =
  /(?:^|-)(?:cookie2?|set-cookie|auth|authorization|code|key|otp|pin|sid|sig|state|nonce)(?:-|$)|token|secret|passw|passphrase|apikey|api-key|access-key|session|credential|signature|assertion|jwt|csrf|xsrf/;
/** Fields whose value is an address with perhaps a query. */
const ADDRESSES: ReadonlySet<string> = new Set(["referer", "location", "content-location", "refresh", "link"]);

/** Does a field, parameter or member of this name hold what only its owner may know? */
export function isSecretName(name: string, others: readonly string[] = []): boolean {
  const folded = foldName(name.replace(/([a-z])(?=[A-Z])/g, "$1-"));
  return SECRET.test(folded) || others.some((other) => foldName(other) === folded);
}

export function redactFields(fields: readonly HeaderPair[], others: readonly string[] = []): HeaderPair[] {
  return fields.map(([name, value]) => {
    if (isSecretName(name, others)) return [name, REDACTED];
    return [name, ADDRESSES.has(name.toLowerCase()) ? redactTarget(value) : value];
  });
}

/** The values of secret parameters in whatever follows `?` or `#`. */
export function redactTarget(target: string): string {
  const mark = target.search(/[?#]/);
  if (mark < 0) return target;
  return target.slice(0, mark + 1) + redactParameters(target.slice(mark + 1));
}

/** By pieces and not by one expression: a body may be long, and made so that an expression takes forever on it. */
function redactParameters(text: string): string {
  const pieces = text.split(/([&;?#])/);
  return pieces
    .map((piece) => {
      const equals = piece.indexOf("=");
      if (equals < 0) return piece;
      const name = piece.slice(0, equals);
      return isSecretName(decoded(name)) ? `${name}=${REDACTED}` : piece;
    })
    .join("");
}

function decoded(name: string): string {
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}

/** Of an object or a list only the bracket: what is in it is looked at by itself. */
const MEMBER = /"((?:[^"\\]|\\.){1,100})"(\s*:\s*)("(?:[^"\\]|\\.)*"?|[[{]|[^\s,}\][{"]+)/g;

/** `pass\u0077ord` is a password, too. */
function unescaped(name: string): string {
  return name.replace(/\\u([0-9a-f]{4})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}

/** Forms and JSON by the names of what is in them; of several parts none is kept when one is secret. */
export function redactBody(text: string, type: string): string {
  if (/^application\/x-www-form-urlencoded/i.test(type)) return redactParameters(text);
  if (/^multipart\//i.test(type)) {
    const names = [...text.matchAll(/name="?([^";\r\n]*)/gi)].map(([, name]) => name ?? "");
    return names.some((name) => isSecretName(name)) ? REDACTED : text;
  }
  if (!/json/i.test(type)) return text;
  let holdsTree = false;
  const shown = text.replace(MEMBER, (whole, name: string, colon: string, value: string) => {
    if (!isSecretName(unescaped(name))) return whole;
    holdsTree ||= /^[[{]/.test(value); // secret to its last leaf
    return `"${name}"${colon}"${REDACTED}"`;
  });
  return holdsTree ? REDACTED : shown;
}
