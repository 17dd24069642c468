import { concatBytes, toLatin1 } from "../base/bytes.ts";

/** DNS messages whole (RFC 1035 section 4), as clients, the public zone and dynamic updates need them. */

export const RECORD = {
  A: 1,
  NS: 2,
  CNAME: 5,
  SOA: 6,
  PTR: 12,
  HINFO: 13,
  TXT: 16,
  AAAA: 28,
  OPT: 41,
  TSIG: 250,
  AXFR: 252,
  ANY: 255,
  CAA: 257,
} as const;
export const CLASS = { IN: 1, NONE: 254, ANY: 255 } as const;
export const OPCODE = { QUERY: 0, UPDATE: 5 } as const;
/** RFC 6895 section 2.3. */
export const CODE = {
  OK: 0,
  FORMAT: 1,
  SERVER_FAILURE: 2,
  NAME: 3,
  NOT_IMPLEMENTED: 4,
  REFUSED: 5,
  NOT_AUTHORITATIVE: 9,
  BAD_VERSION: 16,
} as const;
export const FLAG = { RESPONSE: 0x8000, AUTHORITATIVE: 0x0400, TRUNCATED: 0x0200, RECURSION: 0x0100 } as const;

export const HEADER_LENGTH = 12;
const LONGEST_NAME = 255;
const LONGEST_LABEL = 63;
/** A message of 64 KiB could hold more records than anybody sends. */
const MOST_RECORDS = 4096;

export interface DnsQuestion {
  /** Lower case, without the trailing dot; `""` is the root. */
  readonly name: string;
  readonly type: number;
  readonly class: number;
}

export interface DnsRecord extends DnsQuestion {
  readonly ttl: number;
  /** Names in it are written out. */
  readonly data: Uint8Array;
}

export interface DnsMessage {
  readonly id: number;
  /** The second word of the header: QR, opcode, AA, TC, RD, RA, code. */
  readonly flags: number;
  readonly questions: readonly DnsQuestion[];
  readonly answers: readonly DnsRecord[];
  readonly authority: readonly DnsRecord[];
  readonly additional: readonly DnsRecord[];
}

export const codeOf = ({ flags }: { readonly flags: number }): number => flags & 15;
export const opcodeOf = ({ flags }: { readonly flags: number }): number => (flags >> 11) & 15;

/** `undefined` when `name` does not fit DNS. One trailing dot is allowed. */
export function encodeName(name: string): Uint8Array | undefined {
  const bytes: number[] = [];
  const plain = name.endsWith(".") ? name.slice(0, -1) : name;
  for (const part of plain === "" ? [] : plain.split(".")) {
    const text = Buffer.from(part, "latin1");
    if (text.length === 0 || text.length > LONGEST_LABEL) return undefined;
    bytes.push(text.length, ...text);
  }
  bytes.push(0);
  return bytes.length > LONGEST_NAME ? undefined : Uint8Array.from(bytes);
}

/** A name in `message`, and where what follows it begins. Pointers only lead back, so this ends. */
export function decodeName(message: Uint8Array, start: number): { name: string; end: number } | undefined {
  const labels: string[] = [];
  let at = start;
  let end: number | undefined;
  let lowest = start;
  let total = 1;
  for (;;) {
    const length = message[at];
    if (length === undefined) return undefined;
    if (length === 0) return { name: labels.join("."), end: end ?? at + 1 };
    if (length >= 0xc0) {
      const target = ((length & 0x3f) << 8) | (message[at + 1] ?? 0xff);
      if (at + 1 >= message.length || target >= lowest) return undefined;
      end ??= at + 2;
      at = target;
      lowest = target;
      continue;
    }
    total += 1 + length;
    if (length > LONGEST_LABEL || total > LONGEST_NAME || at + 1 + length > message.length) return undefined;
    labels.push(labelText(message.subarray(at + 1, at + 1 + length)));
    at += 1 + length;
  }
}

/** A dot inside a label is written as its number, so that it never passes for the end of one (RFC 1035 section 5.1). */
function labelText(bytes: Uint8Array): string {
  const text = toLatin1(bytes).toLowerCase();
  return /[.\\]/.test(text) ? text.replaceAll("\\", "\\092").replaceAll(".", "\\046") : text;
}

