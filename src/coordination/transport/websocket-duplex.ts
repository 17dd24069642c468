import { createHash } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { Duplex } from "node:stream";
import { concatBytes } from "../../base/bytes.ts";
import { Fault } from "../../base/fault.ts";

// RFC 6455, as much as carries a byte stream in binary messages: upstream's browser builds dial that way.
const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; // RFC 6455 1.3
const OPCODE = { continuation: 0, binary: 2, close: 8, ping: 9, pong: 10 } as const;
const FINAL = 0x80;
const MASKED = 0x80;
const LARGEST_CONTROL = 125;
/** Clients send one Noise record at a time, 4 KiB. What is held of a frame is copied at each piece that comes. */
const LARGEST_FRAME = 64 * 1024;

/** Answers the opening handshake; `undefined`, with nothing written, when the request is not a good one. */
export function acceptWebSocket(
  request: IncomingMessage,
  socket: Duplex,
  head: Uint8Array,
  protocol: string,
): Duplex | undefined {
  const key = request.headers["sec-websocket-key"];
  const offered = (request.headers["sec-websocket-protocol"] ?? "").split(",").map((name) => name.trim());
  if (key === undefined || !/^[A-Za-z0-9+/]{22}==$/.test(key)) return undefined;
  if (request.headers["sec-websocket-version"] !== "13" || !offered.includes(protocol)) return undefined;
  const accept = createHash("sha1").update(`${key}${GUID}`).digest("base64");
  socket.write(
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
      `Sec-WebSocket-Accept: ${accept}\r\nSec-WebSocket-Protocol: ${protocol}\r\n\r\n`,
  );
  return new WebSocketDuplex(socket, head);
}

function encodeFrame(opcode: number, payload: Uint8Array): Uint8Array {
  const { length } = payload;
  const header = new Uint8Array(length <= LARGEST_CONTROL ? 2 : length < 65_536 ? 4 : 10);
  const view = new DataView(header.buffer);
  header[0] = FINAL | opcode;
  header[1] = header.length === 2 ? length : header.length === 4 ? 126 : 127;
  if (header.length === 4) view.setUint16(2, length);
  if (header.length === 10) view.setBigUint64(2, BigInt(length));
  return concatBytes(header, payload);
}

interface Frame {
  readonly opcode: number;
  readonly payload: Uint8Array;
  readonly size: number;
}

/** One frame of a client, unmasked; `undefined` = need more. */
function decodeFrame(bytes: Uint8Array): Frame | undefined {
  if (bytes.length < 2) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const [first, second] = [bytes[0]!, bytes[1]!];
  if ((first & 0x70) !== 0 || (second & MASKED) === 0) throw broken("reserved bits or no mask");
  const short = second & 0x7f;
  const maskStart = short < 126 ? 2 : short === 126 ? 4 : 10;
  if (bytes.length < maskStart + 4) return undefined;
  const length = short < 126 ? short : short === 126 ? view.getUint16(2) : Number(view.getBigUint64(2));
  if (length > LARGEST_FRAME) throw broken(`a frame of ${length} bytes`);
  const opcode = first & 0x0f;
  if (opcode >= OPCODE.close && (length > LARGEST_CONTROL || (first & FINAL) === 0))
    throw broken("a long control frame");
  const start = maskStart + 4;
  if (bytes.length < start + length) return undefined;
  const payload = bytes.slice(start, start + length);
  for (let i = 0; i < length; i++) payload[i]! ^= bytes[maskStart + (i & 3)]!;
  return { opcode, payload, size: start + length };
}

function broken(found: string): Fault {
  return new Fault("CONTROL_BAD_WEBSOCKET", `Cannot read the WebSocket: found ${found}, wanted binary messages`);
}

class WebSocketDuplex extends Duplex {
  readonly #socket: Duplex;
  #pending: Uint8Array = new Uint8Array(0);

  constructor(socket: Duplex, head: Uint8Array) {
    super({ allowHalfOpen: true });
    this.#socket = socket;
    socket.on("data", (chunk: Buffer) => this.#receive(chunk));
    socket.on("end", () => this.push(null));
    socket.on("error", (error) => this.destroy(error));
    socket.on("close", () => this.destroy());
    if (head.length > 0) queueMicrotask(() => this.#receive(head));
  }

  #receive(chunk: Uint8Array): void {
    if (this.destroyed) return;
    this.#pending = concatBytes(this.#pending, chunk);
    try {
      for (let frame = decodeFrame(this.#pending); frame !== undefined; frame = decodeFrame(this.#pending)) {
        this.#pending = this.#pending.slice(frame.size);
        if (!this.#take(frame)) this.#socket.pause();
      }
    } catch (error) {
      this.destroy(error instanceof Error ? error : new Error(String(error)));
    }
  }

  #take({ opcode, payload }: Frame): boolean {
    if (opcode === OPCODE.binary || opcode === OPCODE.continuation) {
      return payload.length === 0 || this.push(Buffer.from(payload));
    }
    if (opcode === OPCODE.close) this.push(null);
    else if (opcode === OPCODE.ping) this.#socket.write(encodeFrame(OPCODE.pong, payload));
    else if (opcode !== OPCODE.pong) throw broken(`opcode ${opcode}`);
    return true;
  }

  override _read(): void {
    this.#socket.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#socket.write(encodeFrame(OPCODE.binary, chunk), done);
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#socket.end(encodeFrame(OPCODE.close, Uint8Array.of(0x03, 0xe8)), () => done()); // 1000, RFC 6455 7.4.1
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#socket.destroy();
    done(error);
  }
}
