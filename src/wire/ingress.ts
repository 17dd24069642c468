import { type AddressPort, formatAddressPort } from "../base/address.ts";
import { toLatin1 } from "../base/bytes.ts";

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
const EARLY_KEY = EARLY_FIELD.toLowerCase();

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
    this.#head += toLatin1(view.subarray(0, LONGEST_ANSWER));
    const end = this.#head.indexOf("\r\n\r\n", Math.max(0, before - 3));
    if (end < 0) return this.#head.length >= LONGEST_ANSWER ? NO_HTTP : undefined;
    const status = /^HTTP\/1\.[01] ([1-5]\d\d)[ \r]/.exec(this.#head)?.[1];
    if (status === undefined) return NO_HTTP;
    const takesEarly = EARLY_LINE.test(this.#head.slice(0, end + 2));
    return { status: Number(status), takesEarly, rest: view.subarray(end + 4 - before) };
  }
}

const EARLY_LINE = new RegExp(`\\r\\n${EARLY_FIELD}:[ \\t]*\\?1[ \\t]*\\r\\n`, "i");
const NO_HTTP: IngressAnswer = { status: 0, takesEarly: false, rest: new Uint8Array() };

const MOST_FIELDS = 100;

/** The head of a request to a peerapi, by names in lower case. */
export interface PeerApiHead {
  readonly method: string;
  readonly path: string;
  /** Each value of a field that came more than once. */
  readonly fields: ReadonlyMap<string, readonly string[]>;
}

const HEAD = /^[A-Z]{1,16} [!-~]+ HTTP\/1\.1(?:\r\n[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~]*)*(?:\r\n)?$/;

/** Up to the empty line, which is not part of `text`. `undefined`: not HTTP/1.1 to the letter. */
export function readPeerApiHead(text: string): PeerApiHead | undefined {
  if (!HEAD.test(text)) return undefined;
  const [method, path] = text.split(" ", 2) as [string, string];
  const fields = new Map<string, string[]>();
  const lines = text.split("\r\n").slice(1);
  if (lines.at(-1) === "") lines.pop();
  if (lines.length > MOST_FIELDS) return undefined;
  for (const line of lines) {
    const colon = line.indexOf(":");
    const key = line.slice(0, colon).toLowerCase();
    const value = line.slice(colon + 1).trim();
    const values = fields.get(key);
    if (values === undefined) fields.set(key, [value]);
    else values.push(value);
  }
  return { method, path, fields };
}

/** What the relay said of a visitor's first bytes: `?1` they follow at once, `?0` they could; undefined: upstream's relay. */
export function earlyWord({ fields }: PeerApiHead): string | undefined {
  const [word, ...more] = fields.get(EARLY_KEY) ?? [];
  return more.length === 0 && (word === "?0" || word === "?1") ? word : undefined;
}

const BARE = Buffer.from("HTTP/1.1 101 Switching Protocols\r\n\r\n");
const TELLING = Buffer.from(`HTTP/1.1 101 Switching Protocols\r\n${EARLY_FIELD}: ?1\r\n\r\n`);

/** The 101, bare unless the relay asked. */
export function acceptanceOf(head: PeerApiHead): Uint8Array {
  return earlyWord(head) === undefined ? BARE : TELLING;
}
