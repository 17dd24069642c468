import { isIP, isIPv4 } from "node:net";

/** An IP address as its 4 or 16 bytes in network order. IPv4-mapped IPv6 is written as IPv4. */
export type AddressBytes = Uint8Array;

const DOT = 0x2e;
const ZERO = 0x30;

/** `undefined` when `text` is not an IP address (zones are refused). */
export function parseAddress(text: string): AddressBytes | undefined {
  switch (isIP(text)) {
    case 4:
      return parseIpv4(text);
    case 6:
      return text.includes("%") ? undefined : unmapped(parseIpv6(text));
    default:
      return undefined;
  }
}

/** Of text that is one: each digit moves its byte on. */
function parseIpv4(text: string): Uint8Array {
  const bytes = new Uint8Array(4);
  for (let i = 0, at = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === DOT) at++;
    else bytes[at] = bytes[at]! * 10 + (code - ZERO);
  }
  return bytes;
}

function parseIpv6(text: string): Uint8Array {
  const bytes = new Uint8Array(16);
  let head = text;
  const dotted = /^(.*:)(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(text);
  if (dotted !== null) {
    const [, front = "", a, b, c, d] = dotted;
    head = `${front}${((Number(a) << 8) | Number(b)).toString(16)}:${((Number(c) << 8) | Number(d)).toString(16)}`;
  }
  const [left = "", right] = head.split("::");
  const words = (part: string) => (part === "" ? [] : part.split(":").map((word) => Number.parseInt(word, 16)));
  const front = words(left);
  const back = right === undefined ? [] : words(right);
  front.forEach((word, i) => void new DataView(bytes.buffer).setUint16(2 * i, word));
  back.forEach((word, i) => void new DataView(bytes.buffer).setUint16(16 - 2 * (back.length - i), word));
  return bytes;
}

function unmapped(bytes: Uint8Array): Uint8Array {
  const isMapped = bytes.subarray(0, 10).every((byte) => byte === 0) && bytes[10] === 0xff && bytes[11] === 0xff;
  return isMapped ? bytes.slice(12) : bytes;
}

/** Canonical text (RFC 5952). */
export function formatAddress(bytes: AddressBytes): string {
  if (bytes.length === 4) return `${bytes[0]}.${bytes[1]}.${bytes[2]}.${bytes[3]}`;
  const view = new DataView(bytes.buffer, bytes.byteOffset, 16);
  const words = Array.from({ length: 8 }, (_, i) => view.getUint16(2 * i));
  let best = { start: -1, length: 1 }; // a run of one zero word is not shortened
  for (let i = 0; i < 8; i++) {
    let end = i;
    while (end < 8 && words[end] === 0) end++;
    if (end - i > best.length) best = { start: i, length: end - i };
    if (end > i) i = end;
  }
  const hex = (part: number[]) => part.map((word) => word.toString(16)).join(":");
  if (best.start < 0) return hex(words);
  return `${hex(words.slice(0, best.start))}::${hex(words.slice(best.start + best.length))}`;
}

/** The one spelling of an address that there is for each; IPv4 has no other (inet_pton takes no leading zeros). */
export function canonicalAddress(text: string): string | undefined {
  if (isIPv4(text)) return text;
  if (text.startsWith(MAPPED) && isIPv4(text.slice(MAPPED.length))) return text.slice(MAPPED.length);
  const bytes = parseAddress(text);
  return bytes === undefined ? undefined : formatAddress(bytes);
}

/** As the kernel writes IPv4 on a socket of IPv6. */
const MAPPED = "::ffff:";

/** A block of addresses: `bits` leading bits of `address` count. */
export interface Prefix {
  readonly address: AddressBytes;
  readonly bits: number;
}

/** Reads `address/bits` or a single address. Host bits are kept as written; see `maskedPrefix`. */
export function parsePrefix(text: string): Prefix | undefined {
  const [head = "", tail, more] = text.split("/");
  const address = parseAddress(head);
  if (address === undefined || more !== undefined) return undefined;
  const most = address.length * 8;
  if (tail === undefined) return { address, bits: most };
  if (!/^(0|[1-9]\d{0,2})$/.test(tail) || Number(tail) > most) return undefined;
  return { address, bits: Number(tail) };
}

/** Of texts in our own source, which are prefixes all. */
export function prefixes(...texts: readonly string[]): readonly Prefix[] {
  return texts.map((text) => parsePrefix(text)!);
}

export function formatPrefix({ address, bits }: Prefix): string {
  return `${formatAddress(address)}/${bits}`;
}

/** The same block with its host bits cleared. */
export function maskedPrefix({ address, bits }: Prefix): Prefix {
  const masked = address.slice();
  for (let i = 0; i < masked.length; i++) {
    const keep = Math.min(8, Math.max(0, bits - 8 * i));
    masked[i]! &= (0xff00 >> keep) & 0xff;
  }
  return { address: masked, bits };
}

export function prefixContains({ address, bits }: Prefix, candidate: AddressBytes): boolean {
  if (candidate.length !== address.length) return false;
  const whole = bits >> 3;
  for (let i = 0; i < whole; i++) if (address[i] !== candidate[i]) return false;
  const rest = bits & 7;
  return rest === 0 || ((address[whole]! ^ candidate[whole]!) & (0xff00 >> rest) & 0xff) === 0;
}

/** An address as it stands in URLs, without the brackets around IPv6. */
export function withoutBrackets(host: string): string {
  return host.replace(/^\[|\]$/g, "");
}

/** An address and a port, as text: `1.2.3.4:80`, `[::1]:80`. */
export interface AddressPort {
  readonly address: string;
  readonly port: number;
}

export function formatAddressPort({ address, port }: AddressPort): string {
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}

export function parseAddressPort(text: string): AddressPort | undefined {
  if (!ADDRESS_PORT.test(text)) return undefined;
  const colon = text.lastIndexOf(":");
  const address = canonicalAddress(text.startsWith("[") ? text.slice(1, colon - 1) : text.slice(0, colon));
  const port = Number(text.slice(colon + 1));
  return address === undefined || port > 65535 ? undefined : { address, port };
}

const ADDRESS_PORT = /^(?:\[[0-9a-fA-F:.]+\]|[0-9.]+):\d{1,5}$/;
