import type { ServerHttp2Stream } from "node:http2";
import type { Clock } from "../../base/clock.ts";
import { encodeMapFrame } from "../../wire/control-map.ts";
import type { MapRequest, MapResponse } from "../../wire/tailcfg.ts";
import type { MapSink } from "../control-handler.ts";

/** What may wait for a slow reader; a message that comes on top of that is not taken. */
const LARGEST_BACKLOG = 8 * 1024 * 1024;

/** What was sent in maps, frames with their heads. */
export interface MapTraffic {
  messages: number;
  bytes: number;
}

/** The body of one answer to a map request. */
export class MapStream implements MapSink {
  readonly #stream: ServerHttp2Stream;
  readonly #compression: "zstd" | "none";
  readonly #clock: Clock;
  readonly #traffic: MapTraffic;
  readonly #closed: AbortController = new AbortController();
  #isOver = false;

  constructor(
    stream: ServerHttp2Stream,
    request: MapRequest,
    { clock, traffic }: { readonly clock: Clock; readonly traffic: MapTraffic },
  ) {
    this.#traffic = traffic;
    this.#stream = stream;
    this.#compression = request.Compress === "zstd" ? "zstd" : "none";
    this.#clock = clock;
    stream.on("close", () => this.stop());
  }

  get closed(): AbortSignal {
    return this.#closed.signal;
  }

  send(response: MapResponse): boolean {
    if (this.#isOver || this.#stream.destroyed || this.#stream.closed) return false;
    if (this.#stream.writableLength > LARGEST_BACKLOG) return false;
    this.#begin();
    const frame = encodeMapFrame(this.#dated(response), this.#compression);
    this.#traffic.messages++;
    this.#traffic.bytes += frame.length;
    this.#stream.write(frame);
    return true;
  }

  /** By a PING of HTTP/2, which no program there need know of (RFC 9113 section 6.7). */
  echo(heard: () => void): boolean {
    const { session } = this.#stream;
    if (this.#isOver || session === undefined || session.destroyed) return false;
    return session.ping((failure) => {
      if (failure === null) heard();
    });
  }

  end(): void {
    if (this.#isOver) return;
    this.#begin();
    this.stop();
    this.#stream.end();
  }

  /** No more messages; the stream itself is left to others. */
  stop(): void {
    this.#isOver = true;
    this.#closed.abort();
  }

  #begin(): void {
    if (this.#stream.headersSent || this.#stream.destroyed) return;
    this.#stream.respond({ ":status": 200, "content-type": "application/octet-stream" });
  }

  /**
   * Upstream takes a message whose frame is as long as a keep-alive's for one (direct.go decodeMsg reuses its buffer);
   * with the time inside no message is that short.
   */
  #dated(response: MapResponse): MapResponse {
    if (response.KeepAlive === true || response.ControlTime != null) return response;
    return { ...response, ControlTime: new Date(this.#clock.wall()).toISOString() };
  }
}
