/** The head of a backend's answer. */
export interface AnswerHead {
  readonly status: number;
  /** Names and values in turn, as sent. */
  readonly fields: readonly string[];
  /** Of the body; `undefined` when only its end will tell. */
  readonly length: number | undefined;
  /** Nothing follows, not even trailers. */
  readonly isWhole: boolean;
}

export interface AnswerEvents {
  information(status: number, fields: readonly string[]): void;
  head(head: AnswerHead): void;
  /** `isLast`: the answer is complete with it, and no `end` follows. */
  body(part: Buffer, isLast: boolean): void;
  end(trailers: readonly string[]): void;
  /** A 101 that was asked for, with what follows it. */
  switched(head: AnswerHead, rest: Buffer): void;
}

export interface AnswerLimits {
  readonly headBytes: number;
  readonly fields: number;
  readonly informational: number;
  readonly trailerBytes: number;
  readonly chunkLineBytes: number;
}

export const ANSWER_LIMITS: AnswerLimits = {
  headBytes: 64 * 1024,
  fields: 1000,
  informational: 20,
  trailerBytes: 16 * 1024,
  chunkLineBytes: 4096,
};

type State = "head" | "length" | "chunk line" | "chunk" | "chunk end" | "trailers" | "close" | "done";

const CRLF = Buffer.from("\r\n");
const BLANK_LINE = Buffer.from("\r\n\r\n");
const NO_FIELDS: readonly string[] = [];
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
/** What no field line may hold: controls, and line ends that are only half of one (RFC 9112 section 2.2). */
const BAD_TEXT = /[^\t\r\n\x20-\x7e\x80-\xff]|\r(?!\n)|(?<!\r)\n/;
const STATUS_LINE = /^HTTP\/1\.([01]) ([1-9]\d\d)(?: [\t\x20-\x7e\x80-\xff]*)?$/;
/** RFC 9112 section 7.1. Extensions are dropped, but they too must be text. */
const CHUNK_LINE = /^([0-9A-Fa-f]{1,13})(?:[\t ]*;[\t\x20-\x7e\x80-\xff]*)?$/;
const PROTOCOL = "HTTP/1.";

/**
 * Reads one backend's answers on one connection, strictly: an answer whose length has two meanings has none
 * (RFC 9112 section 6.3). It owns no socket; what it is fed is read in place.
 */
export class AnswerParser {
  readonly #events: AnswerEvents;
  readonly #limits: AnswerLimits;
  #state: State = "done";
  #isHead = false;
  #maySwitch = false;
  #informational = 0;
  #left = 0;
  #isPersistent = false;
  #keepSeconds: number | undefined;
  #isStopped = false;
  #leftover = 0;
  /** Bytes of a line or head that is not here whole. */
  #held: Buffer[] = [];
  #heldBytes = 0;

  constructor(events: AnswerEvents, limits: AnswerLimits = ANSWER_LIMITS) {
    this.#events = events;
    this.#limits = limits;
  }

  /** The next answer is one to this request. */
  begin(method: string, maySwitch: boolean): void {
    this.#state = "head";
    this.#isHead = method === "HEAD";
    this.#maySwitch = maySwitch;
    this.#informational = 0;
    this.#leftover = 0;
    this.#isPersistent = false;
  }

  get isDone(): boolean {
    return this.#state === "done";
  }

  /** After the end: may the connection carry another request? */
  get isReusable(): boolean {
    return this.#state === "done" && this.#isPersistent && this.#leftover === 0;
  }

  /** How long the backend keeps an idle connection, by its own word. */
  get keepSeconds(): number | undefined {
    return this.#keepSeconds;
  }

  /** No event comes any more, not even out of the `feed` that is under way. */
  stop(): void {
    this.#isStopped = true;
  }

