import { concatBytes } from "../../base/bytes.ts";
import {
  CLASS,
  CODE,
  decodeName,
  decodeRecord,
  encodeName,
  encodeRecord,
  FLAG,
  HEADER_LENGTH,
  OPCODE,
  RECORD,
  words,
} from "../../wire/dns.ts";
import { soaData } from "../../wire/dns-data.ts";
import { allRecords, nameServerRecord, type RecordSource, type ZoneRecord } from "./records.ts";

/** Without EDNS (RFC 1035 section 4.2.1), and what passes every path unfragmented (DNS flag day 2020). */
const PLAIN_UDP = 512;
const LARGEST_UDP = 1232;
const LARGEST_TCP = 65_535;
const MOST_ADDITIONAL = 4;
/**
 * A challenge is set moments before it is asked for: nothing may be remembered, least of all its absence. Stock clients ask for it
 * themselves right before they set it, and their resolver may be the CA's.
 */
const NEGATIVE_TTL_S = 0;
const ZONE_TTL_S = 300;
/** To the question's name, which always stands right behind the header. */
const QUESTION_NAME = Uint8Array.of(0xc0, HEADER_LENGTH);
/** Types that ask for something other than records (RFC 6895 section 3.1). */
const isMetaType = (type: number): boolean => type === 0 || type === RECORD.OPT || (type >= 128 && type <= 255);

export interface ZoneOptions {
  /** Lower case, no trailing dot. */
  readonly zone: string;
  /** Of the servers that the parent zone delegates to; the first is the primary. */
  readonly nameServers: readonly [string, ...string[]];
  readonly records: RecordSource;
  readonly serial: () => number;
}

interface Query {
  readonly id: number;
  readonly flags: number;
  readonly name: string;
  readonly type: number;
  readonly class: number;
  /** Name, type and class as they came: answers keep the case of the letters, by which resolvers know their own. */
  readonly raw: Uint8Array;
  /** `undefined` without EDNS (RFC 6891). */
  readonly edns: { readonly version: number; readonly size: number } | undefined;
}

/** The one zone that we are the authority of: query in, answer out. It looks up nothing elsewhere. */
export class Zone {
  readonly #zone: string;
  readonly #records: RecordSource;
  readonly #soa: () => ZoneRecord;