/** `undefined` when `bytes` are no whole message. */
export function decodeMessage(bytes: Uint8Array): DnsMessage | undefined {
  if (bytes.length < HEADER_LENGTH) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const counts = [4, 6, 8, 10].map((at) => view.getUint16(at));
  if (counts.reduce((sum, count) => sum + count, 0) > MOST_RECORDS) return undefined;
  let at = HEADER_LENGTH;
  const questions: DnsQuestion[] = [];
  for (let i = 0; i < counts[0]!; i++) {
    const name = decodeName(bytes, at);
    if (name === undefined || name.end + 4 > bytes.length) return undefined;
    questions.push({ name: name.name, type: view.getUint16(name.end), class: view.getUint16(name.end + 2) });
    at = name.end + 4;
  }
  const sections: DnsRecord[][] = [[], [], []];
  for (const [i, section] of sections.entries()) {
    for (let n = 0; n < counts[i + 1]!; n++) {
      const record = decodeRecord(bytes, at);
      if (record === undefined) return undefined;
      section.push(record);
      at = record.end;
    }
  }
  const [answers = [], authority = [], additional = []] = sections;
  return { id: view.getUint16(0), flags: view.getUint16(2), questions, answers, authority, additional };
}

/** The record at `start`, and where the next one begins. */
export function decodeRecord(message: Uint8Array, start: number): (DnsRecord & { readonly end: number }) | undefined {
  const head = decodeName(message, start);
  if (head === undefined || head.end + 10 > message.length) return undefined;
  const view = new DataView(message.buffer, message.byteOffset, message.length);
  const at = head.end + 10;
  const type = view.getUint16(head.end);
  const length = view.getUint16(head.end + 8);
  const end = at + length;
  if (end > message.length) return undefined;
  const data = decodeData(message, type, at, end);
  if (data === undefined) return undefined;
  return { name: head.name, type, class: view.getUint16(head.end + 2), ttl: view.getUint32(head.end + 4), data, end };
}

/** Only these types may hold compressed names (RFC 3597 section 4), and only these do we look into. */
function decodeData(message: Uint8Array, type: number, start: number, end: number): Uint8Array | undefined {
  if (type === RECORD.NS || type === RECORD.CNAME || type === RECORD.PTR) {
    const target = start === end ? undefined : decodeName(message, start);
    // Empty data stands in updates, where a whole set is meant.
    if (target === undefined) return start === end ? new Uint8Array(0) : undefined;
    return target.end === end ? encodeName(target.name) : undefined;
  }
  if (type !== RECORD.SOA || start === end) return Uint8Array.from(message.subarray(start, end));
  const primary = decodeName(message, start);
  const contact = primary === undefined ? undefined : decodeName(message, primary.end);
  if (primary === undefined || contact === undefined || contact.end + 20 !== end) return undefined;
  const names = [encodeName(primary.name), encodeName(contact.name)];
  if (names[0] === undefined || names[1] === undefined) return undefined;
  return concatBytes(names[0], names[1], message.subarray(contact.end, end));
}

/** Without compression. Names must fit DNS. */
export function encodeMessage(message: DnsMessage): Uint8Array {
  const { questions, answers, authority, additional } = message;
  const head = new Uint8Array(HEADER_LENGTH);
  const view = new DataView(head.buffer);
  const counts = [questions, answers, authority, additional].map(({ length }) => length);
  for (const [i, word] of [message.id, message.flags, ...counts].entries()) view.setUint16(2 * i, word);
  const records = [...answers, ...authority, ...additional].map((record) => encodeRecord(record));
  return concatBytes(head, ...questions.map(encodeQuestion), ...records);
}

function encodeQuestion({ name, type, class: inClass }: DnsQuestion): Uint8Array {
  return concatBytes(encodeName(name) ?? new Uint8Array(1), words(type, inClass));
}

/** `owner`: how its name is written, where that is known to be elsewhere in the message. */
export function encodeRecord(record: DnsRecord, owner?: Uint8Array): Uint8Array {
  const { name, type, class: inClass, ttl, data } = record;
  const start = owner ?? encodeName(name) ?? new Uint8Array(1);
  return concatBytes(start, words(type, inClass, ttl >>> 16, ttl & 0xffff, data.length), data);
}

/** Numbers of 16 bits. */
export function words(...values: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(2 * values.length);
  const view = new DataView(bytes.buffer);
  for (const [i, value] of values.entries()) view.setUint16(2 * i, value);
  return bytes;
}
