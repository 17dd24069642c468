import { concatBytes, fromHex } from "../../src/base/bytes.ts";
import { NoiseInitiator, type NoiseSession, respondNoise } from "../../src/crypto/noise.ts";
import {
  CONTROL_HEADER_BYTES,
  controlPrologue,
  decodeHandshakeAnswer,
  decodeInitiation,
  HANDSHAKE_HEADER,
  recordBodyLength,
  splitEarlyPayload,
} from "../../src/wire/control.ts";
import type { ControlOpened, Entry, Way } from "./recording.ts";

const HEAD_END = "\r\n\r\n";
const PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER = 9;

/** RFC 9113 section 6. */
export const FRAME = { data: 0, headers: 1, reset: 3, settings: 4, ping: 6, goaway: 7, windowUpdate: 8 } as const;
export const END_STREAM = 1;

export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly payload: Uint8Array;
}

/** The session that a recorded client's first bytes make with the responder's keys: what our server computes, too. */
export function respondTo({ responder }: ControlOpened, head: string): { session: NoiseSession; version: number } {
  const text = new RegExp(`^${HANDSHAKE_HEADER}: (\\S+)`, "im").exec(head)![1]!;
  const frame = decodeInitiation(Buffer.from(text, "base64"))!;
  const answer = respondNoise({
    prologue: controlPrologue(frame.version),
    staticKey: fromHex(responder.privateKey)!,
    ephemeralKey: fromHex(responder.ephemeral)!,
    initiation: frame.payload,
  })!;
  return { session: answer.session, version: frame.version };
}

/** The session that a recorded server's answer makes with the initiator's keys. */
export function finishWith({ initiator }: ControlOpened, version: number, payload: Uint8Array): NoiseSession {
  const { initiator: started } = NoiseInitiator.start({
    prologue: controlPrologue(version),
    staticKey: fromHex(initiator.privateKey)!,
    ephemeralKey: fromHex(initiator.ephemeral)!,
    responderKey: fromHex(initiator.serverKey)!,
  })!;
  return started.finish(payload)!;
}

/** Takes an HTTP head off the front of a byte stream. */
export function headOf(bytes: Uint8Array): { readonly head: string; readonly rest: Uint8Array } | undefined {
  const end = Buffer.from(bytes).indexOf(HEAD_END);
  if (end < 0) return undefined;
  return { head: Buffer.from(bytes.subarray(0, end)).toString("latin1"), rest: bytes.slice(end + HEAD_END.length) };
}

/** Cuts a byte stream into records and those into HTTP/2 frames. */
export class FrameCutter {
  readonly #open: (ciphertext: Uint8Array) => Uint8Array | undefined;
  readonly #from: Way;
  #records: Uint8Array = new Uint8Array(0);
  #plain: Uint8Array = new Uint8Array(0);
  #isBegun = false;
  /** Of the server, before HTTP/2. */
  early: Uint8Array | undefined;
  /** Records that did not open: none may. */
  broken = 0;

  constructor(from: Way, open: (ciphertext: Uint8Array) => Uint8Array | undefined) {
    this.#from = from;
    this.#open = open;
  }

  *push(chunk: Uint8Array): Generator<Frame> {
    this.#records = concatBytes(this.#records, chunk);
    while (this.#records.length >= CONTROL_HEADER_BYTES) {
      const end = CONTROL_HEADER_BYTES + recordBodyLength(this.#records.subarray(0, CONTROL_HEADER_BYTES));
      if (this.#records.length < end) break;
      const plain = this.#open(this.#records.slice(CONTROL_HEADER_BYTES, end));
      if (plain === undefined) this.broken++;
      else this.#plain = concatBytes(this.#plain, plain);
      this.#records = this.#records.slice(end);
    }
    if (!this.#isBegun && !this.#begin()) return;
    while (this.#plain.length >= FRAME_HEADER) {
      const length = (this.#plain[0]! << 16) | (this.#plain[1]! << 8) | this.#plain[2]!;
      if (this.#plain.length < FRAME_HEADER + length) return;
      const stream = new DataView(this.#plain.buffer, this.#plain.byteOffset).getUint32(5) & 0x7fffffff;
      const payload = this.#plain.slice(FRAME_HEADER, FRAME_HEADER + length);
      yield { type: this.#plain[3]!, flags: this.#plain[4]!, stream, payload };
      this.#plain = this.#plain.slice(FRAME_HEADER + length);
    }
  }

  #begin(): boolean {
    if (this.#from === "up") {
      if (this.#plain.length < PREFACE.length) return false;
      const preface = Buffer.from(this.#plain.subarray(0, PREFACE.length)).toString("latin1");
      if (preface !== PREFACE) throw new Error(`no HTTP/2: ${preface}`);
      this.#plain = this.#plain.slice(PREFACE.length);
    } else {
      const split = splitEarlyPayload(this.#plain);
      if (split === undefined) return false;
      this.early = split.payload;
      this.#plain = split.rest;
    }
    this.#isBegun = true;
    return true;
  }
}

export function encodeFrame({ type, flags, stream, payload }: Frame): Uint8Array {
  const header = new Uint8Array(FRAME_HEADER);
  const view = new DataView(header.buffer);
  view.setUint32(0, payload.length << 8);
  view.setUint8(3, type);
  view.setUint8(4, flags);
  view.setUint32(5, stream);
  return concatBytes(header, payload);
}

/** A frame of a recorded connection, in the order of the recording. */
export interface RecordedFrame extends Frame {
  readonly way: Way;
  /** Place of the chunk that completed it, in the recording. */
  readonly entry: number;
}

export interface RecordedChannel {
  readonly opened: ControlOpened;
  readonly frames: readonly RecordedFrame[];
  readonly early: Uint8Array | undefined;
  readonly broken: number;
  /** Capability version that the client spoke. */
  readonly version: number;
}

/** Opens both directions of a recorded control connection. */
export function openChannel(entries: readonly Entry[], opened: ControlOpened): RecordedChannel {
  const frames: RecordedFrame[] = [];
  const heads: Record<Way, Uint8Array> = { up: new Uint8Array(0), down: new Uint8Array(0) };
  const cutters: Partial<Record<Way, FrameCutter>> = {};
  let version = 0;
  entries.forEach((entry, index) => {
    if (entry.kind !== "bytes" || entry.id !== opened.id) return;
    const { way } = entry;
    let chunk: Uint8Array = new Uint8Array(Buffer.from(entry.bytes, "base64"));
    if (cutters[way] === undefined) {
      heads[way] = concatBytes(heads[way], chunk);
      const found = headOf(heads[way]);
      if (found === undefined) return;
      if (way === "up") {
        const answered = respondTo(opened, found.head);
        version = answered.version;
        cutters.up = new FrameCutter("up", (ciphertext) => answered.session.open.next(ciphertext));
        chunk = found.rest;
      } else {
        const answer = decodeHandshakeAnswer(found.rest)!;
        const session = finishWith(opened, version, answer.payload);
        cutters.down = new FrameCutter("down", (ciphertext) => session.open.next(ciphertext));
        chunk = answer.rest;
      }
    }
    for (const frame of cutters[way]!.push(chunk)) frames.push({ ...frame, way, entry: index });
  });
  const broken = (cutters.up?.broken ?? 0) + (cutters.down?.broken ?? 0);
  return { opened, frames, early: cutters.down?.early, broken, version };
}

/** All of a stream's body. */
export function bodyOf(frames: readonly Frame[], stream: number): Uint8Array {
  const parts = frames.filter((frame) => frame.type === FRAME.data && frame.stream === stream);
  return concatBytes(...parts.map(({ payload }) => payload));
}
