import { SocketDuplex } from "../base/socket-duplex.ts";

/** What may be on its way in one direction before the writer waits. */
const WINDOW_BYTES = 256 * 1024;

/** Carries what one end does to the other: in order, and not before the way is gone. */
export type Carry = (arrive: () => void) => void;

/** One end of a byte stream in memory; what a socket has and `node:http`, `node:http2` and `node:tls` use. */
export class MemoryStream extends SocketDuplex {
  readonly remoteAddress: string;
  readonly remotePort: number = 0;
  bytesRead: number = 0;
  bytesWritten: number = 0;
  readonly #carry: Carry;
  #peer!: MemoryStream;
  #underWay = 0;
  #owed = 0;
  #proceed: (() => void) | undefined;

  private constructor(carry: Carry, remoteAddress: string) {
    super({ allowHalfOpen: true });
    this.#carry = carry;
    this.remoteAddress = remoteAddress;
  }

  /** Both ends; `carry` goes from the first to the second, `back` the other way. */
  static pair(
    carry: Carry,
    back: Carry,
    [first, second]: readonly [string, string] = ["", ""],
  ): [MemoryStream, MemoryStream] {
    const near = new MemoryStream(carry, second);
    const far = new MemoryStream(back, first);
    near.#peer = far;
    far.#peer = near;
    return [near, far];
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.bytesWritten += chunk.length;
    this.#underWay += chunk.length;
    this.#carry(() => this.#peer.#arrive(chunk));
    if (this.#underWay < WINDOW_BYTES) done();
    else this.#proceed = done;
  }

  #arrive(chunk: Buffer): void {
    if (this.destroyed) return;
    this.bytesRead += chunk.length;
    this.#owed += chunk.length;
    if (this.push(chunk)) this.#repay();
  }

  #repay(): void {
    const bytes = this.#owed;
    this.#owed = 0;
    this.#peer.#taken(bytes);
  }

  #taken(bytes: number): void {
    this.#underWay -= bytes;
    const proceed = this.#underWay < WINDOW_BYTES ? this.#proceed : undefined;
    if (proceed === undefined) return;
    this.#proceed = undefined;
    proceed();
  }

  override _read(): void {
    if (this.#owed > 0) this.#repay();
  }

  override _final(done: () => void): void {
    this.#carry(() => void (this.#peer.destroyed || this.#peer.push(null)));
    done();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#carry(() => void this.#peer.destroy());
    done(error);
  }
}
