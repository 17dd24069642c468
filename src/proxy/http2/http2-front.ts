import type { IncomingMessage, ServerResponse } from "node:http";
import http2, {
  type Http2ServerRequest,
  type Http2ServerResponse,
  type Http2Stream,
  type ServerHttp2Session,
} from "node:http2";
import type { TLSSocket } from "node:tls";
import type { ConnDuplex } from "../../base/duplex.ts";
import { expectsOther, refuseExpectation } from "../answers.ts";
import type { Front, ProxyLimits, ProxyOptions } from "../options.ts";
import { Http2Budget } from "./http2-budget.ts";

const { NGHTTP2_CANCEL, NGHTTP2_ENHANCE_YOUR_CALM, NGHTTP2_NO_ERROR } = http2.constants;

/** How long a GOAWAY may take to arrive. */
const LINGER_MS = 1000;
const CONNECTION_WINDOW_BYTES = 1024 * 1024;
const STREAM_WINDOW_BYTES = 64 * 1024;
/** What has come of a body, as fast as it was wanted, before more of it may be under way. */
const BODY_OF_UPLOAD_BYTES = 128 * 1024;
/** From then on: on a long path a window is all that comes in a round trip, 64 KiB in 80 ms no more than 6 Mbit/s. */
const UPLOAD_WINDOW_BYTES = 2 * 1024 * 1024;
/** What of an answer waits for room; node:http2 has 64 KiB (H2-10). */
const WAITING_BYTES = 16 * 1024;
/** Fields of one request: browsers send each cookie as one of its own (RFC 9113 section 8.2.3). */
const MOST_FIELDS = 512;
/** What we send in answer to a PING and to SETTINGS (RFC 9113 sections 6.7 and 6.5.3). */
const PING_ACK_BYTES = 17;
const SETTINGS_ACK_BYTES = 9;
/**
 * Of a connection in one turn of the event loop: a thousand requests stand in 64 KiB, and everybody else waits for them (H2-2).
 * An upload, where a part costs nothing, comes as it is read.
 */
export const PORTION_BYTES: number = 8 * 1024;
/** A flood, or a frame against the rules, for which node:http2 ends a session itself. */
const BREACHES: ReadonlySet<string> = new Set(["ERR_HTTP2_ERROR", "ERR_HTTP2_TOO_MANY_INVALID_FRAMES"]);
/** How often, within the shortest of the limits, a connection is looked at. */
const LOOKS = 4;

type Handle = (front: Front, request: IncomingMessage, response: ServerResponse) => void;
type Http2FrontOptions = Pick<ProxyOptions, "clock" | "log" | "count">;

/** HTTP/2 connections with Node's implementation; what it bears and we do not is stopped around it. */
export class Http2Front {
  #limits: ProxyLimits;
  readonly #options: Http2FrontOptions;
  readonly #handle: Handle;
  readonly #onFlood: (front: Front) => void;
  #server: http2.Http2Server;
  readonly #conversations: Map<ServerHttp2Session, Http2Conversation> = new Map();

  constructor(limits: ProxyLimits, options: Http2FrontOptions, handle: Handle, onFlood: (front: Front) => void) {
    this.#limits = limits;
    this.#options = options;
    this.#handle = handle;
    this.#onFlood = onFlood;
    this.#server = this.#createServer();
  }

  /** From the next connection on. */
  limit(limits: ProxyLimits): void {
    this.#limits = limits;
    this.#server = this.#createServer();
  }

