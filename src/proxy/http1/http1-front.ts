import http, { type IncomingMessage, type ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import type { Clock } from "../../base/clock.ts";
import type { Place, WaitingLine } from "../../base/waiting-line.ts";
import { expectsOther, refuseExpectation, sendError } from "../answers.ts";
import { callerKey } from "../caller-key.ts";
import type { Front, ProxyLimits } from "../options.ts";
import type { Upgrade } from "../router.ts";
import { isWebSocket, responseOn } from "../upgrade.ts";
import { Conversation, hasContent } from "./http1-conversation.ts";

export type Handle = (front: Front, request: IncomingMessage, response: ServerResponse, upgrade?: Upgrade) => void;

const CONVERSATION: unique symbol = Symbol("conversation");

/** What node:http gives back to us with each request. */
interface Carrier extends Duplex {
  [CONVERSATION]?: Conversation;
}

/** HTTP/1 connections with Node's parser; what it lets through and we do not is stopped around it. */
export class Http1Front {
  #limits: ProxyLimits;
  readonly #clock: Clock;
  readonly #handle: Handle;
  #server: http.Server;
  readonly #crowd: WaitingLine;

  constructor(limits: ProxyLimits, clock: Clock, crowd: WaitingLine, handle: Handle) {
    this.#limits = limits;
    this.#clock = clock;
    this.#crowd = crowd;
    this.#handle = handle;
    this.#server = this.#createServer();
  }

  /** From the next connection on. */
  limit(limits: ProxyLimits): void {
    this.#limits = limits;
    this.#server = this.#createServer();
  }

  /** `held`: the place that it has already. */
  serve(stream: Carrier, front: Front, held?: Place): void {
    const before = stream.listeners("data");
    this.#server.emit("connection", stream);
    const parse = stream.listeners("data").find((listener) => !before.includes(listener));
    if (parse === undefined) return void stream.destroy();
    const place = held ?? this.#enter(stream, front);
    const reader = parse as (bytes: Buffer) => void;
    const conversation = new Conversation(stream, front, this.#limits, this.#clock, reader, place);
    stream[CONVERSATION] = conversation;
    if (place === undefined && front.serverName === undefined) conversation.refuse("503 Service Unavailable");
  }

  /** With TLS, that has bounds of its own. Idle for longest makes room. */
  #enter(stream: Carrier, { proof, serverName }: Front): Place | undefined {
    if (serverName !== undefined) return undefined;
    const place = this.#crowd.enter(callerKey(proof), { giveUp: () => stream[CONVERSATION]?.end() });
    if (place !== undefined) stream.once("close", () => place.leave());
    return place;
  }

  close(): void {
    this.#server.close();
  }

  #createServer(): http.Server {
    const server = http.createServer({
      maxHeaderSize: this.#limits.headBytes,
      requireHostHeader: false, // answered by our own check
      insecureHTTPParser: false,
      // Node's own timers need a listening server, and ours run on the injected clock.
      keepAliveTimeout: 0,
      headersTimeout: 0,
      requestTimeout: 0,
      // Of an offer that is declined Node's parser keeps a mark, and says nothing of faults in what follows: it ends there.
      shouldUpgradeCallback: (request) => !hasContent(request),
    });
    server.maxHeadersCount = this.#limits.headFields + 1; // what is more is not told, so one more is too many
    server.on("request", this.#onRequest);
    server.on("checkContinue", this.#onRequest);
    server.on("checkExpectation", this.#onRequest);
    server.on("upgrade", (request, stream, early) => this.#onUpgrade(request, stream, early));
    server.on("connect", (request, stream, early) => {
      conversationOf(stream)?.handOver(early, () => {
        const response = responseOn(request, stream, () => void stream.end());
        response.shouldKeepAlive = false;
        sendError(request, response, 405, "405 method not allowed");
      });
    });
    server.on("clientError", (error: NodeJS.ErrnoException, stream) => {
      const conversation = conversationOf(stream);
      if (conversation === undefined || error.code === "ECONNRESET") stream.destroy();
      else if (error.code === "HPE_CLOSED_CONNECTION") conversation.ignoreRest();
      else conversation.refuse(statusOf(error));
    });
    return server;
  }

  #asked(request: IncomingMessage, response: ServerResponse, run: (front: Front) => void): void {
    const conversation = conversationOf(request.socket);
    if (conversation === undefined) return void request.socket.destroy();
    if (conversation.isRefused) return;
    conversation.asked(request, response, () => {
      if (!response.destroyed && request.socket.writable) run(conversation.front);
    });
  }

  readonly #onRequest = (request: IncomingMessage, response: ServerResponse): void => {
    if (expectsOther(request)) return void this.#asked(request, response, () => refuseExpectation(request, response));
    // Behind an offer with a body the parser cannot go on.
    if (request.headers.upgrade !== undefined && hasContent(request)) response.shouldKeepAlive = false;
    // Nothing to wait for (RFC 9110 section 10.1.1), so nothing that Node would have to close the connection for.
    if (request.headers.expect !== undefined && !hasContent(request))
      Object.assign(response, { _expect_continue: false });
    this.#asked(request, response, (front) => this.#handle(front, request, response));
  };

  #onUpgrade(request: IncomingMessage, stream: Duplex, early: Buffer): void {
    const conversation = conversationOf(stream);
    if (conversation === undefined || conversation.isRefused) return void stream.destroy();
    const onError = (): void => void stream.destroy();
    stream.on("error", onError);
    conversation.handOver(early, (rest) => {
      const isOffer = isWebSocket(request);
      const response = responseOn(request, stream, () => {
        stream.off("error", onError);
        if (stream.readableEnded) return void stream.end();
        if (rest.length > 0) stream.unshift(rest);
        this.serve(stream, conversation.front, conversation.place);
      });
      if (expectsOther(request)) return refuseExpectation(request, response);
      // What came early with an offer of ours is no request, should the offer be declined (WS-2).
      response.shouldKeepAlive = goesOn(request) && !(isOffer && rest.length > 0);
      this.#handle(conversation.front, request, response, isOffer ? { stream, head: rest } : undefined);
    });
  }
}

function conversationOf(stream: Carrier): Conversation | undefined {
  return stream[CONVERSATION];
}

/** RFC 9112 section 9.3, for an answer that Node has not made itself. */
function goesOn({ httpVersion, headers }: IncomingMessage): boolean {
  const tokens = (headers.connection ?? "").split(",").map((token) => token.trim().toLowerCase());
  return httpVersion === "1.0" ? tokens.includes("keep-alive") : !tokens.includes("close");
}

/** What the parser refuses. A coding whose last is not `chunked` leaves the length open: 400 (RFC 9112 section 6.3). */
function statusOf({ code }: NodeJS.ErrnoException): string {
  return code === "HPE_HEADER_OVERFLOW" ? "431 Request Header Fields Too Large" : "400 Bad Request";
}
