import type { HeaderPair } from "../../identity/headers.ts";
import { redactMembers } from "./secret-members.ts";
import { isSecretName } from "./secret-names.ts";
import { isSecretSegment, REDACTED, redactValue } from "./secret-shapes.ts";

/** Fields whose value is an address with perhaps a query. */
const ADDRESSES: ReadonlySet<string> = new Set(["referer", "location", "content-location", "refresh", "link"]);
const ADDRESS = /^(?:\/|[a-z][a-z0-9+.-]{0,30}:\/\/)/i;
/** Of addresses in the values of parameters. */
const DEEPEST = 3;

export function redactFields(fields: readonly HeaderPair[], others: readonly string[] = []): HeaderPair[] {
  return fields.map(([name, value]) => {
    if (isSecretName(name, others)) return [name, REDACTED];
    const plain = name.toLowerCase();
    // Browsers can send a token in no other field: beside the name of a protocol, or in it.
    if (plain === "sec-websocket-protocol" && /auth|bearer|token/i.test(value)) return [name, REDACTED];
    return [name, shownValue(plain, value)];
  });
}

function shownValue(name: string, value: string): string {
  if (ADDRESSES.has(name) || ADDRESS.test(value)) return redactTarget(value);
  return redactValue(/^[[{]/.test(value) ? redactMembers(value) : value);
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
export function redactParameters(text: string, depth: number = 0): string {
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

/** `next=%2Flogin%3Ftoken%3D…` holds an address, `payload={"token":…}` a document. */
function redactedValue(value: string, depth: number): string {
  if (depth >= DEEPEST || !/%(?:2[236f]|3f|40|5b|7b)|[[{"]/i.test(value)) return value;
  const inner = decoded(value);
  const isDocument = /^[+\s]*[[{]/.test(inner);
  const read = isDocument ? inner.replaceAll("+", " ") : inner;
  const shown = isDocument ? redactMembers(read) : redactTarget(inner, depth + 1);
  return shown === read ? value : encodeURIComponent(shown);
}

export function decoded(name: string): string {
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}
