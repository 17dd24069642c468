import { concatBytes } from "../base/bytes.ts";
import { decodeName, encodeName, words } from "./dns.ts";

/** What stands in records, by type. */

const LONGEST_STRING = 255;

/** One TXT text; a longer one than 255 bytes is cut into strings, which readers join again. */
export function textData(text: string): Uint8Array {
  const bytes = Buffer.from(text, "utf8");
  const parts: Uint8Array[] = [];
  for (let at = 0; at === 0 || at < bytes.length; at += LONGEST_STRING) {
    const part = bytes.subarray(at, at + LONGEST_STRING);
    parts.push(Uint8Array.of(part.length), part);
  }
  return concatBytes(...parts);
}

/** `undefined` when a string is cut off. */
export function readText(data: Uint8Array): string | undefined {
  const parts: Uint8Array[] = [];
  for (let at = 0; at < data.length; at += 1 + data[at]!) {
    if (at + 1 + data[at]! > data.length) return undefined;
    parts.push(data.subarray(at + 1, at + 1 + data[at]!));
  }
  return Buffer.concat(parts).toString("utf8");
}

/** The one name that NS, CNAME and PTR hold. */
export function readTarget(data: Uint8Array): string | undefined {
  return decodeName(data, 0)?.name;
}

export interface Soa {
  /** The server where updates go, and the mail address of who is in charge, both as names. */
  readonly primary: string;
  readonly contact: string;
  readonly serial: number;
  readonly refresh: number;
  readonly retry: number;
  readonly expire: number;
  /** For how long resolvers remember that a name is not there (RFC 2308). */
  readonly minimum: number;
}

export function soaData(soa: Soa): Uint8Array {
  const root = new Uint8Array(1);
  const numbers = [soa.serial, soa.refresh, soa.retry, soa.expire, soa.minimum];
  return concatBytes(
    encodeName(soa.primary) ?? root,
    encodeName(soa.contact) ?? root,
    words(...numbers.flatMap((value) => [(value >>> 16) & 0xffff, value & 0xffff])),
  );
}

/** The server where updates of a zone go. */
export function readPrimary(data: Uint8Array): string | undefined {
  return decodeName(data, 0)?.name;
}

/** RFC 8659 section 4.1. */
export interface Caa {
  /** A CA that does not understand the tag must not issue. */
  readonly isCritical: boolean;
  /** `issue`, `issuewild`, `iodef`; lower case. */
  readonly tag: string;
  readonly value: string;
}

export function caaData({ isCritical, tag, value }: Caa): Uint8Array {
  const head = Uint8Array.of(isCritical ? 0x80 : 0, tag.length);
  return concatBytes(head, Buffer.from(tag, "latin1"), Buffer.from(value, "utf8"));
}

export function readCaa(data: Uint8Array): Caa | undefined {
  const end = 2 + (data[1] ?? 0);
  if (data.length < 3 || end === 2 || end > data.length) return undefined;
  const tag = Buffer.from(data.subarray(2, end)).toString("latin1").toLowerCase();
  if (!/^[a-z0-9]+$/.test(tag)) return undefined;
  return { isCritical: (data[0]! & 0x80) !== 0, tag, value: Buffer.from(data.subarray(end)).toString("utf8") };
}
