import type { HeaderPair } from "../../identity/headers.ts";
import { foldName } from "../../identity/reserved.ts";
import { isSecretSegment, REDACTED, redactShapes, redactValue } from "./secret-shapes.ts";

export { REDACTED } from "./secret-shapes.ts";

const SECRET =
  /(?:^|-)(?:cookie2?|set-cookie|auth|authentication|authorization|code|cvc|cvv|key|mfa|otp|pass|pin|pwd|saml|sid|sig|state|nonce|totp)(?:-|$)|token|secret|passw|passphrase|passcode|apikey|api-key|access-key|session|credential|signature|assertion|bearer|jwt|csrf|xsrf|samlre|verifier/;
/** Fields whose value is an address with perhaps a query. */
const ADDRESSES: ReadonlySet<string> = new Set(["referer", "location", "content-location", "refresh", "link"]);
const ADDRESS = /^(?:\/|[a-z][a-z0-9+.-]{0,30}:\/\/)/i;
/** Of addresses in the values of parameters. */
const DEEPEST = 3;

/** Does a field, parameter or member of this name hold what only its owner may know? */
export function isSecretName(name: string, others: readonly string[] = []): boolean {
  const folded = foldName(name.replace(/([a-z])(?=[A-Z])/g, "$1-"));
  return SECRET.test(folded) || others.some((other) => foldName(other) === folded);
}

export function redactFields(fields: readonly HeaderPair[], others: readonly string[] = []): HeaderPair[] {
  return fields.map(([name, value]) => {
    if (isSecretName(name, others)) return [name, REDACTED];
    const plain = name.toLowerCase();
    // Browsers can send a token in no other field: beside the name of a protocol, or in it.
    if (plain === "sec-websocket-protocol" && /auth|bearer|token/i.test(value)) return [name, REDACTED];
    return [name, ADDRESSES.has(plain) || ADDRESS.test(value) ? redactTarget(value) : redactValue(value)];
  });
}

/** The secrets of an address: parameters in its path, and in whatever follows `?` or `#`, and what looks like one. */
export function redactTarget(target: string, depth: number = 0): string {
  const mark = target.search(/[?#]/);
  const path = redactPath(mark < 0 ? target : target.slice(0, mark));
  return redactValue(mark < 0 ? path : path + target[mark] + redactParameters(target.slice(mark + 1), depth));
}

/** RFC 3986 section 3.3: `;jsessionid=…` belongs to its segment. */
function redactPath(path: string): string {
  let before = "";
  const segments = path.split("/").map((segment) => {
    const mark = segment.search(/;|%3b/i);
    const own = mark < 0 ? segment : segment.slice(0, mark);
    const shown = isSecretSegment(decoded(own), before) ? REDACTED : own;
    before = decoded(own);
    return mark < 0 ? shown : shown + redactParameters(segment.slice(mark));
  });
  return segments.join("/");
}

/** By pieces and not by one expression: a body may be long, and made so that an expression takes forever on it. */
function redactParameters(text: string, depth: number = 0): string {
  const pieces = text.split(/([&;?#]|%3b)/i);
  return pieces
    .map((piece) => {
      const equals = /=|%3d/i.exec(piece);
      if (equals === null) return piece;
      const name = piece.slice(0, equals.index);
      const value = piece.slice(equals.index + equals[0].length);
      return name + equals[0] + (isSecretName(decoded(name)) ? REDACTED : redactedValue(value, depth));
    })
    .join("");
}

/** `next=%2Flogin%3Ftoken%3D…` holds an address. */
function redactedValue(value: string, depth: number): string {
  if (depth >= DEEPEST || !/%(?:2f|3f|26|23|40)/i.test(value)) return value;
  const inner = decoded(value);
  const shown = redactTarget(inner, depth + 1);
  return shown === inner ? value : encodeURIComponent(shown);
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

/** Forms, JSON and markup by the names of what is in them; of several parts none is kept when one is secret. */
export function redactBody(text: string, type: string): string {
  return redactShapes(redactNamed(text, type));
}

function redactNamed(text: string, type: string): string {
  if (/^application\/x-www-form-urlencoded/i.test(type)) return redactParameters(text);
  if (/^multipart\//i.test(type)) {
    const names = [...text.matchAll(/name="?([^";\r\n]*)/gi)].map(([, name]) => name ?? "");
    return names.some((name) => isSecretName(name)) ? REDACTED : text;
  }
  if (!/json/i.test(type) && !(type === "" && /^\s{0,100}[{[]/.test(text))) return redactMarkup(text, type);
  let holdsTree = false;
  const shown = text.replace(MEMBER, (whole, name: string, colon: string, value: string) => {
    if (!isSecretName(unescaped(name))) return whole;
    holdsTree ||= /^[[{]/.test(value); // secret to its last leaf
    return `"${name}"${colon}"${REDACTED}"`;
  });
  return holdsTree ? REDACTED : redactLinks(shown);
}

/** Addresses in whatever text: `&`, in JSON and in markup, may be spelled in other ways. */
function redactLinks(text: string): string {
  return text.replace(/([?&;]|\\u0026)([\w.%-]{1,64})=[^\s&"'<>#;\\)]+/g, (whole, mark: string, name: string) =>
    isSecretName(decoded(name)) ? `${mark}${name}=${REDACTED}` : whole,
  );
}

function redactMarkup(text: string, type: string): string {
  if (!/html|xml/i.test(type)) return /javascript|css/i.test(type) ? text : redactLinks(text);
  const tags = text.replace(/<(?:input|meta)\b[^>]{0,2000}>/gi, (tag) => {
    const name = /\b(?:name|id)\s?=\s?["']?([\w.:[\]-]{1,64})/i.exec(tag)?.[1] ?? "";
    if (!isSecretName(name) && !/\btype\s?=\s?["']?password/i.test(tag)) return tag;
    return tag.replace(/\b(value|content)(\s?=\s?)(?:"[^"]*"|'[^']*'|[^\s>]+)/gi, `$1$2"${REDACTED}"`);
  });
  const elements = tags.replace(
    /<([\w:.-]{1,64})(\s[^<>]{0,500})?>[^<>]{1,4096}<\//g,
    (whole, name: string, attributes: string = "") =>
      /xml/i.test(type) && isSecretName(name.replace(/^.*:/, "")) ? `<${name}${attributes}>${REDACTED}</` : whole,
  );
  return redactLinks(elements);
}
