import { type AddressPort, formatAddressPort, parseAddressPort } from "../base/address.ts";

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
const BARE = Buffer.from("HTTP/1.1 101 Switching Protocols\r\n\r\n");
const TELLING = Buffer.from(`HTTP/1.1 101 Switching Protocols\r\n${EARLY_FIELD}: ?1\r\n\r\n`);

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
    if (before === 0 && beginsWith(bytes, TELLING)) {
      return { status: 101, takesEarly: true, rest: view.subarray(TELLING.length) }; // what nodes of ours say
    }
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

function beginsWith(bytes: Buffer, start: Buffer): boolean {
  const { length } = start;
  return bytes.length >= length && bytes.compare(start, 0, length, 0, length) === 0;
}

/** The status stands at 9 to 12. */
const STATUS_LINE = /^HTTP\/1\.[01] [1-5]\d\d[ \r]/;
const EARLY_LINE = new RegExp(`\\r\\n${EARLY_FIELD}:[ \\t]*\\?1[ \\t]*\\r\\n`, "i");
const NO_HTTP: IngressAnswer = { status: 0, takesEarly: false, rest: new Uint8Array() };

/** A line of method, path and version, and up to a hundred fields. */
const HEAD = /^[A-Z]{1,16} [!-~]+ HTTP\/1\.1(?:\r\n[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~]*){0,100}(?:\r\n)?$/;

/** The head of a request to a peerapi, as far as anything depends on it. */
export interface PeerApiHead {
  readonly method: string;
  readonly path: string;
  /** Each value, as of every field. */
  readonly hosts: readonly string[];
  /** Of a single host that is written as an address with a port. */
  readonly hostAddress: string | undefined;
  /** A page in a browser asks, which tells by `Referer` or `Origin`. */
  readonly isOfPage: boolean;
  readonly hasBody: boolean;
  readonly sources: readonly string[];
  readonly targets: readonly string[];
  /** What the relay said of a visitor's first bytes: `?1` they follow at once, `?0` they could; undefined: upstream's relay. */
  readonly early: "?0" | "?1" | undefined;
}

/** Up to the empty line, which is not part of `text`. `undefined`: not HTTP/1.1 to the letter. */
export function readPeerApiHead(text: string): PeerApiHead | undefined {
  if (!HEAD.test(text)) return undefined;
  const [line = "", ...fields] = text.split("\r\n");
  const [method = "", path = ""] = line.split(" ");
  const values = (name: string): readonly string[] => {
    const mark = `${name.toLowerCase()}:`;
    const found = fields.filter((field) => field.slice(0, mark.length).toLowerCase() === mark);
    return found.map((field) => field.slice(mark.length).trim());
  };
  const hosts = values("Host");
  const [early, ...more] = values(EARLY_FIELD);
  return {
    method,
    path,
    hosts,
    hostAddress: hosts.length === 1 ? parseAddressPort(hosts[0]!)?.address : undefined,
    isOfPage: values("Referer").length > 0 || values("Origin").length > 0,
    hasBody: values("Content-Length").some((value) => value !== "0") || values("Transfer-Encoding").length > 0,
    sources: values(SOURCE_FIELD),
    targets: values(TARGET_FIELD),
    early: more.length === 0 && (early === "?0" || early === "?1") ? early : undefined,
  };
}

/** Reads heads. A relay says the same of each visitor but for who he is, and what is the same is read once. */
export class PeerApiHeadReader {
  #last: { readonly before: string; readonly after: string; readonly head: PeerApiHead } | undefined;

  /** As `readPeerApiHead`. */
  read(text: string): PeerApiHead | undefined {
    const last = this.#last;
    if (last !== undefined && text.startsWith(last.before) && text.endsWith(last.after)) {
      const source = text.slice(last.before.length, text.length - last.after.length);
      if (ANY_SOURCE.test(source)) return { ...last.head, sources: [source] };
    }
    const head = readPeerApiHead(text);
    if (head?.sources.length === 1) {
      const line = `\r\n${SOURCE_FIELD}: ${head.sources[0]}\r\n`;
      const [before, after] = text.split(line);
      if (before !== undefined && after !== undefined) {
        this.#last = { before: `${before}\r\n${SOURCE_FIELD}: `, after: `\r\n${after}`, head };
      }
    }
    return head;
  }
}

/** Of an address and a port: nothing that ends a line, or that a value is trimmed of. */
const ANY_SOURCE = /^[0-9A-Fa-f.:[\]]+$/;

/** The 101, bare unless the relay asked. */
export function acceptanceOf(early: PeerApiHead["early"]): Uint8Array {
  return early === undefined ? BARE : TELLING;
}
