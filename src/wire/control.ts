/**
 * Frames of the control channel ("ts2021"), upstream control/controlbase/messages.go and control/ts2021/conn.go.
 * Lengths here are big-endian; those of the map stream (control-map.ts) are little-endian.
 */
import { Fault } from "../base/fault.ts";

const TYPE = { initiation: 1, response: 2, error: 3, record: 4 } as const;

// initiation: u16 version, u8 type, u16 length, payload; the others: u8 type, u16 length, payload
const INITIATION_HEADER = 5;
const HEADER = 3;
const INITIATION_PAYLOAD = 96;
const RESPONSE_PAYLOAD = 48;

export const UPGRADE_PROTOCOL = "tailscale-control-protocol";
export const HANDSHAKE_HEADER = "X-Tailscale-Handshake";
export const CONTROL_HEADER_BYTES: number = HEADER;
/** Of the whole frame, header included. */
export const LARGEST_RECORD = 4096;
export const LARGEST_RECORD_BODY: number = LARGEST_RECORD - HEADER;

/** What both sides mix in first; it binds the version, which travels in clear. */
export function controlPrologue(version: number): Uint8Array {
  return Uint8Array.from(Buffer.from(`Tailscale Control Protocol v${version}`));
}

function frame(type: number, payload: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(HEADER + payload.length);
  bytes[0] = type;
  new DataView(bytes.buffer).setUint16(1, payload.length);
  bytes.set(payload, HEADER);
  return bytes;
}

export function encodeInitiation(version: number, payload: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(INITIATION_HEADER + payload.length);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, version);
  bytes[2] = TYPE.initiation;
  view.setUint16(3, payload.length);
  bytes.set(payload, INITIATION_HEADER);
  return bytes;
}

/** `undefined` unless it is exactly one initiation. */
export function decodeInitiation(bytes: Uint8Array): { version: number; payload: Uint8Array } | undefined {
  if (bytes.length !== INITIATION_HEADER + INITIATION_PAYLOAD || bytes[2] !== TYPE.initiation) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint16(3) !== INITIATION_PAYLOAD) return undefined;
  return { version: view.getUint16(0), payload: bytes.subarray(INITIATION_HEADER) };
}

export function encodeResponse(payload: Uint8Array): Uint8Array {
  return frame(TYPE.response, payload);
}

/** An error frame is not authenticated: its text is a hint for logs, nothing else. */
export function encodeErrorFrame(text: string): Uint8Array {
  return frame(TYPE.error, Buffer.from(text, "latin1").subarray(0, LARGEST_RECORD_BODY));
}

export type HandshakeAnswer = { readonly kind: "response"; readonly payload: Uint8Array; readonly rest: Uint8Array };

/** The server's answer at the start of `bytes`; `undefined` = more bytes needed. Throws for anything else. */
export function decodeHandshakeAnswer(bytes: Uint8Array): HandshakeAnswer | undefined {
  if (bytes.length < HEADER) return undefined;
  const length = (bytes[1]! << 8) | bytes[2]!;
  if (bytes[0] === TYPE.response && length === RESPONSE_PAYLOAD) {
    if (bytes.length < HEADER + length) return undefined;
    return { kind: "response", payload: bytes.subarray(HEADER, HEADER + length), rest: bytes.slice(HEADER + length) };
  }
  if (bytes[0] === TYPE.error && length <= LARGEST_RECORD_BODY) {
    if (bytes.length < HEADER + length) return undefined;
    const text = Buffer.from(bytes.subarray(HEADER, HEADER + length)).toString("latin1");
    throw new Fault(
      "CONTROL_HANDSHAKE_REFUSED",
      "Cannot open the control channel: the server refused the handshake, wanted its consent",
      { hint: `The server says, unauthenticated: ${printable(text)}` },
    );
  }
  throw new Fault(
    "CONTROL_BAD_FRAME",
    `Cannot open the control channel: found frame type ${bytes[0]} of ${length} bytes, wanted a handshake response`,
  );
}

function printable(text: string): string {
  return text.replace(/[^ -~]/g, "?").slice(0, 200);
}

export function encodeRecord(ciphertext: Uint8Array): Uint8Array {
  return frame(TYPE.record, ciphertext);
}

/** Body length of a record by its header; throws for another frame or a longer record than allowed. */
export function recordBodyLength(header: Uint8Array): number {
  const length = (header[1]! << 8) | header[2]!;
  if (header[0] === TYPE.record && length <= LARGEST_RECORD_BODY) return length;
  throw new Fault(
    "CONTROL_BAD_FRAME",
    `Cannot read the control channel: found frame type ${header[0]} of ${length} bytes, wanted a record of at most ${LARGEST_RECORD_BODY}`,
  );
}

// Early payload: magic, u32 length, JSON; from the server, before HTTP/2.
const EARLY_MAGIC = [0xff, 0xff, 0xff, 0x54, 0x53] as const;
const EARLY_HEADER = 9;
/** Upstream reads up to 10 MiB; what it carries is one key. */
const LARGEST_EARLY_PAYLOAD = 64 * 1024;

export function encodeEarlyPayload(json: unknown): Uint8Array {
  const body = Buffer.from(JSON.stringify(json));
  const bytes = new Uint8Array(EARLY_HEADER + body.length);
  bytes.set(EARLY_MAGIC);
  new DataView(bytes.buffer).setUint32(EARLY_MAGIC.length, body.length);
  bytes.set(body, EARLY_HEADER);
  return bytes;
}

/** Splits the start of the server's stream: the early payload if there is one, and HTTP/2. `undefined` = need more. */
export function splitEarlyPayload(
  bytes: Uint8Array,
): { payload: Uint8Array | undefined; rest: Uint8Array } | undefined {
  if (bytes.length < EARLY_HEADER) return undefined;
  if (!EARLY_MAGIC.every((byte, i) => bytes[i] === byte)) return { payload: undefined, rest: bytes };
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(EARLY_MAGIC.length);
  if (length > LARGEST_EARLY_PAYLOAD) {
    throw new Fault(
      "CONTROL_BAD_FRAME",
      `Cannot read the early payload: found ${length} bytes, wanted at most ${LARGEST_EARLY_PAYLOAD}`,
    );
  }
  if (bytes.length < EARLY_HEADER + length) return undefined;
  return { payload: bytes.slice(EARLY_HEADER, EARLY_HEADER + length), rest: bytes.slice(EARLY_HEADER + length) };
}
