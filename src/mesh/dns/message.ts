import { toLatin1 } from "../../base/bytes.ts";
import { CLASS, encodeName, RECORD } from "../../wire/dns.ts";

/** DNS messages, as far as a resolver of names and addresses needs them (RFC 1035 §4). */

const HEADER = 12;
const NAME_POINTER = 0xc00c; // to the question's name, which always stands right behind the header
const LONGEST_NAME = 255;
const ZONE_TTL_S = 10;

export interface Question {
  readonly id: number;
  readonly opcode: number;
  readonly isRecursionDesired: boolean;
  /** Lower case, no trailing dot; `""` is the root. */
  readonly name: string;
  readonly type: number;
  readonly class: number;
  /** Name, type and class as they came. */
  readonly raw: Uint8Array;
}

/** What can be told of a message that is no question of ours to answer. */
export type Refusal = "drop" | { readonly id: number; readonly opcode: number; readonly isRecursionDesired: boolean };

/** "drop": not a query at all. Other refusals deserve FORMERR. */
export function decodeQuestion(message: Uint8Array): Question | Refusal {
  if (message.length < HEADER || (message[2]! & 0x80) !== 0) return "drop";
  const view = new DataView(message.buffer, message.byteOffset, message.length);
  const head = {
    id: view.getUint16(0),
    opcode: (message[2]! >> 3) & 15,
    isRecursionDesired: (message[2]! & 1) !== 0,
  };
  if (view.getUint16(4) !== 1) return head;
  const labels: string[] = [];
  let at = HEADER;
  for (;;) {
    const length = message[at];
    // No compression here: there is nothing before the question that a pointer could point to.
    if (length === undefined || length > 63 || at + 1 + length > message.length) return head;
    at++;
    if (length === 0) break;
    labels.push(label(message.subarray(at, at + length)));
    at += length;
    if (at - HEADER >= LONGEST_NAME) return head;
  }
  if (at + 4 > message.length) return head;
  return {
    ...head,
    name: labels.join("."),
    type: view.getUint16(at),
    class: view.getUint16(at + 2),
    raw: message.subarray(HEADER, at + 4),
  };
}

/** A dot inside a label is written as its number, so that it never passes for the end of one. */
function label(bytes: Uint8Array): string {
  const text = toLatin1(bytes).toLowerCase();
  return text.includes(".") ? text.replaceAll(".", "\\046") : text;
}

export interface Answer {
  readonly type: number;
  readonly ttl: number;
  readonly data: Uint8Array;
}

/** An authoritative answer to `question`; `zone` puts its SOA in the authority section. */
export function encodeAnswer(
  question: Question | Exclude<Refusal, "drop">,
  code: number,
  answers: readonly Answer[] = [],
  zone?: { readonly name: string; readonly serial: number },
): Uint8Array {
  const raw = "raw" in question ? question.raw : new Uint8Array(0);
  const soa = zone === undefined ? undefined : soaRecord(zone.name, zone.serial);
  const length =
    HEADER + raw.length + answers.reduce((sum, { data }) => sum + 12 + data.length, 0) + (soa?.length ?? 0);
  const message = new Uint8Array(length);
  const view = new DataView(message.buffer);
  view.setUint16(0, question.id);
  const recursion = question.isRecursionDesired ? 0x0180 : 0; // RD, and RA as it was asked
  view.setUint16(2, 0x8400 | (question.opcode << 11) | recursion | code);
  view.setUint16(4, raw.length > 0 ? 1 : 0);
  view.setUint16(6, answers.length);
  view.setUint16(8, soa === undefined ? 0 : 1);
  message.set(raw, HEADER);
  let at = HEADER + raw.length;
  for (const { type, ttl, data } of answers) {
    view.setUint16(at, NAME_POINTER);
    view.setUint16(at + 2, type);
    view.setUint16(at + 4, CLASS.IN);
    view.setUint32(at + 6, ttl);
    view.setUint16(at + 10, data.length);
    message.set(data, at + 12);
    at += 12 + data.length;
  }
  if (soa !== undefined) message.set(soa, at);
  return message;
}

/** Name, MNAME and RNAME are the zone itself (upstream `net/dns/resolver/tsdns.go:marshalSOA`). */
function soaRecord(zone: string, serial: number): Uint8Array {
  const name = encodeName(zone) ?? new Uint8Array(1);
  const record = new Uint8Array(3 * name.length + 10 + 20);
  const view = new DataView(record.buffer);
  record.set(name, 0);
  let at = name.length;
  view.setUint16(at, RECORD.SOA);
  view.setUint16(at + 2, CLASS.IN);
  view.setUint32(at + 4, ZONE_TTL_S);
  view.setUint16(at + 8, 2 * name.length + 20);
  record.set(name, at + 10);
  record.set(name, at + 10 + name.length);
  at += 10 + 2 * name.length;
  view.setUint32(at, serial >>> 0);
  for (let i = 1; i <= 4; i++) view.setUint32(at + 4 * i, ZONE_TTL_S);
  return record;
}
