import type { Duplex } from "node:stream";
import { toHex } from "../base/bytes.ts";
import type { Clock } from "../base/clock.ts";
import { messageOf } from "../base/fault.ts";
import type { Random } from "../base/random.ts";
import { BOX_NONCE_BYTES, boxKey, openBox, sealBox } from "../crypto/box.ts";
import {
  DERP,
  DERP_KEY_BYTES,
  DERP_PACKET_BYTES,
  DERP_VERSION,
  DerpFrameReader,
  decodeDerpInfo,
  encodeDerpFrame,
  encodeDerpServerKey,
} from "../wire/derp.ts";
import { ClientQueue } from "./client-queue.ts";

export interface DerpSessionOptions {
  /** Tells the connections of one server apart. */
  readonly number: number;
  readonly stream: Duplex;
  readonly privateKey: Uint8Array;
  readonly publicKey: Uint8Array;
  readonly random: Random;
  readonly clock: Clock;
  readonly bytesPerSecond: number | undefined;
  readonly admit: (nodeKeyHex: string) => Promise<boolean>;
  readonly onReady: () => void;
  readonly onPacket: (destination: Uint8Array, payload: Uint8Array) => void;
  readonly onClose: (reason: string) => void;
}

const HANDSHAKE_MS = 10_000;
const KEEP_ALIVE_MS = 60_000;
const KEEP_ALIVE_JITTER_MS = 5000;
/** No frame of a client is longer: two keys and the largest packet. ClientInfo is far shorter. */
const FRAME_BYTES: number = DERP_PACKET_BYTES + 2 * DERP_KEY_BYTES;
const PING_BYTES = 1000;
/** Smallest depth of the rate limit: one packet of the largest size must pass. */
const BURST_BYTES = 65_568;
const MOST_REACHED = 1024;
const ABSENCES = { burst: 3, perMs: 1 / 1000 } as const;
/** Bytes that may wait while an admission is decided. */
const WAITING_BYTES = 256 * 1024;
/** What a frame that waits costs beside its payload. */
const FRAME_COST = 64;

/** One client of the relay. */
export class DerpSession {
  /** Node key in hex; empty until it was proven. */
  key = "";
  publicKey: Uint8Array = new Uint8Array(0);
  /**
   * Keys that got packets from here and want to know when it leaves, and by which of their connections: one that came
   * later knows nothing of it. Bounded: the oldest is forgotten.
   */
  readonly reached: Map<string, number> = new Map();
  readonly #options: DerpSessionOptions;
  readonly #reader: DerpFrameReader = new DerpFrameReader(FRAME_BYTES);
  readonly #queue: ClientQueue;
  #state: "greeting" | "admitting" | "ready" | "closed" = "greeting";
  /** What came while an admission is decided: whole frames out of the reader, then bytes that it has not seen. */
  #early: { readonly type: number; readonly payload: Uint8Array }[] = [];
  #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  #cancelTimer: () => void = () => {};
  #cancelResume: () => void = () => {};
  #tokens = 0;
  #tokensAt = 0;
  #absences: number = ABSENCES.burst;
  #absencesAt = 0;
  /** Drawn once a connection, as upstream does. */
  #keepAliveMs: number = KEEP_ALIVE_MS;

  constructor(options: DerpSessionOptions) {
    this.#options = options;
    this.#queue = new ClientQueue(options.stream, options.clock, () => this.close("took nothing for 2 s"));
  }

