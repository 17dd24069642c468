import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { Clock } from "../../base/clock.ts";
import type { Place } from "../../base/waiting-line.ts";
import { BodyScan } from "../body-scan.ts";
import type { Front, ProxyLimits } from "../options.ts";
import { WriteStall } from "../write-stall.ts";

/** How long a refused caller may take to read its answer. */
const LINGER_MS = 1000;
/** Requests of one connection that were read and not answered (H1-12). */
const MOST_QUEUED = 32;
/** In the time for which an answer may wait to be taken. */
const LOOKS = 12;
const HEAD_END: Buffer = Buffer.from("\r\n\r\n");
/** One request line as RFC 9112 section 3 has it: single spaces, a version, nothing before it. */
const REQUEST_LINE = /^[!-~]+ [^ \t\r\n]+ HTTP\/1\.[01]\r?$/;

/**
 * One caller's HTTP/1 connection, before and around Node's parser. Node collapses blanks, skips empty lines, takes
 * HTTP/0.9 and reads any number of requests ahead: here each request line is looked at as it was sent, and no more
 * requests are read than may wait.
 */
export class Conversation {
  readonly front: Front;
  readonly stream: Duplex;
  /** Among the others; it waits while nothing is asked. */
  readonly place: Place | undefined;
  readonly #limits: ProxyLimits;
  readonly #clock: Clock;
  #parse: ((bytes: Buffer) => void) | undefined;
  /** Not parsed yet: requests before it wait for their answers. */
  #held: Buffer | undefined;
  #part: "line" | "head" | "body" = "line";
  #line = "";
  /** How much of the end of a head the last bytes were. */
  #matched = 0;
  #newest: IncomingMessage | undefined;
  #body: BodyScan = new BodyScan(0);
  readonly #answers: ServerResponse[] = [];
  readonly #stall: WriteStall;
  #isRefused = false;
  #isWatched = false;
  #deadline = Number.POSITIVE_INFINITY;
  #timer: { readonly at: number; readonly cancel: () => void } | undefined;