  constructor({ zone, nameServers, records, serial }: ZoneOptions) {
    this.#zone = zone;
    const apex = nameServers.map((name) => nameServerRecord(name, ZONE_TTL_S)).filter((record) => record !== undefined);
    this.#records = allRecords((name) => (name === zone ? [...apex, this.#soa()] : undefined), records);
    this.#soa = () => ({
      type: RECORD.SOA,
      ttl: NEGATIVE_TTL_S,
      data: soaData({
        primary: nameServers[0],
        contact: `hostmaster.${zone}`,
        ...{ serial: serial(), refresh: 3600, retry: 600, expire: 86_400, minimum: NEGATIVE_TTL_S },
      }),
    });
  }

  /** `undefined`: not a query, which deserves no answer. */
  answer(message: Uint8Array, transport: "udp" | "tcp"): Uint8Array | undefined {
    const query = readQuery(message);
    if (query === undefined) return undefined;
    if (!("raw" in query)) return encodeError(query, CODE.FORMAT);
    if (((query.flags >> 11) & 15) !== OPCODE.QUERY) return encodeError(query, CODE.NOT_IMPLEMENTED);
    const answer = this.#answerTo(query);
    const whole = encodeAnswer(query, answer);
    const limit = transport === "tcp" ? LARGEST_TCP : query.edns === undefined ? PLAIN_UDP : limitOf(query.edns.size);
    return whole.length <= limit ? whole : encodeAnswer(query, { code: answer.code, isTruncated: true });
  }

  /** An empty answer that sends the asker to TCP, where it cannot lie about its address. */
  toTcp(message: Uint8Array): Uint8Array | undefined {
    const query = readQuery(message);
    if (query === undefined || !("raw" in query)) return undefined;
    return encodeAnswer(query, { code: CODE.OK, isTruncated: true });
  }

  #answerTo({ name, type, class: inClass, edns }: Query): Answer {
    if (edns !== undefined && edns.version !== 0) return { code: CODE.BAD_VERSION };
    const isOurs = name === this.#zone || name.endsWith(`.${this.#zone}`);
    if (!isOurs || inClass !== CLASS.IN) return { code: CODE.REFUSED };
    if (type !== RECORD.ANY && isMetaType(type)) return { code: CODE.REFUSED };
    const records = this.#records(name);
    if (records === undefined) return { code: CODE.NAME, soa: { zone: this.#zone, record: this.#soa() } };
    if (type === RECORD.ANY) return { code: CODE.OK, records: [NOT_ALL] };
    const wanted = records.filter((record) => record.type === type);
    return wanted.length > 0
      ? { code: CODE.OK, records: wanted }
      : { code: CODE.OK, soa: { zone: this.#zone, record: this.#soa() } };
  }
}

/** To ANY: that there is more, without amplifying (RFC 8482 section 4.2). */
const NOT_ALL: ZoneRecord = {
  type: RECORD.HINFO,
  ttl: 3600,
  data: concatBytes(Uint8Array.of(7), Buffer.from("RFC8482"), Uint8Array.of(0)),
};

interface Answer {
  readonly code: number;
  readonly records?: readonly ZoneRecord[];
  readonly soa?: { readonly zone: string; readonly record: ZoneRecord };
  readonly isTruncated?: boolean;
}

function limitOf(size: number): number {
  return Math.min(Math.max(size, PLAIN_UDP), LARGEST_UDP);
}

type Head = Pick<Query, "id" | "flags">;

/** Only the head: there is no telling what was asked. `undefined`: a response, or noise. */
function readQuery(message: Uint8Array): Query | Head | undefined {
  if (message.length < HEADER_LENGTH || (message[2]! & 0x80) !== 0) return undefined;
  const view = new DataView(message.buffer, message.byteOffset, message.length);
  const head = { id: view.getUint16(0), flags: view.getUint16(2) };
  const [questions, answers, authority, additional] = [4, 6, 8, 10].map((at) => view.getUint16(at));
  if (questions !== 1 || answers !== 0 || authority !== 0 || additional! > MOST_ADDITIONAL) return head;
  // From its own start: a pointer has nothing to lead back to.
  const question = decodeName(message.subarray(HEADER_LENGTH), 0);
  if (question === undefined) return head;
  const end = HEADER_LENGTH + question.end;
  let at = end + 4;
  if (at > message.length) return head;
  let edns: Query["edns"];
  for (let i = 0; i < additional!; i++) {
    const record = decodeRecord(message, at);
    const isOpt = record?.type === RECORD.OPT;
    if (record === undefined || (isOpt && (edns !== undefined || record.name !== ""))) return head;
    if (isOpt) edns = { version: (record.ttl >>> 16) & 0xff, size: record.class };
    at = record.end;
  }
  return {
    ...head,
    name: question.name,
    type: view.getUint16(end),
    class: view.getUint16(end + 2),
    raw: message.subarray(HEADER_LENGTH, end + 4),
    edns,
  };
}

function encodeError({ id, flags }: Head, code: number): Uint8Array {
  return words(id, FLAG.RESPONSE | (flags & (0x7800 | FLAG.RECURSION)) | code, 0, 0, 0, 0);
}

function encodeAnswer(query: Query, { code, records = [], soa, isTruncated = false }: Answer): Uint8Array {
  const { id, flags, raw, edns } = query;
  const isRefused = code === CODE.REFUSED || code === CODE.BAD_VERSION;
  const bits =
    FLAG.RESPONSE |
    (flags & FLAG.RECURSION) |
    (isRefused ? 0 : FLAG.AUTHORITATIVE) |
    (isTruncated ? FLAG.TRUNCATED : 0);
  const inClass = CLASS.IN;
  const counts = [1, records.length, soa === undefined ? 0 : 1, edns === undefined ? 0 : 1];
  return concatBytes(
    words(id, bits | (code & 15), ...counts),
    raw,
    ...records.map((record) => encodeRecord({ ...record, name: "", class: inClass }, QUESTION_NAME)),
    ...(soa === undefined ? [] : [encodeRecord({ ...soa.record, name: "", class: inClass }, encodeName(soa.zone))]),
    ...(edns === undefined ? [] : [optRecord(code >> 4)]),
  );
}

function optRecord(extendedCode: number): Uint8Array {
  const record = {
    name: "",
    type: RECORD.OPT,
    class: LARGEST_UDP,
    ttl: extendedCode * 2 ** 24,
    data: new Uint8Array(0),
  };
  return encodeRecord(record);
}
