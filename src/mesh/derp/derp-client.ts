import type { Duplex } from "node:stream";
import type { Clock } from "../../base/clock.ts";
import { Fault } from "../../base/fault.ts";
import { FrameQueue, FrameWriter } from "../../base/frame-writer.ts";
import type { Random } from "../../base/random.ts";
import { BOX_NONCE_BYTES, boxKey, openBox, sealBox } from "../../crypto/box.ts";
import { publicKeyOf } from "../../crypto/keys.ts";
import {
  DERP,
  DERP_FRAME_BYTES,
  DERP_KEY_BYTES,
  DERP_PACKET_BYTES,
  DERP_VERSION,
  DerpFrameReader,
  decodeDerpInfo,
  decodeDerpServerKey,
  encodeDerpFrame,
} from "../../wire/derp.ts";

export interface DerpClientOptions {
  readonly stream: Duplex;
  readonly nodePrivateKey: Uint8Array;
  readonly random: Random;
  readonly clock: Clock;
  /** ServerInfo came: packets may go. */
  readonly onReady: () => void;
  readonly onPacket: (sourceKey: Uint8Array, payload: Uint8Array) => void;
  /** Any frame at all: the connection lives. */
  readonly onAlive?: (() => void) | undefined;
  readonly onPeerGone?: ((key: Uint8Array) => void) | undefined;
  /** Empty = healthy again. */
  readonly onHealth?: ((text: string) => void) | undefined;
  /** Once, whoever closed it. */
  readonly onClose: (fault: Fault) => void;
}

const HANDSHAKE_MS = 10_000;
/** The server says something every 60 s. */
const SILENCE_MS = 120_000;
const PING_ANSWER_MS = 3000;
const HEALTH_CHARACTERS = 256;
/** ServerKey frames over this are not from a DERP server. */
const SERVER_KEY_BYTES = 1024;

/** One connection to a DERP server, after the HTTP upgrade. Upstream `derp/derp_client.go`. */
export class DerpClient {
  readonly #options: DerpClientOptions;
  readonly #reader: DerpFrameReader = new DerpFrameReader(DERP_FRAME_BYTES);
  readonly #queue: FrameQueue = new FrameQueue();
  readonly #writer: FrameWriter;
  #box: Uint8Array | undefined;
  #isReady = false;
  #isClosed = false;
  #isBlocked = false;
  #cancelTimer: () => void = () => {};
  #cancelPing: () => void = () => {};
  #bucket: { readonly perMs: number; readonly burst: number; tokens: number; at: number } | undefined;