  /** `wire` is what carries `secure`. */
  serve(secure: TLSSocket, wire: ConnDuplex, front: Front): void {
    const onSession = (session: ServerHttp2Session): void => {
      const conversation = new Http2Conversation(
        session,
        secure,
        wire,
        front,
        this.#limits,
        this.#options,
        this.#onFlood,
      );
      this.#conversations.set(session, conversation);
      session.once("close", () => this.#conversations.delete(session));
    };
    this.#server.once("session", onSession); // comes within the call
    this.#server.emit("connection", secure);
    this.#server.off("session", onSession);
  }

  /** Every session is told to end when its requests are answered. */
  drain(): void {
    for (const session of this.#conversations.keys()) session.close();
  }

  close(): void {
    this.#server.close();
  }

  #createServer(): http2.Http2Server {
    const server = http2.createServer({
      // What Envoy advises at the edge. A longer field list than was said is no request: node:http2 resets it (H2-11).
      settings: {
        maxConcurrentStreams: 100,
        initialWindowSize: STREAM_WINDOW_BYTES,
        maxHeaderListSize: this.#limits.headBytes,
        enableConnectProtocol: false,
      },
      maxHeaderListPairs: MOST_FIELDS,
      maxSessionMemory: 8,
      maxSessionInvalidFrames: 500, // of a whole connection, however old
      streamResetBurst: 1000,
      streamResetRate: 33,
    });
    const onRequest = (request: Http2ServerRequest, response: Http2ServerResponse): void => {
      const conversation = this.#conversations.get(request.stream.session as ServerHttp2Session);
      if (conversation === undefined) return void request.stream.close();
      request.on("error", () => void response.stream?.close());
      conversation.asked(request, response);
      // The compatibility objects of node:http2 have the members of node:http's that we use.
      const [asked, answer] = [request as unknown as IncomingMessage, response as unknown as ServerResponse];
      if (expectsOther(asked)) refuseExpectation(asked, answer);
      else this.#handle(conversation.front, asked, answer);
    };
    server.on("request", onRequest);
    // Of a request that its sender has taken back in the same read nothing is made (CVE-2023-44487).
    const [toRequest] = server.listeners("stream");
    server.removeAllListeners("stream");
    server.on("stream", (stream, ...rest) => {
      const conversation = this.#conversations.get(stream.session as ServerHttp2Session);
      if (conversation?.wants(stream) === true) toRequest?.call(server, stream, ...rest);
      else stream.on("error", ignore);
    });
    // Without these Node answers by itself, and throws when the request was taken back in the same packet.
    server.on("checkContinue", onRequest);
    server.on("checkExpectation", onRequest);
    return server;
  }
}

/** One caller's HTTP/2 connection. */
class Http2Conversation {
  readonly front: Front;
  readonly #session: ServerHttp2Session;
  readonly #secure: TLSSocket;
  readonly #wire: ConnDuplex;
  readonly #limits: ProxyLimits;
  readonly #options: Http2FrontOptions;
  readonly #onFlood: (front: Front) => void;
  readonly #budget: Http2Budget;
  /** Under way; what of its answer the peer has not taken, and since when. */
  readonly #requests: Map<Http2ServerRequest, Unsent | undefined> = new Map();
  /** As the peer has acknowledged it. */
  #window = STREAM_WINDOW_BYTES;
  #isWide = false;
  #quietSince: number;
  #isEnding = false;
  #isMeasuring = false;
  #cancel: () => void = () => {};

