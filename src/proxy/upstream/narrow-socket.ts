import net from "node:net";
import { Duplex } from "node:stream";

const PIECE_BYTES = 8 * 1024;

/** Where the bytes of all such backends arrive; TLS has copied them when the next ones come. */
const piece = Buffer.allocUnsafeSlow(PIECE_BYTES);

/**
 * A TCP connection to be read by TLS, which takes over a `net.Socket` with a buffer of 64 KiB of its own, and decrypts all that
 * came at once into memory, wanted or not. This one it must ask: it gets little pieces, none once it is paused, and nothing
 * waits here (H2-10). Handshakes and bytes
 * cost a quarter more CPU for it.
 */
export class NarrowSocket extends Duplex {
  readonly #socket: net.Socket;

  constructor(options: net.NetConnectOpts) {
    super({ allowHalfOpen: options.allowHalfOpen ?? false });
    const narrow: net.NetConnectOpts & { readableHighWaterMark: number } = {
      ...options,
      readableHighWaterMark: 0, // nothing is read before it is wanted
      onread: {
        buffer: piece,
        callback: (bytes) => {
          this.emit("data", piece.subarray(0, bytes));
          return !this.isPaused();
        },
      },
    };
    this.#socket = net.connect(narrow);
    this.#socket.once("end", () => void this.push(null));
    this.#socket.once("error", (error) => void this.destroy(error));
    this.#socket.once("close", () => void this.destroy());
  }

  override pause(): this {
    this.#socket.pause();
    return super.pause();
  }

  override resume(): this {
    this.#socket.resume();
    return super.resume();
  }

  override _read(): void {}

  override _write(chunk: Buffer, encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#socket.write(chunk, encoding, done);
  }

  override _writev(
    parts: readonly { chunk: Buffer; encoding: BufferEncoding }[],
    done: (error?: Error | null) => void,
  ): void {
    this.#socket.cork();
    for (const [i, { chunk, encoding }] of parts.entries()) {
      if (i < parts.length - 1) this.#socket.write(chunk, encoding);
      else this.#socket.write(chunk, encoding, done);
    }
    this.#socket.uncork();
  }

  override _final(done: () => void): void {
    this.#socket.end(done);
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#socket.destroy();
    done(error);
  }
}