  constructor(options: DerpClientOptions) {
    this.#options = options;
    const { stream } = options;
    this.#writer = new FrameWriter(stream);
    stream.on("data", (chunk: Uint8Array) => this.#receive(chunk));
    stream.on("drain", () => this.#drained());
    stream.on("error", (cause) => this.close(closed(`connection failed: ${cause.message}`, cause)));
    stream.on("end", () => this.close(closed("server ended the connection")));
    stream.on("close", () => this.close(closed("connection lost")));
    stream.resume(); // who did the HTTP upgrade may have paused it
    this.#expect(HANDSHAKE_MS, "no handshake within 10 s");
  }

  get isReady(): boolean {
    return this.#isReady;
  }

  /** Never waits: where too many wait already, the oldest is dropped for a new one. */
  send(destinationKey: Uint8Array, payload: Uint8Array): void {
    if (this.#isClosed || payload.length > DERP_PACKET_BYTES) return;
    this.#write(encodeDerpFrame(DERP.sendPacket, destinationKey, payload));
  }

  /** Whether this region is our home. */
  notePreferred(isPreferred: boolean): void {
    if (this.#isReady) this.#write(encodeDerpFrame(DERP.notePreferred, Uint8Array.of(isPreferred ? 1 : 0)));
  }

  /** After a change of the network: closes unless the server answers within 3 s. */
  check(): void {
    if (!this.#isReady) return;
    this.#write(encodeDerpFrame(DERP.ping, this.#options.random(8)));
    const { clock } = this.#options;
    this.#cancelPing();
    this.#cancelPing = clock.at(clock.now() + PING_ANSWER_MS, () => this.close(closed("no answer to a ping")));
  }

  close(fault: Fault = closed("closed by its user")): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#isReady = false;
    this.#cancelTimer();
    this.#cancelPing();
    this.#queue.clear();
    this.#options.stream.destroy();
    this.#options.onClose(fault);
  }

  #expect(ms: number, what: string): void {
    const { clock } = this.#options;
    this.#cancelTimer();
    this.#cancelTimer = clock.at(clock.now() + ms, () => this.close(closed(what)));
  }

  #write(frame: Uint8Array): void {
    if (!this.#isReady || this.#isBlocked) {
      this.#queue.push(frame);
      return;
    }
    if (!this.#hasTokens(frame.length)) return; // the server told its limit: over it, packets are lost here
    this.#isBlocked = !this.#writer.write(frame);
  }

  #hasTokens(bytes: number): boolean {
    const bucket = this.#bucket;
    if (bucket === undefined) return true;
    const now = this.#options.clock.now();
    bucket.tokens = Math.min(bucket.burst, bucket.tokens + (now - bucket.at) * bucket.perMs);
    bucket.at = now;
    if (bucket.tokens < bytes) return false;
    bucket.tokens -= bytes;
    return true;
  }

  #drained(): void {
    this.#isBlocked = false;
    while (!this.#isBlocked && this.#isReady && this.#queue.length > 0) this.#write(this.#queue.shift()!);
  }

  #receive(chunk: Uint8Array): void {
    if (this.#isClosed) return;
    try {
      this.#reader.push(chunk, (type, payload) => {
        if (!this.#isClosed) this.#frame(type, payload);
      });
    } catch (thrown) {
      this.close(thrown instanceof Fault ? thrown : closed("broken frame", thrown));
    }
  }

  #frame(type: number, payload: Uint8Array): void {
    if (this.#box === undefined) {
      this.#greet(type, payload);
      return;
    }
    if (this.#isReady) this.#expect(SILENCE_MS, "silent for 120 s");
    this.#options.onAlive?.();
    switch (type) {
      case DERP.serverInfo:
        if (!this.#isReady) this.#begin(payload);
        break;
      case DERP.receivePacket:
        if (payload.length < DERP_KEY_BYTES || payload.length > DERP_KEY_BYTES + DERP_PACKET_BYTES) break;
        this.#options.onPacket(payload.subarray(0, DERP_KEY_BYTES), payload.subarray(DERP_KEY_BYTES));
        break;
      case DERP.peerGone:
        if (payload.length >= DERP_KEY_BYTES) this.#options.onPeerGone?.(payload.slice(0, DERP_KEY_BYTES));
        break;
      case DERP.ping:
        if (payload.length >= 8) this.#write(encodeDerpFrame(DERP.pong, payload.subarray(0, 8)));
        break;
      case DERP.pong:
        this.#cancelPing();
        break;
      case DERP.health:
        this.#options.onHealth?.(readable(payload));
        break;
      default: // KeepAlive, Restarting (advice that we do not need) and what is yet to be invented
    }
  }

  #greet(type: number, payload: Uint8Array): void {
    const serverKey =
      type === DERP.serverKey && payload.length <= SERVER_KEY_BYTES ? decodeDerpServerKey(payload) : undefined;
    const { nodePrivateKey, random, stream } = this.#options;
    const box = serverKey === undefined ? undefined : boxKey(nodePrivateKey, serverKey);
    if (box === undefined) {
      this.close(closed("server did not begin with a usable key"));
      return;
    }
    this.#box = box;
    const nonce = random(BOX_NONCE_BYTES);
    const info = new TextEncoder().encode(JSON.stringify({ version: DERP_VERSION, CanAckPings: true }));
    stream.write(encodeDerpFrame(DERP.clientInfo, publicKeyOf(nodePrivateKey), nonce, sealBox(box, nonce, info)));
  }

  #begin(payload: Uint8Array): void {
    const plain = openBox(this.#box!, payload.subarray(0, BOX_NONCE_BYTES), payload.subarray(BOX_NONCE_BYTES));
    const info = plain === undefined ? undefined : decodeDerpInfo(plain);
    if (info === undefined) {
      this.close(closed("server sent no readable ServerInfo"));
      return;
    }
    const { TokenBucketBytesPerSecond: rate, TokenBucketBytesBurst: burst } = info;
    if (rate !== undefined && burst !== undefined) {
      this.#bucket = { perMs: rate / 1000, burst, tokens: burst, at: this.#options.clock.now() };
    }
    this.#isReady = true;
    this.#expect(SILENCE_MS, "silent for 120 s");
    this.#options.onReady();
    this.#drained();
  }
}

function closed(found: string, cause?: unknown): Fault {
  return new Fault("DERP_CLOSED", `Cannot keep DERP connection: ${found}, wanted an answering server`, { cause });
}

/** Text of a stranger, for a log line. */
function readable(bytes: Uint8Array): string {
  const text = new TextDecoder().decode(bytes.subarray(0, 4 * HEALTH_CHARACTERS));
  return text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, " ").slice(0, HEALTH_CHARACTERS);
}
