import type { Socket } from "node:net";
import type { Conn, ConnSink, Proof } from "../src/base/conn.ts";
import { Fault } from "../src/base/fault.ts";
import { TurnWrites } from "../src/proxy/upstream/turn-writes.ts";

const writes = new TurnWrites();

/** A kernel socket as a `Conn`, so that the proxy is measured without our own TCP below it. */
export class SocketConn implements Conn {
  readonly proof: Proof;
  readonly #socket: Socket;
  #credit = 0;
  #sink: ConnSink | undefined;

  constructor(socket: Socket, proof: Proof) {
    this.#socket = socket;
    this.proof = proof;
    socket.pause();
    socket.setNoDelay(true);
  }

  attach(sink: ConnSink): void {
    this.#sink = sink;
    this.#socket.on("data", (view: Uint8Array) => {
      this.#credit -= view.length;
      if (this.#credit <= 0) this.#socket.pause();
      sink.data(view);
    });
    this.#socket.on("end", () => sink.end());
    this.#socket.on("drain", () => sink.drain());
    this.#socket.on("error", (cause) => sink.abort(new Fault("SOCKET", "Connection lost", { cause })));
  }

  credit(bytes: number): void {
    this.#credit += bytes;
    if (this.#credit > 0 && this.#sink !== undefined) this.#socket.resume();
  }

  write(view: Uint8Array): boolean {
    // `Conn` promises one copy into its ring; the kernel takes most of it at once, so only a copy is safe here.
    writes.hold(this.#socket); // as the mesh's stack sends at the end of its turn
    return this.#socket.write(Buffer.from(view));
  }

  end(): void {
    this.#socket.end();
  }

  abort(): void {
    this.#socket.destroy();
  }
}
