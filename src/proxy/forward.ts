import type { IncomingMessage, ServerResponse } from "node:http";
import http2, { type ServerHttp2Stream } from "node:http2";
import type { Duplex } from "node:stream";
import type { Fault } from "../base/fault.ts";
import { isGone, sendContinue, sendError, writeHead } from "./answers.ts";
import { answerFields, trailerFields } from "./fields.ts";
import { askedOf, askOptionsOf, type Forwarding, isRepeatable } from "./forwarding.ts";
import type { AnswerHead } from "./upstream/answer-parser.ts";
import type { AnswerSink, Asked, Exchange } from "./upstream/exchange.ts";

/** A body up to this size goes out in one piece with its head. */
const ONE_PIECE_BYTES = 8 * 1024;
/** Of a body that came to nothing: so much is let in, and not more. */
const UNWANTED_BYTES = 1024 * 1024;

/** Sends one request to the backend and its answer back, as it comes. */
export function forward(work: Forwarding): void {
  const asked = askedOf(work);
  work.pool.ask(work.backend, work.poolKey, asked, new Relay(work, asked), askOptionsOf(work));
}

/** Between a caller's request and the backend's answer to it, each direction with the other's pace. */
export class Relay implements AnswerSink {
  protected readonly work: Forwarding;
  readonly #asked: Asked;
  #exchange: Exchange | undefined;
  readonly #hasBody: boolean;
  #mayRetry: boolean;
  #isOver = false;
  #hasHead = false;
  #hasTrailers = false;
  #isOnTheWire = false;

  constructor(work: Forwarding, asked: Asked) {
    this.work = work;
    this.#asked = asked;
    this.#hasBody = asked.body !== "none" && asked.body !== 0;
    this.#mayRetry = isRepeatable(asked);
    work.response.on("close", this.#onCallerGone);
  }

  readonly #onCallerGone = (): void => {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#exchange?.cancel();
  };

