import { createHmac, timingSafeEqual } from "node:crypto";
import { concatBytes } from "../base/bytes.ts";
import { CLASS, decodeName, decodeRecord, encodeName, encodeRecord, HEADER_LENGTH, RECORD, words } from "./dns.ts";

/** Signed DNS messages (RFC 8945). */

export type TsigAlgorithm = "hmac-sha256" | "hmac-sha512";

export interface TsigKey {
  /** Lower case, no trailing dot. */
  readonly name: string;
  readonly algorithm: TsigAlgorithm;
  readonly secret: Uint8Array;
}

/** Seconds that the two clocks may differ by. */
const FUDGE_S = 300;
const MAC_LENGTH: Readonly<Record<TsigAlgorithm, number>> = { "hmac-sha256": 32, "hmac-sha512": 64 };

export interface SignedMessage {
  readonly message: Uint8Array;
  /** The answer's signature covers it. */
  readonly mac: Uint8Array;
}

/** `message` with its signature as the last record. `wall`: Unix time in ms. `requestMac`: of the request that this answers. */
export function signMessage(message: Uint8Array, key: TsigKey, wall: number, requestMac?: Uint8Array): SignedMessage {
  const variables = { seconds: Math.floor(wall / 1000), fudge: FUDGE_S, error: 0, other: new Uint8Array(0) };
  const mac = macOf(key, requestMac, message, variables);
  const data = concatBytes(
    nameBytes(key.algorithm),
    time(variables.seconds),
    words(FUDGE_S, mac.length),
    mac,
    message.subarray(0, 2),
    words(0, 0),
  );
  const record = encodeRecord({ name: key.name, type: RECORD.TSIG, class: CLASS.ANY, ttl: 0, data });
  const signed = concatBytes(message, record);
  const view = new DataView(signed.buffer);
  view.setUint16(10, view.getUint16(10) + 1);
  return { message: signed, mac };
}

/** Why an answer is not signed as it should be, in words; `undefined`: it is. */
export function tsigProblem(
  message: Uint8Array,
  key: TsigKey,
  wall: number,
  requestMac?: Uint8Array,
): string | undefined {
  const start = lastRecordOf(message);
  const record = start === undefined ? undefined : decodeRecord(message, start);
  if (start === undefined || record?.type !== RECORD.TSIG) return "it is not signed";
  const fields = readFields(record.data);
  // Class and TTL are not signed as they stand, but as they have to be (RFC 8945 section 4.3.3).
  if (fields === undefined || record.class !== CLASS.ANY || record.ttl !== 0) return "its signature is damaged";
  if (record.name !== key.name || fields.algorithm !== key.algorithm) return "it is signed by another key";
  // The error says more than the missing signature (RFC 8945 section 5.2).
  if (fields.mac.length === 0 && fields.error !== 0) return ERRORS[fields.error] ?? `error ${fields.error} of its key`;
  const bare = Uint8Array.from(message.subarray(0, start)); // a copy, also of a Buffer
  const view = new DataView(bare.buffer);
  view.setUint16(10, view.getUint16(10) - 1);
  bare.set(fields.originalId, 0);
  const wanted = macOf(key, requestMac, bare, fields);
  if (fields.mac.length !== MAC_LENGTH[key.algorithm] || !timingSafeEqual(wanted, fields.mac)) {
    return "its signature is wrong";
  }
  if (fields.error !== 0) return ERRORS[fields.error] ?? `error ${fields.error} of its key`;
  return Math.abs(wall / 1000 - fields.seconds) > fields.fudge + FUDGE_S ? "it was signed at another time" : undefined;
}

/** RFC 8945 section 3. */
const ERRORS: Readonly<Record<number, string>> = {
  16: "the server finds our signature wrong (BADSIG): the secret is another one",
  17: "the server does not know the key (BADKEY)",
  18: "the clocks differ by more than five minutes (BADTIME)",
};

interface Variables {
  readonly seconds: number;
  readonly fudge: number;
  readonly error: number;
  readonly other: Uint8Array;
}

function macOf(key: TsigKey, before: Uint8Array | undefined, message: Uint8Array, variables: Variables): Uint8Array {
  const { seconds, fudge, error, other } = variables;
  const hmac = createHmac(key.algorithm.slice("hmac-".length), key.secret);
  if (before !== undefined) hmac.update(words(before.length)).update(before);
  hmac.update(message);
  hmac
    .update(nameBytes(key.name))
    .update(words(CLASS.ANY, 0, 0))
    .update(nameBytes(key.algorithm));
  return hmac
    .update(time(seconds))
    .update(words(fudge, error, other.length))
    .update(other)
    .digest();
}

interface Fields extends Variables {
  readonly algorithm: string;
  readonly mac: Uint8Array;
  readonly originalId: Uint8Array;
}

function readFields(data: Uint8Array): Fields | undefined {
  const algorithm = decodeName(data, 0);
  if (algorithm === undefined || algorithm.end + 10 > data.length) return undefined;
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  const at = algorithm.end;
  const macEnd = at + 10 + view.getUint16(at + 8);
  if (macEnd + 6 > data.length || macEnd + 6 + view.getUint16(macEnd + 4) !== data.length) return undefined;
  return {
    algorithm: algorithm.name,
    seconds: view.getUint16(at) * 2 ** 32 + view.getUint32(at + 2),
    fudge: view.getUint16(at + 6),
    mac: data.subarray(at + 10, macEnd),
    originalId: data.subarray(macEnd, macEnd + 2),
    error: view.getUint16(macEnd + 2),
    other: data.subarray(macEnd + 6),
  };
}

/** Where the last record begins, which has to be in the last section and at the end. */
function lastRecordOf(message: Uint8Array): number | undefined {
  if (message.length < HEADER_LENGTH) return undefined;
  const view = new DataView(message.buffer, message.byteOffset, message.length);
  const [questions = 0, answers = 0, authority = 0, additional = 0] = [4, 6, 8, 10].map((at) => view.getUint16(at));
  let at = HEADER_LENGTH;
  for (let i = 0; i < questions; i++) {
    const name = decodeName(message, at);
    if (name === undefined) return undefined;
    at = name.end + 4;
  }
  let last: number | undefined;
  for (let i = 0; i < answers + authority + additional; i++) {
    const record = decodeRecord(message, at);
    if (record === undefined) return undefined;
    last = at;
    at = record.end;
  }
  return additional > 0 && at === message.length ? last : undefined;
}

function nameBytes(name: string): Uint8Array {
  return encodeName(name) ?? new Uint8Array(1);
}

/** 48 bits. */
function time(seconds: number): Uint8Array {
  return words(Math.floor(seconds / 2 ** 32), Math.floor(seconds / 65_536) % 65_536, seconds % 65_536);
}
