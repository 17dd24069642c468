import type { Duplex } from "node:stream";
import { setImmediate as turn } from "node:timers/promises";
import tls from "node:tls";
import { GATE, onClose } from "./proxy-scene.ts";
import { FRAME, framesIn } from "./raw-http2.ts";

export type RawFrame = ReturnType<typeof framesIn>[number];

const AT_ONCE = 32;

/** A peer that sends whatever it is told to, and reads whatever comes, on a connection that speaks HTTP/2. */
export class RawPeer {
  readonly stream: Duplex;
  readonly frames: RawFrame[] = [];
  #drains = 0;
  #rest: Buffer = Buffer.alloc(0);

  constructor(stream: Duplex) {
    this.stream = stream;
    stream.on("error", () => void stream.destroy());
    stream.on("end", () => void stream.destroy());
    stream.on("drain", () => void this.#drains++);
    stream.on("data", (chunk: Buffer) => {
      this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
      let used = 0;
      for (const each of framesIn(this.#rest)) {
        used += 9 + each.payload.length;
        this.frames.push({ ...each, payload: Buffer.from(each.payload) });
      }
      this.#rest = this.#rest.subarray(used);
    });
  }

  /** By TLS on this connection, to the gate. */
  static overTls(socket: Duplex): RawPeer {
    const secure = tls.connect({ socket, servername: GATE, rejectUnauthorized: false, ALPNProtocols: ["h2"] });
    onClose(() => secure.destroy());
    return new RawPeer(secure);
  }

  get isClosed(): boolean {
    return this.stream.destroyed;
  }

  /** Told to go, or gone. */
  get isOver(): boolean {
    return this.isClosed || this.goAway !== undefined;
  }

  /** The error code of the first GOAWAY, if one came. */
  get goAway(): number | undefined {
    return this.frames.find(({ type }) => type === FRAME.goAway)?.payload.readUInt32BE(4);
  }

  send(...frames: readonly Buffer[]): void {
    if (!this.isClosed) this.stream.write(Buffer.concat(frames));
  }

  /** Until that holds of the frames that came, or the other side has had enough. */
  async until(holds: (frames: readonly RawFrame[]) => boolean): Promise<void> {
    while (!this.isOver && !holds(this.frames)) await turn();
  }

  async over(): Promise<void> {
    await this.until(() => false);
  }

  async closed(): Promise<void> {
    while (!this.isClosed) await turn();
  }

  /** Sends `most` parts as fast as the other side takes them, or fewer if it has had enough; says how many. */
  async flood(most: number, part: (index: number) => Buffer): Promise<number> {
    let sent = 0;
    while (sent < most && !this.isOver) {
      const parts: Buffer[] = [];
      for (let i = 0; i < AT_ONCE && sent < most; i++) parts.push(part(sent++));
      const before = this.#drains;
      const isRoomy = this.stream.write(Buffer.concat(parts));
      await turn();
      while (!isRoomy && this.#drains === before && !this.isOver) await turn();
    }
    return sent;
  }
}
