import type { Duplex } from "node:stream";
import { Fault, messageOf } from "../../base/fault.ts";
import { AnswerParser } from "./answer-parser.ts";
import type { AnswerSink, Asked, Exchange } from "./exchange.ts";
import { requestHead } from "./request-head.ts";
import type { TurnWrites } from "./turn-writes.ts";

/** Who keeps the connection between two requests. */
export interface ConnectionOwner {
  readonly writes: TurnWrites;
  /** The exchange is over and the connection is as good as new. */
  released(): void;
  closed(): void;
}

const LAST_CHUNK = "0\r\n\r\n";

/**
 * One HTTP/1.1 connection to a backend: one request at a time, never pipelined. It is given back only when the answer was
 * read to its exact end, the request's body was sent, and no byte is left over (reliability matrix B).
 */
export class Http1Connection implements Exchange {
  /** For whom it may be used again. */
  readonly key: string;
  readonly #socket: Duplex;
  readonly #owner: ConnectionOwner;
  readonly #parser: AnswerParser;
  #sink: AnswerSink | undefined;
  #body: Asked["body"] = "none";
  #isLast = false;
  #unsent = 0;
  #isSent = true;
  #isPaused = false;
  #hadAnswer = false;
  #mustFlush = false;
  #isGone = false;
  isReused = false;
  /** Since when it waits for another request, on the clock of who keeps it. */
  idleSince = 0;

  constructor(socket: Duplex, key: string, owner: ConnectionOwner) {
    this.#socket = socket;
    this.key = key;
    this.#owner = owner;
    this.#parser = new AnswerParser({
      information: (status, fields) => this.#sink?.information(status, fields),
      head: (head) => {
        this.#mustFlush = true;
        // Who answers before the body is there may not want it, and never read it.
        if (!this.#isSent) this.#isLast = true;
        this.#sink?.head(head);
      },
      body: (part, isLast) => {
        const sink = this.#sink;
        if (isLast) this.#release();
        sink?.body(part, isLast);
      },
      end: (trailers) => {
        const sink = this.#sink;
        this.#release();
        sink?.end(trailers);
      },
      switched: (head, rest) => {
        const sink = this.#sink;
        const tunnel = this.#detach();
        sink?.switched(head, tunnel, rest);
      },
    });
    socket.on("data", this.#onData);
    socket.on("end", this.#onEnd);
    socket.on("error", this.#onError);
    socket.on("close", this.#onClose);
    socket.on("drain", this.#onDrain);
  }

  get isUsable(): boolean {
    return !this.#isGone && this.#sink === undefined && !this.#socket.destroyed;
  }

  get keepSeconds(): number | undefined {
    return this.#parser.keepSeconds;
  }

  ask(asked: Asked, sink: AnswerSink, maySwitch = false): void {
    const head = requestHead(asked);
    if (head === undefined) {
      this.destroy();
      return void sink.failed(
        new Fault("PROXY_BAD_REQUEST", "Cannot write the request: a field is no line of text"),
        true,
      );
    }
    this.#sink = sink;
    this.#body = asked.body;
    this.#isLast = asked.isLast === true;
    this.#isSent = asked.body === "none" || asked.body === 0;
    this.#unsent = typeof asked.body === "number" ? asked.body : 0;
    this.#hadAnswer = false;
    this.#parser.begin(asked.method, maySwitch);
    this.#owner.writes.hold(this.#socket);
    this.#socket.write(head, "latin1");
    sink.started(this);
  }

  write(part: Uint8Array): boolean {
    const socket = this.#socket;
    if (this.#isSent || this.#sink === undefined || part.length === 0) return true;
    if (this.#body !== "chunked") {
      // A body longer than its length would be read as the next request (H2-7).
      if (part.length > this.#unsent) return this.#fail("the body is longer than its length");
      this.#unsent -= part.length;
      return socket.write(part);
    }
    socket.cork();
    socket.write(`${part.length.toString(16)}\r\n`, "latin1");
    socket.write(part);
    const isRoomy = socket.write("\r\n", "latin1");
    socket.uncork();
    return isRoomy;
  }

  end(): void {
    if (this.#isSent || this.#sink === undefined) return;
    if (this.#body === "chunked") this.#socket.write(LAST_CHUNK, "latin1");
    else if (this.#unsent > 0) return void this.#fail("the body is shorter than its length");
    this.#isSent = true;
  }

  pause(): void {
    this.#isPaused = true;
    this.#socket.pause();
  }

  resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.#socket.resume();
  }

  cancel(): void {
    this.#sink = undefined;
    this.destroy();
  }

  destroy(): void {
    this.#parser.stop();
    this.#socket.destroy();
  }

  readonly #onData = (chunk: Buffer): void => {
    if (this.#sink === undefined) return void this.destroy(); // bytes that belong to no request (H1-21)
    this.#hadAnswer = true;
    this.#guarded(() => {
      const wrong = this.#parser.feed(chunk);
      if (wrong !== undefined) return void this.#fail(wrong);
      if (!this.#mustFlush) return;
      this.#mustFlush = false;
      this.#sink?.flush();
    });
  };

  readonly #onEnd = (): void => {
    if (this.#sink === undefined) return void this.destroy();
    this.#guarded(() => {
      const wrong = this.#parser.finish();
      if (wrong !== undefined) this.#fail(wrong);
    });
  };

  /** Whatever an answer makes of those who hear it ends with its request, not with the process. */
  #guarded(run: () => void): void {
    try {
      run();
    } catch (cause) {
      this.#fail(messageOf(cause), cause);
    }
  }

  readonly #onError = (cause: Error): void => {
    this.#fail(cause.message, cause);
  };

  readonly #onClose = (): void => {
    this.#fail("the connection was closed");
    if (this.#isGone) return;
    this.#isGone = true;
    this.#owner.closed();
  };

  readonly #onDrain = (): void => {
    if (!this.#isSent) this.#sink?.drain();
  };

  #fail(found: string, cause?: unknown): false {
    const sink = this.#sink;
    this.#sink = undefined;
    this.destroy();
    if (sink === undefined) return false; // as at the end of most connections, and a fault is costly
    const fault =
      cause instanceof Fault
        ? cause
        : new Fault("PROXY_BACKEND_ANSWER", `Cannot use the backend's answer: ${found}`, { cause });
    sink.failed(fault, this.#hadAnswer);
    return false;
  }

  /** The connection is a tunnel from here on. */
  #detach(): Duplex {
    const socket = this.#socket;
    this.#sink = undefined;
    this.#isGone = true;
    this.#owner.closed();
    socket.off("data", this.#onData);
    socket.off("end", this.#onEnd);
    socket.off("error", this.#onError);
    socket.off("close", this.#onClose);
    socket.off("drain", this.#onDrain);
    socket.pause();
    return socket;
  }

  #release(): void {
    this.#sink = undefined;
    this.#mustFlush = false;
    this.resume();
    const isGood = !this.#isLast && this.#parser.isReusable && this.#isSent && !this.#socket.destroyed;
    if (!isGood) return void this.destroy();
    this.isReused = true;
    this.#owner.released();
  }
}