  started(exchange: Exchange): void {
    this.#exchange = exchange;
    const { request, response } = this.work;
    // What has been told already is not told again, and a backend would wait for the rest of a body for ever.
    this.#isOver ||= isGone(response);
    if (this.#isOver) return void exchange.cancel();
    if (!this.#hasBody) return void exchange.end();
    // Only now is the body wanted (RFC 9110 section 10.1.1).
    sendContinue(request, response);
    let room = this.work.bodyBytes ?? Number.POSITIVE_INFINITY;
    request.on("data", (part: Buffer) => {
      room -= part.length;
      if (room < 0) this.#refuseBody();
      else if (!exchange.write(part)) request.pause();
    });
    request.on("end", () => exchange.end()); // without trailers: ID-6
    request.on("aborted", this.#onCallerGone);
    request.on("error", this.#onCallerGone);
  }

  drain(): void {
    this.work.request.resume();
  }

  information(status: number, fields: readonly string[]): void {
    const { request, response } = this.work;
    if (status === 100 || request.httpVersion === "1.0" || response.headersSent) return;
    const pairs = answerFields(fields, (_, value) => value);
    const stream = streamOf(response);
    if (stream !== undefined) stream.additionalHeaders({ ":status": status, ...Object.fromEntries(pairs) });
    // Node 24 has no writeInformation; its own writeEarlyHints knows nothing but Link.
    else if (typeof response.writeInformation === "function") response.writeInformation(status, pairs.flat());
    else if (status === 102) response.writeProcessing();
  }

  head(head: AnswerHead): void {
    const { request, response, rewrite } = this.work;
    const { status, length, isWhole } = head;
    this.#hasHead = true;
    // An announcement without trailers to follow would be a lie, and Node refuses to write it.
    const isOpenEnded = length === undefined || request.httpVersionMajor === 2;
    this.#hasTrailers = isOpenEnded && request.httpVersion !== "1.0" && mayHaveBody(request, status);
    const shape = { hasTrailers: this.#hasTrailers, hasLength: status !== 204 };
    const pairs = answerFields(head.fields, rewrite, shape);
    try {
      writeHead(request, response, status, pairs, isWhole);
    } catch {
      // A field or status that Node's writer refuses: not a valid answer.
      this.#exchange?.cancel();
      this.refuse(502, "502 the backend did not answer: not a valid answer");
    }
  }

  body(part: Buffer, isLast: boolean): void {
    const { request, response } = this.work;
    const isFirst = !this.#isOnTheWire;
    this.#isOnTheWire = true;
    if (isLast) {
      this.#settle();
      // As text it goes out in one piece with the head.
      if (isFirst && part.length <= ONE_PIECE_BYTES && request.httpVersionMajor === 1) {
        response.end(part.toString("latin1"), "latin1");
      } else response.end(part);
    } else if (!response.write(part)) {
      this.#exchange?.pause();
      response.once("drain", () => this.#exchange?.resume());
    }
  }

  flush(): void {
    const { request, response } = this.work;
    if (this.#isOnTheWire || this.#isOver || request.httpVersionMajor === 2) return;
    this.#isOnTheWire = true;
    response.flushHeaders();
  }

  end(trailers: readonly string[]): void {
    const { response } = this.work;
    this.#settle();
    if (trailers.length > 0 && this.#hasTrailers) this.#addTrailers(trailers);
    response.end();
  }

  /** The answer is whole; its connection may serve another request by now. */
  #settle(): void {
    this.#isOver = true;
    this.#exchange = undefined;
    this.#refuseRest();
  }

  /**
   * Nobody wants what is still to come of the request's body, and by HTTP/2 its sender would wait for room for ever. A little
   * more is read away; who has much more is told to stop, behind the whole answer (RFC 9113 section 8.1). In HTTP/1 node:http
   * reads it away.
   */
  #refuseRest(): void {
    const { request, response } = this.work;
    const stream = streamOf(response);
    if (stream === undefined || request.complete) return;
    let room = UNWANTED_BYTES;
    request.removeAllListeners("data").on("data", (part: Buffer) => {
      room -= part.length;
      if (room < 0 && stream.state.localClose === 1) stream.close(http2.constants.NGHTTP2_NO_ERROR);
    });
    request.resume();
  }

  #addTrailers(trailers: readonly string[]): void {
    const { response } = this.work;
    const pairs = trailerFields(trailers);
    if (streamOf(response) === undefined) response.addTrailers(pairs as [string, string][]);
    else response.addTrailers(Object.fromEntries(pairs.map(([name, value]) => [name.toLowerCase(), value])));
  }

  /** A 101 that nobody asked for never comes here; see `upgrade.ts`. */
  switched(_head: AnswerHead, tunnel: Duplex, _early: Buffer): void {
    tunnel.destroy();
  }

  failed(fault: Fault, hadAnswer: boolean): void {
    const { work } = this;
    const { request, response, backend, log } = work;
    if (this.#isOver) return;
    if (this.#mayRetry && this.#exchange?.isReused === true && !hadAnswer) {
      this.#mayRetry = false;
      return void work.pool.ask(backend, work.poolKey, this.#asked, this, { ...askOptionsOf(work), isFresh: true });
    }
    log.warn("proxy.backend_failed", { host: backend.host, port: backend.port, error: fault.message });
    if (this.#hasHead) {
      this.#isOver = true;
      work.count?.("answer_cut");
      return void cut(response);
    }
    if (this.#hasBody && !request.complete) response.shouldKeepAlive = false;
    const status = STATUSES.get(fault.code) ?? 502;
    this.refuse(status, `${status} the backend did not answer: ${causeOf(fault)}`);
  }

  /** What was sent without a length turns out too long (H1-13). */
  #refuseBody(): void {
    if (this.#isOver) return;
    this.#exchange?.cancel();
    this.refuse(413, "413 the body is too long");
  }

  /** Whatever comes of it is somebody else's now. */
  protected handOver(): void {
    this.#isOver = true;
    this.work.response.off("close", this.#onCallerGone);
  }

  protected refuse(status: number, text: string): void {
    this.#isOver = true;
    this.#refuseRest();
    sendError(this.work.request, this.work.response, status, text);
  }
}

const STATUSES: ReadonlyMap<string, number> = new Map([
  ["PROXY_BACKENDS_BUSY", 503],
  ["PROXY_BACKEND_SLOW", 504],
]);

/** The HTTP/2 stream under an answer, if it is one. */
function streamOf(response: ServerResponse): ServerHttp2Stream | undefined {
  return (response as { stream?: ServerHttp2Stream }).stream;
}

/** What is cut must be seen to be cut (H1-22): the connection in HTTP/1, the one stream in HTTP/2. */
export function cut(response: ServerResponse): void {
  const stream = streamOf(response);
  if (stream === undefined) (response.socket ?? response).destroy();
  else stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR);
}

function mayHaveBody(request: IncomingMessage, status: number): boolean {
  return request.method !== "HEAD" && status !== 204 && status !== 304;
}

/** For people: without addresses of the inside. */
function causeOf({ code, cause }: Fault): string {
  if (code === "PROXY_BACKENDS_BUSY") return "too many connections";
  if (code === "PROXY_BACKEND_SLOW") return "unreachable";
  if (code === "PROXY_BAD_TARGET") return "no backend can be where it is said to be";
  switch ((cause as NodeJS.ErrnoException | undefined)?.code) {
    case "ECONNREFUSED":
      return "connection refused";
    case "ENOENT":
      return "no such socket";
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return "no such name";
    case "ETIMEDOUT":
    case "EHOSTUNREACH":
    case "ENETUNREACH":
      return "unreachable";
    case "ECONNRESET":
      return "connection reset";
    default:
      return "not a valid answer";
  }
}
