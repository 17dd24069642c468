import http2, { type ClientHttp2Session, type ClientHttp2Stream, type IncomingHttpHeaders } from "node:http2";
import type { Duplex } from "node:stream";
import type { Clock } from "../../base/clock.ts";
import { Fault, messageOf } from "../../base/fault.ts";
import type { AnswerSink, Asked, Exchange } from "./exchange.ts";
import { isRequestText } from "./request-head.ts";

const { NGHTTP2_CANCEL, NGHTTP2_INTERNAL_ERROR, NGHTTP2_NO_ERROR, NGHTTP2_FLAG_END_STREAM } = http2.constants;

/** As many requests at once as our own HTTP/2 front takes of one connection. */
const MOST_STREAMS = 100;
const MOST_INFORMATIONAL = 20;
const CONNECTION_WINDOW_BYTES = 1024 * 1024;
/** What an answer may be ahead of a caller who takes nothing of it: node:http2 keeps that of each stream (H2-10). */
const STREAM_WINDOW_BYTES = 64 * 1024;
/** The same where a caller waits for more answers than a page has parts: with all else that a stream costs it is 64 KiB. */
const CROWD_WINDOW_BYTES = 48 * 1024;
const CROWD_STREAMS = 16;

/** One HTTP/2 connection to a backend, for the requests of one caller. */
export class Http2Connection {
  readonly #session: ClientHttp2Session;
  readonly #scheme: string;
  readonly #clock: Clock;
  readonly #idleMs: number;
  #streams = 0;
  #windowBytes: number = STREAM_WINDOW_BYTES;
  #asked = 0;
  #isLeaving = false;
  #cancelIdle: (() => void) | undefined;