  start(head: Uint8Array): void {
    const { stream, clock, random, publicKey, bytesPerSecond } = this.#options;
    stream.on("data", (chunk: Uint8Array) => this.#receive(chunk));
    stream.on("error", (error) => this.close(messageOf(error)));
    stream.on("end", () => this.close("ended"));
    stream.on("close", () => this.close("connection lost"));
    this.#tokens = Math.max(BURST_BYTES, bytesPerSecond ?? 0);
    this.#tokensAt = clock.now();
    this.#absencesAt = clock.now();
    this.#keepAliveMs = KEEP_ALIVE_MS + (random(1)[0]! / 256) * KEEP_ALIVE_JITTER_MS;
    this.#cancelTimer = clock.at(clock.now() + HANDSHAKE_MS, () => this.close("no handshake within 10 s"));
    this.#queue.push(encodeDerpServerKey(publicKey), true);
    if (head.length > 0) this.#receive(head);
    stream.resume();
  }

  send(frame: Uint8Array, isUrgent: boolean): void {
    if (this.#state === "ready") this.#queue.push(frame, isUrgent);
  }

  get number(): number {
    return this.#options.number;
  }

  hasReached(key: string, number: number): void {
    if (this.reached.size >= MOST_REACHED && !this.reached.has(key)) {
      for (const oldest of this.reached.keys()) {
        this.reached.delete(oldest);
        break;
      }
    }
    this.reached.set(key, number);
  }

  /** At most one "not here" a second, three at once. */
  mayHearOfAbsence(): boolean {
    const now = this.#options.clock.now();
    this.#absences = Math.min(ABSENCES.burst, this.#absences + (now - this.#absencesAt) * ABSENCES.perMs);
    this.#absencesAt = now;
    if (this.#absences < 1) return false;
    this.#absences--;
    return true;
  }

  close(reason: string): void {
    if (this.#state === "closed") return;
    this.#state = "closed";
    this.#cancelTimer();
    this.#cancelResume();
    this.#early = [];
    this.#waiting = [];
    this.#queue.close();
    this.#options.stream.destroy();
    this.#options.onClose(reason);
  }

  #receive(chunk: Uint8Array): void {
    if (this.#state === "closed") return;
    if (this.#state === "admitting") {
      if (this.#mayWait(chunk.length)) this.#waiting.push(new Uint8Array(chunk));
      return;
    }
    this.#limit(chunk.length);
    try {
      this.#reader.push(chunk, (type, payload) => this.#frame(type, payload));
    } catch (thrown) {
      this.close(messageOf(thrown));
    }
  }

  #mayWait(bytes: number): boolean {
    this.#waitingBytes += bytes;
    if (this.#waitingBytes > WAITING_BYTES) this.close("too much before admission");
    return this.#waitingBytes <= WAITING_BYTES;
  }

  /** Over the rate, reading waits: TCP then slows the sender down. */
  #limit(bytes: number): void {
    const { bytesPerSecond, clock, stream } = this.#options;
    if (bytesPerSecond === undefined) return;
    const now = clock.now();
    const depth = Math.max(BURST_BYTES, bytesPerSecond);
    this.#tokens = Math.min(depth, this.#tokens + ((now - this.#tokensAt) * bytesPerSecond) / 1000) - bytes;
    this.#tokensAt = now;
    if (this.#tokens >= 0) return;
    stream.pause();
    this.#cancelResume();
    this.#cancelResume = clock.at(now + (-this.#tokens * 1000) / bytesPerSecond, () => void stream.resume());
  }

  #frame(type: number, payload: Uint8Array): void {
    if (this.#state === "closed") return;
    if (this.#state === "greeting") {
      if (type === DERP.clientInfo) this.#greet(payload);
      else this.close(`frame type ${type} before ClientInfo`);
      return;
    }
    if (this.#state === "admitting") {
      // In one chunk with ClientInfo; the reader may hold the first half of the next one.
      if (this.#mayWait(payload.length + FRAME_COST)) this.#early.push({ type, payload: payload.slice() });
      return;
    }
    switch (type) {
      case DERP.sendPacket:
        if (payload.length < DERP_KEY_BYTES) this.close("short SendPacket");
        else if (payload.length > DERP_KEY_BYTES + DERP_PACKET_BYTES) this.close("packet too long");
        else this.#options.onPacket(payload.subarray(0, DERP_KEY_BYTES), payload.subarray(DERP_KEY_BYTES));
        break;
      case DERP.ping:
        if (payload.length < 8 || payload.length > PING_BYTES) this.close("ping of a wrong length");
        else this.#queue.push(encodeDerpFrame(DERP.pong, payload.subarray(0, 8)), true);
        break;
      case DERP.notePreferred:
        if (payload.length !== 1) this.close("NotePreferred of a wrong length");
        break;
      case DERP.forwardPacket:
      case DERP.watchConnections:
      case DERP.closePeer:
        this.close("mesh frame from a client that is no mesh server"); // there is no mesh key to be right about (DD-7)
        break;
      default: // newer clients may say more than we know
    }
  }

  #greet(payload: Uint8Array): void {
    const { privateKey, publicKey, clock } = this.#options;
    const key = payload.slice(0, DERP_KEY_BYTES);
    const nonce = payload.subarray(DERP_KEY_BYTES, DERP_KEY_BYTES + BOX_NONCE_BYTES);
    const box = key.length === DERP_KEY_BYTES ? boxKey(privateKey, key) : undefined;
    const plain =
      box === undefined ? undefined : openBox(box, nonce, payload.subarray(DERP_KEY_BYTES + BOX_NONCE_BYTES));
    const info = plain === undefined ? undefined : decodeDerpInfo(plain);
    if (box === undefined || info === undefined) {
      this.close("ClientInfo is not sealed by the key that it names");
      return;
    }
    if (toHex(key) === toHex(publicKey)) {
      this.close("the server's own key");
      return;
    }
    this.#state = "admitting";
    this.#cancelTimer();
    this.#cancelTimer = clock.at(clock.now() + HANDSHAKE_MS, () => this.close("admission took more than 10 s"));
    this.#options.admit(toHex(key)).then(
      (isAdmitted) => this.#admitted(isAdmitted, key, box),
      () => this.close("not admitted"),
    );
  }

  #admitted(isAdmitted: boolean, key: Uint8Array, box: Uint8Array): void {
    if (this.#state !== "admitting") return;
    if (!isAdmitted) {
      this.close("not admitted");
      return;
    }
    this.key = toHex(key);
    this.publicKey = key;
    const { random, bytesPerSecond } = this.#options;
    const nonce = random(BOX_NONCE_BYTES);
    const info = new TextEncoder().encode(
      JSON.stringify({
        version: DERP_VERSION,
        ...(bytesPerSecond === undefined
          ? {}
          : {
              TokenBucketBytesPerSecond: bytesPerSecond,
              TokenBucketBytesBurst: Math.max(BURST_BYTES, bytesPerSecond),
            }),
      }),
    );
    this.#queue.push(encodeDerpFrame(DERP.serverInfo, nonce, sealBox(box, nonce, info)), true);
    this.#state = "ready";
    this.#keepAlive();
    this.#options.onReady();
    const [early, waiting] = [this.#early, this.#waiting];
    this.#early = [];
    this.#waiting = [];
    for (const { type, payload } of early) this.#frame(type, payload);
    for (const chunk of waiting) this.#receive(chunk);
  }

  #keepAlive(): void {
    const { clock } = this.#options;
    this.#cancelTimer();
    this.#cancelTimer = clock.at(clock.now() + this.#keepAliveMs, () => {
      this.#queue.push(encodeDerpFrame(DERP.keepAlive), true);
      this.#keepAlive();
    });
  }
}
