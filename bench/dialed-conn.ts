import { connect, type Socket } from "node:net";
import type { Conn, ConnSink, Proof } from "../src/base/conn.ts";
import { Fault } from "../src/base/fault.ts";

/** What is read is handed on and dead at once, as a `Conn` has it: one place serves all connections. */
const buffer = new Uint8Array(64 * 1024);
const proof: Proof = {
  kind: "public",
  source: { address: "127.0.0.1", port: 0 },
  destination: { address: "127.0.0.1", port: 0 },
};

/** A connection to a TCP port, where the ingress has one of the mesh. */
export class DialedConn implements Conn {
  readonly proof: Proof = proof;
  readonly #socket: Socket;
  #credit = 0;
  #sink: ConnSink | undefined;

  private constructor(port: number) {
    this.#socket = connect({
      port,
      host: "127.0.0.1",
      allowHalfOpen: true,
      noDelay: true,
      onread: { buffer, callback: (length) => this.#take(length) },
    });
  }

  static open(port: number): Promise<DialedConn> {
    const conn = new DialedConn(port);
    return new Promise((resolve, reject) => {
      conn.#socket.once("connect", () => resolve(conn)).once("error", reject);
    });
  }

  #take(length: number): boolean {
    this.#credit -= length;
    this.#sink!.data(buffer.subarray(0, length));
    return this.#credit > 0;
  }

  attach(sink: ConnSink): void {
    this.#sink = sink;
    this.#socket.on("end", () => sink.end());
    this.#socket.on("drain", () => sink.drain());
    this.#socket.on("error", (cause) => sink.abort(new Fault("SOCKET", "Connection lost", { cause })));
    this.#socket.resume(); // for the end
  }

  credit(bytes: number): void {
    const mustRead = this.#credit <= 0;
    this.#credit += bytes;
    if (mustRead && this.#credit > 0) this.#socket.resume();
  }

  write(view: Uint8Array): boolean {
    return this.#socket.write(Buffer.from(view)); // as our stack copies what it sends
  }

  end(): void {
    this.#socket.end();
  }

  abort(): void {
    this.#socket.destroy();
  }
}