  constructor(socket: Duplex, scheme: string, clock: Clock, idleMs: number, onClosed: () => void) {
    this.#scheme = scheme;
    this.#clock = clock;
    this.#idleMs = idleMs;
    this.#session = http2.connect(`${scheme}://backend`, {
      createConnection: () => socket,
      settings: { enablePush: false, initialWindowSize: STREAM_WINDOW_BYTES, maxHeaderListSize: 64 * 1024 },
    });
    this.#session.on("goaway", () => {
      this.#isLeaving = true;
    });
    this.#session.on("error", () => void this.#session.destroy()); // each stream tells its own
    this.#session.once("close", () => {
      this.#isLeaving = true;
      this.#cancelIdle?.();
      onClosed();
    });
    this.#session.once("connect", () => this.#session.setLocalWindowSize(CONNECTION_WINDOW_BYTES));
  }

  get hasRoom(): boolean {
    const { closed, destroyed, remoteSettings } = this.#session;
    const most = Math.min(MOST_STREAMS, remoteSettings?.maxConcurrentStreams ?? MOST_STREAMS);
    return !closed && !destroyed && !this.#isLeaving && this.#streams < most;
  }

  ask(asked: Asked, sink: AnswerSink): void {
    const fields = fieldsOf(asked, this.#scheme);
    if (fields === undefined) {
      const fault = new Fault("PROXY_BAD_REQUEST", "Cannot write the request: a field is no line of text");
      return void sink.failed(fault, true);
    }
    this.#cancelIdle?.();
    const hasBody = asked.body !== "none" && asked.body !== 0;
    let stream: ClientHttp2Stream;
    try {
      if (this.#streams === CROWD_STREAMS) this.#setWindow(CROWD_WINDOW_BYTES);
      else if (this.#streams === 0) this.#setWindow(STREAM_WINDOW_BYTES);
      stream = this.#session.request(fields, { endStream: !hasBody });
    } catch (cause) {
      // The session ended in this very turn, or a field may not be sent in HTTP/2.
      return void sink.failed(new Fault("PROXY_BACKEND_ANSWER", "Cannot ask over HTTP/2", { cause }), false);
    }
    this.#streams++;
    stream.once("close", () => {
      if (--this.#streams > 0 || this.#session.closed) return;
      this.#cancelIdle = this.#clock.at(this.#clock.now() + this.#idleMs, () => this.#session.close());
    });
    sink.started(new Http2Exchange(stream, asked, sink, this.#asked++ > 0));
  }

  /** Of streams that are there, too (RFC 9113 section 6.9.2). */
  #setWindow(bytes: number): void {
    if (bytes === this.#windowBytes) return;
    this.#windowBytes = bytes;
    this.#session.settings({ initialWindowSize: bytes });
  }

  destroy(): void {
    this.#session.destroy();
  }
}

/** One stream of it. */
class Http2Exchange implements Exchange {
  readonly isReused: boolean;
  readonly #stream: ClientHttp2Stream;
  readonly #isHead: boolean;
  #sink: AnswerSink | undefined;
  #hadAnswer = false;
  #informational = 0;
  #unsent: number | undefined;
  #left: number | undefined;
  #trailers: readonly string[] = [];

  constructor(stream: ClientHttp2Stream, asked: Asked, sink: AnswerSink, isReused: boolean) {
    this.#stream = stream;
    this.#sink = sink;
    this.#isHead = asked.method === "HEAD";
    this.#unsent = typeof asked.body === "number" ? asked.body : undefined;
    this.isReused = isReused;
    const guarded =
      <Args extends unknown[]>(run: (...args: Args) => void) =>
      (...args: Args): void => {
        try {
          run(...args);
        } catch (cause) {
          this.#fail(messageOf(cause), cause);
        }
      };
    stream.on(
      "headers",
      guarded((head: IncomingHttpHeaders, _flags: number, raw?: string[]) => this.#onInterim(head, raw)),
    );
    stream.on(
      "response",
      guarded((head: IncomingHttpHeaders, flags: number, raw?: string[]) => {
        this.#onHead(head, flags, raw);
        // Only now: Node may tell of data before it tells of the head when both came at once.
        stream.on(
          "data",
          guarded((part: Buffer) => this.#onData(part)),
        );
        stream.on(
          "end",
          guarded(() => this.#onEnd()),
        );
      }),
    );
    stream.on("trailers", (_head: IncomingHttpHeaders, _flags: number, raw?: string[]) => {
      this.#trailers = plainFields(raw);
    });
    stream.on("drain", () => this.#sink?.drain());
    stream.on("error", (cause) => this.#fail(cause.message, cause));
    stream.on("close", () => this.#fail(`its stream was closed with code ${stream.rstCode ?? "none"}`));
  }

  write(part: Uint8Array): boolean {
    if (this.#sink === undefined) return true;
    if (this.#unsent !== undefined) {
      if (part.length > this.#unsent) return this.#fail("the body is longer than its length");
      this.#unsent -= part.length;
    }
    return this.#stream.write(part);
  }

  end(): void {
    if (this.#sink === undefined || this.#stream.writableEnded) return;
    if (this.#unsent !== undefined && this.#unsent > 0) this.#fail("the body is shorter than its length");
    else this.#stream.end();
  }

  pause(): void {
    this.#stream.pause();
  }

  resume(): void {
    this.#stream.resume();
  }

  cancel(): void {
    this.#sink = undefined;
    this.#stream.close(NGHTTP2_CANCEL);
  }

  #onInterim(head: IncomingHttpHeaders, raw: string[] | undefined): void {
    this.#hadAnswer = true;
    if (++this.#informational > MOST_INFORMATIONAL) return void this.#fail("too many informational answers");
    this.#sink?.information(Number(head[":status"]), plainFields(raw));
  }

  #onHead(head: IncomingHttpHeaders, flags: number, raw: string[] | undefined): void {
    this.#hadAnswer = true;
    const status = Number(head[":status"]);
    const text = head["content-length"];
    const length = text === undefined ? undefined : Number(text);
    const isBodyless = this.#isHead || status === 204 || status === 304;
    const isWhole = (flags & NGHTTP2_FLAG_END_STREAM) !== 0;
    if (status === 101 || (length !== undefined && !Number.isSafeInteger(length))) {
      return void this.#fail("its head is malformed");
    }
    this.#left = isBodyless ? 0 : length;
    this.#sink?.head({ status, length, fields: plainFields(raw), isWhole });
    this.#sink?.flush();
  }

  #onData(part: Buffer): void {
    if (this.#left !== undefined) {
      if (part.length > this.#left) return void this.#fail("its body is longer than its length");
      this.#left -= part.length;
    }
    this.#sink?.body(part, false);
  }

  #onEnd(): void {
    // Node ends a stream that was reset, or whose connection was lost, before it tells so.
    const { rstCode = NGHTTP2_NO_ERROR } = this.#stream;
    if (rstCode !== NGHTTP2_NO_ERROR) return void this.#fail(`its stream was reset with code ${rstCode}`);
    if (this.#left !== undefined && this.#left > 0) return void this.#fail("its body is shorter than its length");
    const sink = this.#sink;
    this.#sink = undefined;
    sink?.end(this.#trailers);
    // The answer is whole: what is left of the request's body has nowhere to go.
    if (!this.#stream.writableEnded) this.#stream.close(NGHTTP2_NO_ERROR);
  }

  #fail(found: string, cause?: unknown): false {
    const sink = this.#sink;
    this.#sink = undefined;
    this.#stream.close(NGHTTP2_INTERNAL_ERROR);
    if (sink === undefined) return false;
    const fault =
      cause instanceof Fault
        ? cause
        : new Fault("PROXY_BACKEND_ANSWER", `Cannot use the backend's answer: ${found}`, { cause });
    sink.failed(fault, this.#hadAnswer);
    return false;
  }
}

/** Every part is text for one line of HTTP/1 too: what came from there or goes there means the same. */
function fieldsOf(asked: Asked, scheme: string): http2.OutgoingHttpHeaders | undefined {
  if (!isRequestText(asked)) return undefined;
  const { method, path, host, fields, body } = asked;
  const all: http2.OutgoingHttpHeaders = Object.create(null);
  all[":method"] = method;
  all[":path"] = path;
  all[":scheme"] = scheme;
  all[":authority"] = host;
  for (const [name, value] of fields) {
    const lower = name.toLowerCase();
    const before = all[lower];
    all[lower] = before === undefined ? value : [...(Array.isArray(before) ? before : [String(before)]), value];
  }
  if (typeof body === "number") all["content-length"] = body;
  return all;
}

function plainFields(raw: readonly string[] = []): string[] {
  const fields: string[] = [];
  for (let i = 0; i < raw.length; i += 2) if (!raw[i]!.startsWith(":")) fields.push(raw[i]!, raw[i + 1]!);
  return fields;
}
