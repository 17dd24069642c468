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
  #header: number[] = [];
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
        this.#header.push(chunk[at]!);
        at += 1;
        const refusal = this.#startRecord();
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

  #startRecord(): HelloRefusal | undefined {
    const [type, major, , high, low] = this.#header;
    if (type !== HANDSHAKE_RECORD) return refused(ALERT.unexpectedMessage, "no TLS handshake");
    if (major !== undefined && major !== 3) return refused(ALERT.decodeError, "an unknown record version");
    if (this.#header.length < RECORD_HEADER_BYTES) return undefined;
    this.#header = [];
    this.#left = high! * 256 + low!;
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
  const reader = new Lists(body);
  reader.skip(2 + 32); // version, random
  const sessionId = reader.list(1);
  const suites = reader.list(2);
  const compression = reader.list(1);
  if (reader.isBroken || sessionId.length > 32 || suites.length === 0 || suites.length % 2 > 0) return MALFORMED;
  if (compression.length === 0) return MALFORMED;
  if (reader.isEmpty) return { serverName: undefined, protocols: [] };
  const extensions = new Lists(reader.list(2));
  if (reader.isBroken || !reader.isEmpty) return MALFORMED;
  const seen = new Set<number>();
  let serverName: string | undefined;
  let protocols: readonly string[] = [];
  while (!extensions.isEmpty) {
    const type = extensions.number(2);
    const content = extensions.list(2);
    if (extensions.isBroken) return MALFORMED;
    if (seen.has(type)) return refused(ALERT.illegalParameter, "an extension twice");
    seen.add(type);
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

/** One host name, as RFC 6066 allows; a list with two leaves open who is meant. */
function nameOf(content: Uint8Array): string | undefined {
  const outer = new Lists(content);
  const list = new Lists(outer.list(2));
  const type = list.number(1);
  const name = list.list(2);
  if (outer.isBroken || !outer.isEmpty || list.isBroken || !list.isEmpty) return undefined;
  if (type !== HOST_NAME || name.length === 0) return undefined;
  // Well-formed TLS, and nobody's name: it is answered as such, as OpenSSL does.
  return name.length > LONGEST_NAME_BYTES || name.includes(0) ? "" : latin1(name);
}

function protocolsOf(content: Uint8Array): readonly string[] | undefined {
  const outer = new Lists(content);
  const list = new Lists(outer.list(2));
  if (outer.isBroken || !outer.isEmpty || list.isEmpty) return undefined;
  const names: string[] = [];
  while (!list.isEmpty) {
    const name = list.list(1);
    if (list.isBroken || name.length === 0) return undefined;
    names.push(latin1(name));
  }
  return names;
}

/** TLS' vectors: a length, then as many bytes. */
class Lists {
  readonly #bytes: Uint8Array;
  #at = 0;
  /** Something was announced that was not there. */
  isBroken = false;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get isEmpty(): boolean {
    return this.#at >= this.#bytes.length;
  }

  skip(count: number): void {
    if (this.#at + count > this.#bytes.length) this.isBroken = true;
    this.#at += count;
  }

  number(size: number): number {
    let value = 0;
    for (let i = 0; i < size; i += 1) value = value * 256 + (this.#bytes[this.#at + i] ?? 0);
    this.skip(size);
    return value;
  }

  list(sizeOfLength: number): Uint8Array {
    const length = this.number(sizeOfLength);
    const from = this.#at;
    this.skip(length);
    return this.#bytes.subarray(from, from + length);
  }
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1");
}

function refused(alert: number, found: string): HelloRefusal {
  return { alert, found };
}

const MALFORMED: HelloRefusal = refused(ALERT.decodeError, "a malformed hello");
