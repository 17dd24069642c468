import { type AddressPort, formatAddressPort } from "../base/address.ts";

// The words between an ingress and the peerapi of the node behind it (serve-and-funnel sheet 5.4, upstream
// `ipn/ipnlocal/serve.go:handleServeIngress`): one request without a body, a bare 101, then the visitor's bytes.

export const INGRESS_PATH: string = "/v0/ingress";
export const SOURCE_FIELD: string = "Tailscale-Ingress-Src";
export const TARGET_FIELD: string = "Tailscale-Ingress-Target";
/**
 * Ours, beside what upstream says. A relay asks with `?0` whether the node takes a visitor's first bytes behind the request
 * too, which spares a round trip; one that does answers `?1`, and from then on the relay sends them so, under `?1`. Nobody
 * else is sent any before the 101: upstream's node would lose them.
 */
export const EARLY_FIELD: string = "Sallyport-Ingress-Early";

export interface IngressRequest {
  /** The visitor. */
  readonly source: AddressPort;
  /** `name:port`, as the visitor asked for it. */
  readonly target: string;
  /** The node's peerapi, which it must be addressed as. */
  readonly peerApi: AddressPort;
  /** The visitor's first bytes follow at once. */
  readonly isEarly: boolean;
}

export function encodeIngressRequest({ source, target, peerApi, isEarly }: IngressRequest): Uint8Array {
  return Buffer.from(
    `POST ${INGRESS_PATH} HTTP/1.1\r\nHost: ${formatAddressPort(peerApi)}\r\n` +
      `${SOURCE_FIELD}: ${formatAddressPort(source)}\r\n${TARGET_FIELD}: ${target}\r\nContent-Length: 0\r\n` +
      `${EARLY_FIELD}: ${isEarly ? "?1" : "?0"}\r\n\r\n`,
    "latin1",
  );
}

const LONGEST_ANSWER = 8 * 1024;

export interface IngressAnswer {
  readonly status: number;
  /** The node takes a visitor's first bytes behind the request. */
  readonly takesEarly: boolean;
  /** What followed the head: the node's first bytes to the visitor. */
  readonly rest: Uint8Array;
}

/** The head of a node's answer, in parts of any size. Status 0: that was no HTTP. */
export class IngressAnswerReader {
  #head = "";

  /** `undefined`: more bytes are needed. */
  push(view: Uint8Array): IngressAnswer | undefined {
    const before = this.#head.length;
    const bytes = Buffer.from(view.buffer, view.byteOffset, view.length);
    // Mostly the head is whole, and what is behind it no text.
    const wholeAt = before === 0 ? bytes.indexOf("\r\n\r\n") : -1;
    this.#head += bytes.toString("latin1", 0, wholeAt < 0 ? LONGEST_ANSWER : wholeAt + 4);
    const end = this.#head.indexOf("\r\n\r\n", Math.max(0, before - 3));
    if (end < 0) return this.#head.length >= LONGEST_ANSWER ? NO_HTTP : undefined;
    if (end > LONGEST_ANSWER || !STATUS_LINE.test(this.#head)) return NO_HTTP;
    const takesEarly = EARLY_LINE.test(this.#head.slice(0, end + 2));
    return { status: Number(this.#head.slice(9, 12)), takesEarly, rest: view.subarray(end + 4 - before) };
  }
}

/** The status stands at 9 to 12. */
const STATUS_LINE = /^HTTP\/1\.[01] [1-5]\d\d[ \r]/;
const EARLY_LINE = new RegExp(`\\r\\n${EARLY_FIELD}:[ \\t]*\\?1[ \\t]*\\r\\n`, "i");
const NO_HTTP: IngressAnswer = { status: 0, takesEarly: false, rest: new Uint8Array() };

/** A line of method, path and version, and up to a hundred fields. */
const HEAD = /^[A-Z]{1,16} [!-~]+ HTTP\/1\.1(?:\r\n[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~]*){0,100}(?:\r\n)?$/;

/** Up to the empty line, which is not part of `text`. `undefined`: not HTTP/1.1 to the letter. */
export function readPeerApiHead(text: string): PeerApiHead | undefined {
  return HEAD.test(text) ? new PeerApiHead(text) : undefined;
}

/** The head of a request to a peerapi. */
export class PeerApiHead {
  readonly method: string;
  readonly path: string;
  readonly #text: string;
  /** The same in lower case, where fields are found by their names: no value has a line's end in it. */
  readonly #folded: string;

  /** `text` is of the form. */
  constructor(text: string) {
    const space = text.indexOf(" ");
    this.method = text.slice(0, space);
    this.path = text.slice(space + 1, text.indexOf(" ", space + 1));
    this.#text = text;
    this.#folded = text.toLowerCase();
  }

  has(mark: FieldMark): boolean {
    return this.#folded.includes(mark);
  }

  /** Each value of the field. */
  values(mark: FieldMark): readonly string[] {
    let at = this.#folded.indexOf(mark);
    if (at < 0) return NONE;
    const values: string[] = [];
    for (; at >= 0; at = this.#folded.indexOf(mark, at + 1)) {
      const from = at + mark.length;
      const end = this.#text.indexOf("\r\n", from);
      values.push(this.#text.slice(from, end < 0 ? undefined : end).trim());
    }
    return values;
  }
}

const NONE: readonly string[] = [];

/** How a line of that field begins, with the end of the line before. */
export type FieldMark = `\r\n${string}:`;

export function fieldMark(name: string): FieldMark {
  return `\r\n${name.toLowerCase()}:`;
}

const EARLY = fieldMark(EARLY_FIELD);

/** What the relay said of a visitor's first bytes: `?1` they follow at once, `?0` they could; undefined: upstream's relay. */
export function earlyWord(head: PeerApiHead): string | undefined {
  const [word, ...more] = head.values(EARLY);
  return more.length === 0 && (word === "?0" || word === "?1") ? word : undefined;
}

const BARE = Buffer.from("HTTP/1.1 101 Switching Protocols\r\n\r\n");
const TELLING = Buffer.from(`HTTP/1.1 101 Switching Protocols\r\n${EARLY_FIELD}: ?1\r\n\r\n`);

/** The 101, bare unless the relay asked. */
export function acceptanceOf(earlyWord: string | undefined): Uint8Array {
  return earlyWord === undefined ? BARE : TELLING;
}
