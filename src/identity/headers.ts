import type { Caller } from "./caller.ts";

/**
 * The one place where reserved fields of an outgoing request are built (docs/identity.md). Everything here is computed
 * for this very request; nothing is taken from what the caller sent.
 */
export interface IdentityFacts {
  readonly caller: Caller;
  /** JSON text, of the capabilities that the route accepts. */
  readonly capabilities: string | undefined;
  /** Came through a public ingress. */
  readonly isFunnel: boolean;
  readonly isTls: boolean;
  /** The caller's Host. */
  readonly host: string;
  /** A signed statement of the same facts. */
  readonly assertion: string | undefined;
  /** How many gateways the request has passed before this one. */
  readonly hops: number;
}

export type HeaderPair = readonly [name: string, value: string];

const HEADERS_INFO = "https://tailscale.com/s/serve-headers";
/** Backends limit headers to 8 to 16 KiB: a longer value is left out rather than cut (ID-8, ID-10). */
export const LONGEST_VALUE: number = 8 * 1024;

const HOPS = "Sallyport-Hops";
/** More gateways than anybody puts in a row: a backend of one leads back to it (RT-8). */
export const MOST_HOPS = 8;

/** What gateways before this one have counted. It is believed, as who lies about it only has more or less of his own request. */
export function hopsOf(raw: readonly string[]): number {
  let hops = 0;
  for (let i = 0; i < raw.length; i += 2) {
    if (raw[i]!.length !== HOPS.length || raw[i]!.toLowerCase() !== HOPS.toLowerCase()) continue;
    hops = Math.max(hops, /^\d{1,9}$/.test(raw[i + 1]!) ? Number(raw[i + 1]) : MOST_HOPS);
  }
  return hops;
}

/** `onOmitted` is told the name of each field that is left out because its value is too long. */
export function identityHeaders(facts: IdentityFacts, onOmitted: (name: string) => void = () => {}): HeaderPair[] {
  const { caller } = facts;
  const pairs: HeaderPair[] = [
    ["X-Forwarded-For", caller.address],
    ["X-Forwarded-Host", facts.host],
  ];
  if (facts.isTls) pairs.push(["X-Forwarded-Proto", "https"]);
  const user = caller.kind === "guest" ? caller.user : caller.kind === "user" ? caller : undefined;
  if (user !== undefined) {
    pairs.push(["Tailscale-User-Login", encodeHeaderValue(user.login)]);
    pairs.push(["Tailscale-User-Name", encodeHeaderValue(user.displayName)]);
    pairs.push(["Tailscale-User-Profile-Pic", pictureValue(user.profilePicture)]);
    pairs.push(["Tailscale-Headers-Info", HEADERS_INFO]);
  }
  if (facts.capabilities !== undefined && !facts.isFunnel) {
    pairs.push(["Tailscale-App-Capabilities", asciiJson(facts.capabilities)]);
  }
  if (facts.isFunnel) pairs.push(["Tailscale-Funnel-Request", "?1"]);
  pairs.push(["Sallyport-Caller-Kind", user === undefined ? caller.kind : "user"]);
  if (caller.kind === "guest") {
    pairs.push(["Sallyport-Guest", asciiJson(JSON.stringify({ iss: caller.issuer, sub: caller.subject }))]);
  }
  pairs.push([HOPS, String(facts.hops + 1)]);
  if (facts.assertion !== undefined) pairs.push(["Sallyport-Assertion", facts.assertion]);
  if (pairs.every(([, value]) => value.length <= LONGEST_VALUE)) return pairs;
  return pairs.filter(([name, value]) => {
    if (value.length > LONGEST_VALUE) onOmitted(name);
    return value.length <= LONGEST_VALUE;
  });
}

/** Upstream sends the picture's URL as it is; one that is no printable ASCII is sent empty, as if there were none. */
function pictureValue(url: string): string {
  return /^[\x21-\x7e]*$/.test(url) ? url : "";
}

/** JSON text without any byte above 0x7E: a backend parses it as it stands (serve sheet section 11). */
export function asciiJson(json: string): string {
  return json.replace(/[^\x20-\x7e]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

const WORD_BYTES = 63; // content of one encoded word, as upstream's mime.QEncoding cuts it

/** Upstream `encTailscaleHeaderValue`: printable ASCII as it is, anything else as RFC 2047 Q words. */
export function encodeHeaderValue(value: string): string {
  if (!value.isWellFormed()) return "";
  if (/^[\t\x20-\x7e]*$/.test(value)) return value;
  const words: string[] = [];
  let word = "";
  for (const character of value) {
    const encoded = qEncoded(character);
    if (word.length + encoded.length > WORD_BYTES) {
      words.push(word);
      word = "";
    }
    word += encoded;
  }
  words.push(word);
  return words.map((content) => `=?utf-8?q?${content}?=`).join(" ");
}

function qEncoded(character: string): string {
  if (character === " ") return "_";
  if (/^[\x21-\x7e]$/.test(character) && !"=?_".includes(character)) return character;
  let text = "";
  for (const byte of Buffer.from(character)) text += `=${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  return text;
}
