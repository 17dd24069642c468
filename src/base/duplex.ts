import type { Conn, Proof } from "./conn.ts";
import { Fault } from "./fault.ts";
import { SocketDuplex } from "./socket-duplex.ts";

/** What is delivered beyond what whoever reads has room for; the connection's own window stands behind it. */
const READ_CREDIT_BYTES = 64 * 1024;
const READ_AHEAD_BYTES = 64 * 1024;
const WRITE_AHEAD_BYTES = 64 * 1024;

/** A `Conn` as a Node stream, usable as the socket of `tls`, `http` and `http2`. */
export class ConnDuplex extends SocketDuplex {
  readonly proof: Proof;
  /** What `node:http` and `node:tls` read of a socket. Text for logs, never an identity. */
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly localAddress: string;
  readonly localPort: number;
  /** What is handed on in one turn of the event loop, where that is work for whoever reads; the rest comes in the next turns. */
  portionBytes: number = Number.POSITIVE_INFINITY;
  readonly #conn: Conn;
  /** Beyond the portion of this turn; no more than was credited. */
  #waiting: Buffer[] = [];
  #handedOn = 0;
  #onDrain: ((error: Error | null) => void) | undefined;
  #owed = 0;
  #isFlowing = true;
  #sawEnd = false;

  constructor(conn: Conn) {
    super({ allowHalfOpen: true, readableHighWaterMark: READ_AHEAD_BYTES, writableHighWaterMark: WRITE_AHEAD_BYTES });
    this.#conn = conn;
    this.proof = conn.proof;
    const remote = conn.proof.kind === "ingress" ? conn.proof.visitor : conn.proof.source;
    this.remoteAddress = remote.address;
    this.remotePort = remote.port;
    this.localAddress = conn.proof.destination.address;
    this.localPort = conn.proof.destination.port;
    conn.attach({
      data: (view) => {
        this.#waiting.push(Buffer.from(view)); // a copy: the view dies on return
        this.#handOn();
      },
      end: () => {
        this.#sawEnd = true;
        if (this.#waiting.length === 0) this.#handOn();
      },
      drain: () => {
        const proceed = this.#onDrain;
        this.#onDrain = undefined;
        proceed?.(null);
      },
      abort: (fault) => void this.destroy(fault),
    });
    conn.credit(READ_CREDIT_BYTES);
  }

  #handOn(): void {
    const isPortioned = this.portionBytes !== Number.POSITIVE_INFINITY;
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) {
      const room = this.portionBytes - this.#handedOn;
      if (next.length > room) this.#waiting.unshift(next.subarray(room));
      if (room <= 0) return;
      const part = next.subarray(0, room);
      if (isPortioned) {
        if (this.#handedOn === 0) setImmediate(this.#handOnMore);
        this.#handedOn += part.length;
      }
      this.#owed += part.length;
      this.#isFlowing = this.push(part);
      if (this.#isFlowing) this.#repay();
    }
    if (this.#sawEnd) this.push(null);
  }

  readonly #handOnMore = (): void => {
    this.#handedOn = 0;
    if (!this.destroyed && this.#waiting.length > 0) this.#handOn();
  };

  #repay(): void {
    const bytes = this.#owed;
    this.#owed = 0;
    if (bytes > 0) this.#conn.credit(bytes);
  }

  override _read(): void {
    this.#isFlowing = true;
    this.#repay();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    if (this.#conn.write(chunk)) done();
    else this.#onDrain = done;
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#conn.end();
    done();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    const pending = this.#onDrain;
    this.#onDrain = undefined;
    const isRead = this.readableLength === 0 && this.#waiting.length === 0;
    this.#waiting = [];
    // A stream that was read to its end closes like a socket: our end is said, nothing is torn down.
    if (error instanceof Fault) this.#conn.abort(error);
    else if (this.#sawEnd && isRead) this.#conn.end();
    else this.#conn.abort(new Fault("CONN_CLOSED", "Connection closed by its user", { cause: error ?? undefined }));
    pending?.(error);
    done(error);
  }
}

export function asDuplex(conn: Conn): ConnDuplex {
  return new ConnDuplex(conn);
}
