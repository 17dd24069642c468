import { parseAddress } from "../../base/address.ts";
import { encodeName, RECORD } from "../../wire/dns.ts";
import { type Caa, caaData, textData } from "../../wire/dns-data.ts";

/** A record of the zone; its owner is the name that was asked for. */
export interface ZoneRecord {
  readonly type: number;
  readonly ttl: number;
  readonly data: Uint8Array;
}

/**
 * What is at a name (lower case, no trailing dot): empty when the name is there without records, or has names below it;
 * `undefined` when there is no such name.
 */
export type RecordSource = (name: string) => readonly ZoneRecord[] | undefined;

export function textRecord(text: string, ttl: number): ZoneRecord {
  return { type: RECORD.TXT, ttl, data: textData(text) };
}

/** `undefined` when `address` is none. */
export function addressRecord(address: string, ttl: number): ZoneRecord | undefined {
  const data = parseAddress(address);
  return data === undefined ? undefined : { type: data.length === 4 ? RECORD.A : RECORD.AAAA, ttl, data };
}

export function caaRecord(caa: Caa, ttl: number): ZoneRecord {
  return { type: RECORD.CAA, ttl, data: caaData(caa) };
}

export function nameServerRecord(name: string, ttl: number): ZoneRecord | undefined {
  const data = encodeName(name);
  return data === undefined ? undefined : { type: RECORD.NS, ttl, data };
}

/** Records that are written down. The names between them and the root are there too (RFC 8020). */
export function fixedRecords(records: ReadonlyMap<string, readonly ZoneRecord[]>): RecordSource {
  const between = new Set([...records.keys()].flatMap(namesAbove));
  return (name) => records.get(name) ?? (between.has(name) ? [] : undefined);
}

/** All that the sources know of a name. */
export function allRecords(...sources: readonly RecordSource[]): RecordSource {
  return (name) => {
    let found: readonly ZoneRecord[] | undefined;
    for (const source of sources) {
      const records = source(name);
      if (records !== undefined) found = found === undefined || found.length === 0 ? records : [...found, ...records];
    }
    return found;
  };
}

/** `a.b.c` → `b.c`, `c`. */
export function namesAbove(name: string): string[] {
  const labels = name.split(".");
  return labels.slice(1).map((_, i) => labels.slice(i + 1).join("."));
}