  /** What is wrong with the answer, if anything. */
  feed(chunk: Buffer): string | undefined {
    let bytes = chunk;
    if (this.#heldBytes > 0) {
      this.#held.push(chunk);
      this.#heldBytes += chunk.length;
      if (!chunk.includes(10)) return this.#heldFault(); // still no end of a line
      bytes = Buffer.concat(this.#held, this.#heldBytes);
      this.#held = [];
      this.#heldBytes = 0;
    }
    let at = 0;
    while (at < bytes.length && !this.#isStopped) {
      const next = this.#step(bytes, at);
      if (typeof next === "string") return next;
      if (next === at) {
        this.#held.push(at === 0 ? bytes : bytes.subarray(at));
        this.#heldBytes = bytes.length - at;
        return this.#heldFault();
      }
      at = next;
    }
    return undefined;
  }

  /** The backend ended its side. */
  finish(): string | undefined {
    if (this.#state === "done") return undefined;
    if (this.#state !== "close") return this.#state === "head" ? "it ended before its head" : "it ended too early";
    this.#state = "done";
    this.#events.end(NO_FIELDS);
    return undefined;
  }

  #heldFault(): string | undefined {
    const { headBytes, chunkLineBytes, trailerBytes } = this.#limits;
    if (this.#state === "head") {
      const start = this.#held[0]!.toString("latin1", 0, PROTOCOL.length);
      if (!PROTOCOL.startsWith(start) && start !== PROTOCOL) return "not HTTP/1";
      return this.#heldBytes > headBytes ? "its head is too long" : undefined;
    }
    const most = this.#state === "trailers" ? trailerBytes : chunkLineBytes;
    return this.#heldBytes > most ? `its ${this.#state} is too long` : undefined;
  }

  /** Where reading goes on; the same place when more bytes are needed. */
  #step(bytes: Buffer, at: number): number | string {
    switch (this.#state) {
      case "head":
        return this.#readHead(bytes, at);
      case "length":
      case "chunk":
        return this.#readCounted(bytes, at);
      case "close":
        this.#events.body(at === 0 ? bytes : bytes.subarray(at), false);
        return bytes.length;
      case "chunk line":
        return this.#readChunkLine(bytes, at);
      case "chunk end":
        if (bytes.length - at < 2) return bytes[at] === 13 ? at : "a chunk is longer than it says";
        if (bytes[at] !== 13 || bytes[at + 1] !== 10) return "a chunk is longer than it says";
        this.#state = "chunk line";
        return at + 2;
      case "trailers":
        return this.#readTrailers(bytes, at);
      case "done":
        this.#leftover += bytes.length - at;
        return bytes.length;
    }
  }

  #readCounted(bytes: Buffer, at: number): number {
    const take = Math.min(this.#left, bytes.length - at);
    this.#left -= take;
    const part = at === 0 && take === bytes.length ? bytes : bytes.subarray(at, at + take);
    const isLast = this.#left === 0 && this.#state === "length";
    if (isLast) {
      this.#state = "done";
      this.#leftover = bytes.length - at - take; // told before the event, as it may ask
    } else if (this.#left === 0) this.#state = "chunk end";
    this.#events.body(part, isLast);
    return isLast ? bytes.length : at + take;
  }

  #readHead(bytes: Buffer, at: number): number | string {
    const end = bytes.indexOf(BLANK_LINE, at);
    if (end < 0) return at;
    if (end - at > this.#limits.headBytes) return "its head is too long";
    const text = bytes.toString("latin1", at, end);
    const lineEnd = text.indexOf("\r\n");
    const line = STATUS_LINE.exec(lineEnd < 0 ? text : text.slice(0, lineEnd));
    if (line === null) return "its status line is none";
    const fields = lineEnd < 0 ? [] : readFields(text, lineEnd + 2, this.#limits.fields);
    if (fields === undefined) return "a header field is malformed";
    const framing = readFraming(fields);
    if (typeof framing === "string") return framing;
    const status = Number(line[2]);
    const after = end + 4;
    if (status < 200) return this.#readInterim(status, fields, bytes, after);

    const isBodyless = this.#isHead || status === 204 || status === 304;
    const isOld = line[1] === "0";
    if (isOld && framing.isChunked) return "chunked in HTTP/1.0";
    this.#isPersistent = !isOld && !framing.isClosing;
    this.#keepSeconds = framing.keepSeconds;
    // Backends that answer HEAD as they answer GET send the body after all, and it may come later.
    if (isBodyless && status !== 304 && (framing.isChunked || (framing.length ?? 0) > 0)) this.#isPersistent = false;
    if (isBodyless || framing.length === 0) {
      this.#state = "done";
      this.#leftover = bytes.length - after;
      this.#events.head({ status, fields, length: isBodyless ? framing.length : 0, isWhole: true });
      if (!this.#isStopped) this.#events.end(NO_FIELDS);
      return bytes.length;
    }
    if (framing.isChunked) this.#state = "chunk line";
    else if (framing.length === undefined) this.#state = "close";
    else this.#state = "length";
    if (this.#state === "close") this.#isPersistent = false;
    this.#left = framing.length ?? 0;
    this.#events.head({ status, fields, length: framing.length, isWhole: false });
    return after;
  }

  #readInterim(status: number, fields: string[], bytes: Buffer, after: number): number | string {
    if (status === 101) {
      if (!this.#maySwitch) return "it switches protocols, though nobody asked";
      this.#state = "done";
      this.#events.switched({ status, fields, length: undefined, isWhole: true }, bytes.subarray(after));
      return bytes.length;
    }
    if (++this.#informational > this.#limits.informational) return "too many informational answers";
    this.#events.information(status, fields);
    return after;
  }

  #readChunkLine(bytes: Buffer, at: number): number | string {
    const end = bytes.indexOf(CRLF, at);
    if (end < 0) return bytes.includes(10, at) ? "a chunk line is malformed" : at;
    if (end - at > this.#limits.chunkLineBytes) return "a chunk line is too long";
    const match = CHUNK_LINE.exec(bytes.toString("latin1", at, end));
    if (match === null) return "a chunk line is malformed";
    this.#left = Number.parseInt(match[1]!, 16);
    this.#state = this.#left === 0 ? "trailers" : "chunk";
    return end + 2;
  }

  #readTrailers(bytes: Buffer, at: number): number | string {
    let trailers = NO_FIELDS;
    let after = at + 2;
    if (bytes[at] !== 13 || bytes[at + 1] !== 10) {
      const end = bytes.indexOf(BLANK_LINE, at);
      if (end < 0) return at;
      if (end - at > this.#limits.trailerBytes) return "its trailers are too long";
      const fields = readFields(bytes.toString("latin1", at, end), 0, this.#limits.fields);
      if (fields === undefined) return "a trailer field is malformed";
      trailers = fields;
      after = end + 4;
    }
    this.#state = "done";
    this.#leftover = bytes.length - after;
    this.#events.end(trailers);
    return bytes.length;
  }
}

/** Lines of `name: value` to the end of the text; no folding, no bare line ends (RFC 9112 section 5). */
function readFields(text: string, from: number, most: number): string[] | undefined {
  if (BAD_TEXT.test(text)) return undefined;
  const fields: string[] = [];
  let at = from;
  while (at <= text.length) {
    let end = text.indexOf("\r\n", at);
    if (end < 0) end = text.length;
    const colon = text.indexOf(":", at);
    if (colon < 0 || colon > end) return undefined;
    const name = text.slice(at, colon);
    if (!TOKEN.test(name) || fields.length >= most * 2) return undefined;
    fields.push(name, withoutBlanks(text, colon + 1, end));
    at = end + 2;
  }
  return fields;
}

/** Without the optional white space around a value: blanks and tabs, nothing else that JavaScript would trim. */
function withoutBlanks(text: string, from: number, to: number): string {
  let start = from;
  let end = to;
  while (start < end && isBlank(text.charCodeAt(start))) start++;
  while (end > start && isBlank(text.charCodeAt(end - 1))) end--;
  return text.slice(start, end);
}

function isBlank(code: number): boolean {
  return code === 0x20 || code === 0x09;
}

interface Framing {
  readonly length: number | undefined;
  readonly isChunked: boolean;
  readonly isClosing: boolean;
  /** `Keep-Alive: timeout=5`, as Node, Apache and others send it. */
  readonly keepSeconds: number | undefined;
}

/** One length or one `chunked`, or what it says is wrong (H1-20). */
function readFraming(fields: readonly string[]): Framing | string {
  let length: number | undefined;
  let isChunked = false;
  let isClosing = false;
  let keepSeconds: number | undefined;
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i]!;
    // Only four names matter here: told apart by their lengths first.
    if (name.length !== 14 && name.length !== 17 && name.length !== 10) continue;
    const value = fields[i + 1]!;
    switch (name.toLowerCase()) {
      case "content-length":
        if (length !== undefined) return "two lengths";
        if (!/^\d{1,15}$/.test(value)) return "a malformed length";
        length = Number(value);
        break;
      case "transfer-encoding":
        if (isChunked || value.toLowerCase() !== "chunked") return "an unknown transfer coding";
        isChunked = true;
        break;
      case "keep-alive":
        keepSeconds = Number(/(?:^|[,\s])timeout=(\d{1,9})/i.exec(value)?.[1] ?? Number.NaN) || undefined;
        break;
      case "connection":
        isClosing ||= /(?:^|,)[\t ]*close[\t ]*(?:,|$)/i.test(value);
        break;
    }
  }
  if (isChunked && length !== undefined) return "two ways of framing";
  return { length, isChunked, isClosing, keepSeconds };
}
