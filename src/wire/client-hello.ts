import { toLatin1 } from "../base/bytes.ts";

/** What a server must know of a TLS client's first message before it can answer (RFC 8446 section 4.1.2). */
export interface ClientHello {
  /** As it was sent (RFC 6066 section 3); absent = none; empty: text that can be no name. */
  readonly serverName: string | undefined;
  /** As bytes in characters (RFC 7301); empty = none. */
  readonly protocols: readonly string[];
}

/** Of the message; OpenSSL's own limit is twice that. */
const MOST_MESSAGE_BYTES = 64 * 1024;
/** Of the records around it. */
const MOST_RAW_BYTES = 128 * 1024;
const RECORD_HEADER_BYTES = 5;
const MOST_RECORD_BYTES = 16_384;
const HANDSHAKE_RECORD = 22;
const CLIENT_HELLO = 1;
const SERVER_NAME = 0;
const HOST_NAME = 0;
const PROTOCOLS = 16;
const LONGEST_NAME_BYTES = 255;
const SMALLEST_BYTES = 2048;
const NOTHING = new Uint8Array(0);

/** Why a hello is none, with the alert that says so (RFC 8446 section 6.2). */
export interface HelloRefusal {
  readonly alert: number;
  readonly found: string;
}

export const ALERT: {
  readonly unexpectedMessage: number;
  readonly illegalParameter: number;
  readonly decodeError: number;
  readonly internalError: number;
  readonly unrecognizedName: number;
  readonly noApplicationProtocol: number;
} = {
  unexpectedMessage: 10,
  illegalParameter: 47,
  decodeError: 50,
  internalError: 80,
  unrecognizedName: 112,
  noApplicationProtocol: 120,
};

/** A fatal alert as a record, for a connection that ends before TLS is spoken on it. */
export function alertRecord(alert: number): Uint8Array {
  return Uint8Array.of(21, 3, 3, 0, 2, 2, alert);
}

/**
 * Takes a connection's first bytes in parts of any size until the hello is whole. The same answer comes out however
 * the bytes were cut into records or segments, with work in proportion to the bytes (CVE-2026-32305).
 */
export class HelloReader {
  /** Of a record's header: how many of its bytes are here. */
  #headerBytes = 0;
  #high = 0;
  #left = 0;
  /** The message as far as it is here; one buffer, however small the records are. */
  #message: Uint8Array = NOTHING;
  #length = 0;
  #raw = 0;
  #wanted: number | undefined;