  /** `parse` is Node's own listener for the stream's data. */
  constructor(
    stream: Duplex,
    front: Front,
    limits: ProxyLimits,
    clock: Clock,
    parse: (bytes: Buffer) => void,
    place?: Place,
  ) {
    this.place = place;
    place?.wait();
    this.stream = stream;
    this.front = front;
    this.#limits = limits;
    this.#clock = clock;
    this.#parse = parse;
    this.#stall = new WriteStall(stream, front.unsent);
    stream.off("data", parse);
    stream.on("data", this.#read);
    stream.on("drain", this.#onDrain);
    stream.once("close", this.#stopTimer);
    this.#waitFor(limits.headMs);
  }

  /** Nothing that comes after refused bytes is a request. */
  get isRefused(): boolean {
    return this.#isRefused;
  }

  /** A request was read; `run` is called in its turn (RFC 9112 section 9.3.2). */
  asked(request: IncomingMessage, response: ServerResponse, run: () => void): void {
    this.#part = "body";
    this.#newest = request;
    const { "transfer-encoding": coding, "content-length": length } = request.headers;
    this.#body = new BodyScan(coding === undefined ? Number(length ?? 0) : undefined);
    if (hasContent(request)) this.#waitFor(this.#limits.bodyMs);
    else this.#watchAnswer();
    this.place?.work();
    const before = this.#answers.at(-1);
    this.#answers.push(response);
    response.once("close", () => {
      const at = this.#answers.indexOf(response);
      if (at >= 0) this.#answers.splice(at, 1);
      if (this.#answers.length === 0 && this.#parse !== undefined && !this.#isRefused) {
        this.place?.wait();
        if (this.#part === "body") this.#waitFor(this.#limits.idleMs); // else the next head has begun, and has its own time
      }
      this.#readOn();
    });
    if (before === undefined) this.#ready = run;
    else before.once("close", run);
  }

  /** To be worked on once the parser has nothing to say against the end of its head either (H1-2). */
  #ready: (() => void) | undefined;

  /** The connection is no longer HTTP/1's: `run` gets what came early, once everything before is answered. */
  handOver(early: Buffer, run: (early: Buffer) => void): void {
    this.#parse = undefined;
    this.place?.work();
    this.stream.off("data", this.#read);
    this.stream.off("drain", this.#onDrain);
    this.stream.off("close", this.#stopTimer);
    this.#stopTimer();
    // What is left of the bytes at hand is only known when the parser has returned.
    this.#handedOver = (rest) => {
      const all = rest.length === 0 ? early : Buffer.concat([early, rest]);
      const before = this.#answers.at(-1);
      if (before === undefined) run(all);
      else before.once("close", () => (this.stream.writable ? run(all) : this.#waitFor(LINGER_MS)));
    };
  }

  #handedOver: ((rest: Buffer) => void) | undefined;

  readonly #read = (bytes: Buffer): void => {
    if (this.#held === undefined) return void this.#feed(bytes);
    this.#held = Buffer.concat([this.#held, bytes]);
    this.stream.pause();
  };

  readonly #onDrain = (): void => {
    this.#stall.drained();
    this.#readOn();
  };

  readonly #readOn = (): void => {
    if (this.#held === undefined || this.#isFull()) return;
    const bytes = this.#held;
    this.#held = undefined;
    this.#feed(bytes);
    if (this.#held === undefined) this.stream.resume();
  };

  #isFull(): boolean {
    // Node's own pause, when too much of its answers is unsent.
    return this.#answers.length >= MOST_QUEUED || (this.stream as { _paused?: boolean })._paused === true;
  }

  #feed(bytes: Buffer): void {
    let at = 0;
    // After our last answer nobody is answered, so nothing is asked either.
    while (at < bytes.length && this.#parse !== undefined && !this.#isRefused && this.stream.writable) {
      if (this.#isFull()) {
        this.#held = bytes.subarray(at);
        this.stream.pause();
        return;
      }
      if (this.#part === "body" && this.#newest?.complete === true) this.#part = "line";
      if (this.#part === "line" && !this.#takeLine(bytes, at)) return;
      const end = this.#part === "body" ? this.#body.take(bytes, at) : this.#endOfHead(bytes, at);
      // Nothing left of the body for us, and more for the parser: two readings of one request.
      if (end === undefined || end === at) return void this.refuse("400 Bad Request");
      const slice = at === 0 && end === bytes.length ? bytes : bytes.subarray(at, end);
      this.#parse(slice);
      at = end;
      const ready = this.#ready;
      this.#ready = undefined;
      if (!this.#isRefused) ready?.();
    }
    if (this.#part === "body" && !this.#isRefused && this.#newest?.complete === false)
      this.#waitFor(this.#limits.bodyMs);
    else if (this.#newest?.complete === true && this.#part === "body" && this.#answers.length > 0) this.#watchAnswer();
    const handedOver = this.#handedOver;
    this.#handedOver = undefined;
    handedOver?.(bytes.subarray(at));
  }

  /** Looks at the request line that begins or goes on here; false when it is none. */
  #takeLine(bytes: Buffer, at: number): boolean {
    const end = bytes.indexOf(10, at);
    if (this.#line === "" && this.#newest !== undefined) this.#waitFor(this.#limits.headMs);
    this.#line += bytes.toString("latin1", at, end < 0 ? bytes.length : end);
    if (this.#line.length > this.#limits.targetBytes + 64) {
      this.refuse(this.#line.includes(" ") ? "414 URI Too Long" : "400 Bad Request");
      return false;
    }
    const isLine = end < 0 ? /^[A-Z]/.test(this.#line) : REQUEST_LINE.test(this.#line);
    if (!isLine) this.refuse("400 Bad Request");
    if (end >= 0) {
      this.#line = "";
      this.#part = "head";
    }
    return isLine;
  }

  /** Behind the next end of a head, so that no second request is parsed before the first is known. */
  #endOfHead(bytes: Buffer, at: number): number {
    const missing = HEAD_END.length - this.#matched;
    if (this.#matched > 0 && HEAD_END.subarray(this.#matched).equals(bytes.subarray(at, at + missing))) {
      this.#matched = 0;
      return at + missing;
    }
    const found = bytes.indexOf(HEAD_END, at);
    const end = found < 0 ? bytes.length : found + HEAD_END.length;
    if (end - at >= 3) this.#matched = 0;
    for (const byte of bytes.subarray(Math.max(at, end - 3), end)) {
      this.#matched = byte === HEAD_END[this.#matched] ? this.#matched + 1 : byte === HEAD_END[0] ? 1 : 0;
    }
    if (found >= 0) this.#matched = 0;
    return end;
  }

  /** Never read on; requests that came whole before are answered first, then this once. */
  refuse(status: string): void {
    if (this.#isRefused) return;
    this.#isRefused = true;
    this.#held = undefined;
    const { stream } = this;
    if (!stream.writable) return void this.#waitFor(LINGER_MS);
    const newest = this.#answers.at(-1);
    const isWhole = this.#newest?.complete !== false;
    if (!isWhole && newest?.writableEnded === true) return void newest.once("close", () => this.end());
    // The request whose body it was will not get an answer of its own.
    const spoiled = isWhole ? undefined : this.#answers.pop();
    const answer = (): void => {
      if (!stream.writable) return void this.#waitFor(LINGER_MS);
      if (spoiled?.headersSent === true) return void stream.destroy(); // it cannot be completed
      if (spoiled !== undefined) {
        if ((stream as { _httpMessage?: unknown })._httpMessage === spoiled) spoiled.detachSocket(stream as Socket);
        spoiled.destroy(); // for who is about to work on it
        spoiled.emit("close"); // for whoever does
      }
      const head = `HTTP/1.1 ${status}\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n`;
      stream.write(`${head}${status}`);
      this.end();
    };
    const before = this.#answers.at(-1);
    if (before === undefined) answer();
    else before.once("close", answer);
  }

  /** Everything was said. */
  end(): void {
    this.stream.end();
    this.#waitFor(LINGER_MS);
  }

  /** The caller asked to close and sent more: that is nobody's request. */
  ignoreRest(): void {
    this.#isRefused = true;
    this.#held = undefined;
  }

  /** The backend does not take what there is of the body: nothing is wanted of the caller but that it takes the answer. */
  #isHeldUp(): boolean {
    return this.#part === "body" && this.#newest?.complete === false && !this.#isRefused && this.stream.isPaused();
  }

  /** A backend may think for as long as it likes; its answer must be taken. */
  #watchAnswer(): void {
    this.#waitFor(this.#limits.writeMs / LOOKS);
    this.#isWatched = true;
  }

  /** One timer, moved only when it fires: most deadlines are put off long before. */
  #waitFor(ms: number): void {
    this.#isWatched = false;
    this.#deadline = this.#clock.now() + ms;
    if (this.#timer === undefined || this.#timer.at > this.#deadline) this.#arm();
  }

  #arm(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    if (this.#deadline === Number.POSITIVE_INFINITY || this.stream.destroyed) return;
    const at = this.#deadline;
    const cancel = this.#clock.at(at, () => {
      const now = this.#clock.now();
      if (now < this.#deadline) return this.#arm();
      const isHeldUp = this.#isHeldUp();
      const isOurTurn = this.#isWatched || isHeldUp;
      if (!isOurTurn || this.#stall.lasts(now) >= this.#limits.writeMs) return void this.stream.destroy();
      // Wanted again since the last look.
      if (!isHeldUp && this.#newest?.complete === false) this.#waitFor(this.#limits.bodyMs);
      else this.#watchAnswer();
      this.#arm();
    });
    this.#timer = { at, cancel };
  }

  readonly #stopTimer = (): void => {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#deadline = Number.POSITIVE_INFINITY;
  };
}

export function hasContent({ headers }: IncomingMessage): boolean {
  return headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) > 0;
}