  constructor(
    session: ServerHttp2Session,
    secure: TLSSocket,
    wire: ConnDuplex,
    front: Front,
    limits: ProxyLimits,
    options: Http2FrontOptions,
    onFlood: (front: Front) => void,
  ) {
    this.#onFlood = onFlood;
    this.front = front;
    this.#session = session;
    this.#secure = secure;
    this.#wire = wire;
    this.#limits = limits;
    this.#options = options;
    const now = options.clock.now();
    this.#budget = new Http2Budget(now);
    this.#quietSince = now;
    session.setLocalWindowSize(CONNECTION_WINDOW_BYTES);
    session.on("error", (error: NodeJS.ErrnoException) => {
      options.log.debug("proxy.http2_failed", { error: error.message });
      if (BREACHES.has(error.code ?? "")) this.#flooded(error.message);
    });
    session.on("localSettings", ({ initialWindowSize = STREAM_WINDOW_BYTES }) => {
      this.#window = initialWindowSize;
    });
    session.on("ping", () => this.#budget.answeredFrame(PING_ACK_BYTES));
    session.on("remoteSettings", () => this.#budget.answeredFrame(SETTINGS_ACK_BYTES));
    wire.on("data", this.#measureLater);
    // Who has ended its side can neither finish a request nor make room for an answer.
    wire.once("end", () => session.destroy());
    session.once("close", () => {
      this.#isEnding = true;
      wire.off("data", this.#measureLater);
      this.#cancel();
      this.#letGo();
    });
    this.#lookLater();
  }

  /** Not one that its sender has taken back already. */
  wants(stream: Http2Stream): boolean {
    if (!this.#isEnding && !stream.destroyed && !stream.closed && !stream.aborted) return true;
    this.#budget.received(0);
    this.#failed();
    return false;
  }

  asked(request: Http2ServerRequest, response: Http2ServerResponse): void {
    const { stream } = request;
    const budget = this.#budget;
    let bytes = 0;
    for (const text of request.rawHeaders) bytes += text.length;
    budget.received(bytes);
    this.#requests.set(request, undefined);
    let received = 0;
    const { _writableState: state } = stream as { _writableState?: { highWaterMark: number } };
    if (state !== undefined) state.highWaterMark = WAITING_BYTES; // there is no option for it
    stream.on("drain", () => void this.#requests.set(request, undefined));
    stream.once("close", () => {
      this.#requests.delete(request);
      this.#quietSince = this.#options.clock.now();
      if (!stream.endAfterHeaders && !request.readableEnded) {
        // What was under way is no more than came before, or fits into the first window.
        budget.left(Math.min(this.#window, STREAM_WINDOW_BYTES + received) + heldOf(request));
      }
      if (!response.writableEnded || stream.rstCode !== NGHTTP2_NO_ERROR) this.#failed();
    });
    if (stream.endAfterHeaders) return;
    const count = (part: string | Buffer): void => {
      budget.received(part.length);
      received += part.length;
      if (received >= BODY_OF_UPLOAD_BYTES) this.#wire.portionBytes = Number.POSITIVE_INFINITY;
      if (!this.#isWide && received >= BODY_OF_UPLOAD_BYTES && heldOf(request) < STREAM_WINDOW_BYTES) this.#widen();
    };
    // Counts along with whoever reads, and does not make the body flow before.
    request.on("newListener", (event: string | symbol, listener: unknown) => {
      if (event !== "data" || listener === count || request.listeners(event).includes(count)) return;
      request.on("data", count);
    });
  }

  /** An upload that is taken as it comes goes by the path's pace. */
  #widen(): void {
    if (this.#isEnding || this.#session.destroyed) return;
    this.#isWide = true;
    this.#session.settings({ initialWindowSize: UPLOAD_WINDOW_BYTES });
    this.#session.setLocalWindowSize(UPLOAD_WINDOW_BYTES + CONNECTION_WINDOW_BYTES); // others have what they had
  }

  /** At the end of the turn: requests among these bytes have been told of by then. */
  readonly #measureLater = (): void => {
    if (this.#isMeasuring) return;
    this.#isMeasuring = true;
    setImmediate(this.#measure);
  };

  readonly #measure = (): void => {
    this.#isMeasuring = false;
    if (this.#isEnding) return;
    const { bytesRead, bytesWritten } = this.#secure;
    const excess = this.#budget.measure(bytesRead, bytesWritten, this.#options.clock.now());
    if (excess > 0 && excess > this.#unreadBytes()) this.#calm("bytes that bring nothing");
  };

  /** Of bodies that came faster than they are wanted; node:http2 keeps them where no listener sees them. */
  #unreadBytes(): number {
    let bytes = 0;
    for (const request of this.#requests.keys()) {
      const room = request.stream.state.localWindowSize ?? this.#window;
      bytes += Math.max(0, this.#window - room) + heldOf(request);
    }
    return bytes;
  }

  #failed(): void {
    this.#wire.portionBytes = PORTION_BYTES;
    if (!this.#budget.failed(this.#options.clock.now())) this.#calm("streams without an answer");
  }

  #calm(found: string): void {
    if (this.#isEnding) return;
    this.#flooded(found);
    this.#end(NGHTTP2_ENHANCE_YOUR_CALM);
  }

  #flooded(found: string): void {
    this.#options.count?.("http2_flood");
    this.#onFlood(this.front);
    this.#options.log.warn("proxy.http2_flood", { found });
  }

  /** Nothing more is heard, and what is under way is given up; the code has a moment to arrive. */
  #end(code: number): void {
    if (this.#isEnding) return;
    this.#isEnding = true;
    if (this.#session.destroyed) return void this.#wire.destroy();
    this.#wire.removeAllListeners("data").resume();
    this.#session.goaway(code);
    for (const { stream } of this.#requests.keys()) stream.close(code);
    const { clock } = this.#options;
    const cancel = clock.at(clock.now() + LINGER_MS, () => void this.#wire.destroy());
    this.#wire.once("close", cancel);
  }

  /**
   * While the peer has not acknowledged our settings, native code refers to the session, and no collection sees that this
   * code is itself kept alive by the session: through our listeners, the socket, and the error that names the handle. A
   * peer who never acknowledges would leave all of that behind with each connection (H2-6).
   */
  #letGo(): void {
    for (const event of ["error", "localSettings", "ping", "remoteSettings"]) this.#session.removeAllListeners(event);
    this.#session.on("error", ignore);
  }

  #lookLater(): void {
    const { clock } = this.#options;
    const { idleMs, writeMs } = this.#limits;
    this.#cancel = clock.at(clock.now() + Math.min(idleMs, writeMs) / LOOKS, () => this.#look());
  }

  #look(): void {
    const now = this.#options.clock.now();
    const { idleMs, writeMs } = this.#limits;
    if (this.#requests.size === 0 && now - this.#quietSince >= idleMs) return void this.#end(NGHTTP2_NO_ERROR);
    for (const [request, before] of this.#requests) {
      const bytes = request.stream.writableLength;
      if (bytes === 0) this.#requests.set(request, undefined);
      else if (before === undefined || bytes < before.bytes) this.#requests.set(request, { bytes, since: now });
      else if (now - before.since >= writeMs) request.stream.close(NGHTTP2_CANCEL); // H2-10
    }
    this.#lookLater();
  }
}

/** Of the module, so that it holds nothing. */
function ignore(): void {}

/** Taken from the window, and read by nobody yet. */
function heldOf(request: Http2ServerRequest): number {
  return request.stream.readableLength + request.readableLength;
}

interface Unsent {
  readonly bytes: number;
  readonly since: number;
}