  /** `undefined`: more bytes are needed. The chunks are kept until then, not copied. */
  push(chunk: Uint8Array): ClientHello | HelloRefusal | undefined {
    this.#raw += chunk.length;
    for (let at = 0; at < chunk.length; ) {
      if (this.#left === 0) {
        const refusal = this.#takeHeader(chunk[at++]!);
        if (refusal !== undefined) return refusal;
        continue;
      }
      const part = chunk.subarray(at, at + this.#left);
      this.#left -= part.length;
      at += part.length;
      const answer = this.#take(part);
      if (answer !== undefined) return answer;
    }
    return this.#raw > MOST_RAW_BYTES ? refused(ALERT.decodeError, "too many bytes") : undefined;
  }

  /** Type, two bytes of version, two of length. */
  #takeHeader(byte: number): HelloRefusal | undefined {
    const at = this.#headerBytes++;
    if (at === 0 && byte !== HANDSHAKE_RECORD) return refused(ALERT.unexpectedMessage, "no TLS handshake");
    if (at === 1 && byte !== 3) return refused(ALERT.decodeError, "an unknown record version");
    if (at === 3) this.#high = byte;
    if (at < RECORD_HEADER_BYTES - 1) return undefined;
    this.#headerBytes = 0;
    this.#left = this.#high * 256 + byte;
    if (this.#left === 0) return refused(ALERT.unexpectedMessage, "an empty record"); // RFC 8446 section 5.1
    return this.#left > MOST_RECORD_BYTES ? refused(ALERT.decodeError, "a record over 16 KiB") : undefined;
  }

  #take(part: Uint8Array): ClientHello | HelloRefusal | undefined {
    const isFirst = this.#length === 0;
    const message = isFirst ? part : this.#keep(part);
    if (this.#wanted === undefined && message.length >= 4) {
      if (message[0] !== CLIENT_HELLO) return refused(ALERT.unexpectedMessage, "another message than a hello");
      const length = message[1]! * 65_536 + message[2]! * 256 + message[3]!;
      if (length > MOST_MESSAGE_BYTES) return refused(ALERT.decodeError, "a hello over 64 KiB");
      this.#wanted = length + 4;
    }
    if (this.#wanted !== undefined && message.length >= this.#wanted) {
      return readClientHello(message.subarray(4, this.#wanted));
    }
    if (isFirst) this.#keep(part); // mostly a hello comes whole, and is not copied at all
    return undefined;
  }

  /** A copy: the caller's view may be dead on return. Gives all of the message that is here. */
  #keep(part: Uint8Array): Uint8Array {
    const length = this.#length + part.length;
    if (length > this.#message.length) {
      const doubled = Math.max(2 * this.#message.length, SMALLEST_BYTES);
      const larger = new Uint8Array(Math.max(length, Math.min(doubled, this.#wanted ?? doubled)));
      larger.set(this.#message.subarray(0, this.#length));
      this.#message = larger;
    }
    this.#message.set(part, this.#length);
    this.#length = length;
    return this.#message.subarray(0, length);
  }
}

/** Of a hello's body, without the message's header. */
export function readClientHello(body: Uint8Array): ClientHello | HelloRefusal {
  const lists = new Lists(body, 0, body.length);
  lists.skip(2 + 32); // version, random
  const sessionId = lists.skipList(1);
  const suites = lists.skipList(2);
  const compression = lists.skipList(1);
  if (lists.isBroken || sessionId > 32 || suites === 0 || suites % 2 > 0 || compression === 0) return MALFORMED;
  if (lists.isEmpty) return { serverName: undefined, protocols: [] };
  const extensions = lists.list(2);
  if (lists.isBroken || !lists.isEmpty) return MALFORMED;
  beginHello();
  let serverName: string | undefined;
  let protocols: readonly string[] = [];
  while (!extensions.isEmpty) {
    const type = extensions.number(2);
    const content = extensions.list(2);
    if (extensions.isBroken) return MALFORMED;
    if (seenIn[type] === hellos) return TWICE;
    seenIn[type] = hellos;
    if (type === SERVER_NAME) {
      serverName = nameOf(content);
      if (serverName === undefined) return MALFORMED;
    } else if (type === PROTOCOLS) {
      const names = protocolsOf(content);
      if (names === undefined) return MALFORMED;
      protocols = names;
    }
  }
  return { serverName, protocols };
}

/** By extension type, the number of the hello that had it last: a `Set` for each would be most of what a hello allocates. */
const seenIn = new Uint32Array(0x10000);
let hellos = 0;

function beginHello(): void {
  if (hellos === 0xffff_ffff) {
    seenIn.fill(0);
    hellos = 0;
  }
  hellos++;
}

/** One host name, as RFC 6066 allows; a list with two leaves open who is meant. */
function nameOf(content: Lists): string | undefined {
  const list = content.list(2);
  const type = list.number(1);
  const from = list.at + 2;
  const length = list.skipList(2);
  if (content.isBroken || !content.isEmpty || list.isBroken || !list.isEmpty) return undefined;
  if (type !== HOST_NAME || length === 0) return undefined;
  // Well-formed TLS, and nobody's name: it is answered as such, as OpenSSL does.
  if (length > LONGEST_NAME_BYTES) return "";
  const name = list.text(from, length);
  return name.includes("\0") ? "" : name;
}

function protocolsOf(content: Lists): readonly string[] | undefined {
  const list = content.list(2);
  if (content.isBroken || !content.isEmpty || list.isEmpty) return undefined;
  const names: string[] = [];
  while (!list.isEmpty) {
    const from = list.at + 1;
    const length = list.skipList(1);
    if (list.isBroken || length === 0) return undefined;
    names.push(list.text(from, length));
  }
  return names;
}

/** TLS' vectors: a length, then as many bytes. Those from `at` up to `end`. */
class Lists {
  readonly #bytes: Uint8Array;
  at: number;
  readonly #end: number;
  /** Something was announced that was not there. */
  isBroken = false;

  constructor(bytes: Uint8Array, at: number, end: number) {
    this.#bytes = bytes;
    this.at = at;
    this.#end = end;
  }

  get isEmpty(): boolean {
    return this.at >= this.#end;
  }

  skip(count: number): void {
    if (this.at + count > this.#end) this.isBroken = true;
    this.at += count;
  }

  number(size: number): number {
    let value = 0;
    for (let i = this.at; i < this.at + size; i += 1) value = value * 256 + (i < this.#end ? this.#bytes[i]! : 0);
    this.skip(size);
    return value;
  }

  /** Its length. */
  skipList(sizeOfLength: number): number {
    const length = this.number(sizeOfLength);
    this.skip(length);
    return length;
  }

  list(sizeOfLength: number): Lists {
    const length = this.skipList(sizeOfLength);
    return new Lists(this.#bytes, this.at - length, Math.min(this.at, this.#end));
  }

  text(from: number, length: number): string {
    return toLatin1(this.#bytes.subarray(from, from + length));
  }
}

function refused(alert: number, found: string): HelloRefusal {
  return { alert, found };
}

const MALFORMED: HelloRefusal = refused(ALERT.decodeError, "a malformed hello");
const TWICE: HelloRefusal = refused(ALERT.illegalParameter, "an extension twice");
