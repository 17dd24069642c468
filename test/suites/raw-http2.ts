/** Frames of HTTP/2 as a client that checks nothing would send them (RFC 9113, RFC 7541). */
const PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

interface FrameTypes {
  readonly data: 0;
  readonly headers: 1;
  readonly priority: 2;
  readonly reset: 3;
  readonly settings: 4;
  readonly pushPromise: 5;
  readonly ping: 6;
  readonly goAway: 7;
  readonly windowUpdate: 8;
  readonly continuation: 9;
}

export const FRAME: FrameTypes = {
  data: 0,
  headers: 1,
  priority: 2,
  reset: 3,
  settings: 4,
  pushPromise: 5,
  ping: 6,
  goAway: 7,
  windowUpdate: 8,
  continuation: 9,
};
export const END_STREAM = 1;
export const END_HEADERS = 4;

export function frame(type: number, flags: number, stream: number, payload: Buffer = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** `settings`: identifier and value (RFC 9113 section 6.5.2). */
export function opening(settings: readonly (readonly [id: number, value: number])[] = []): Buffer {
  const payload = Buffer.alloc(settings.length * 6);
  for (const [i, [id, value]] of settings.entries()) {
    payload.writeUInt16BE(id, i * 6);
    payload.writeUInt32BE(value, i * 6 + 2);
  }
  return Buffer.concat([Buffer.from(PREFACE), frame(FRAME.settings, 0, 0, payload)]);
}

export function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** Each field literal, without indexing and without Huffman coding; characters are bytes. */
export function fieldBlock(fields: readonly (readonly [name: string, value: string])[]): Buffer {
  const parts = fields.flatMap(([name, value]) => [Buffer.from([0]), text(name), text(value)]);
  return Buffer.concat(parts);
}

export function requestBlock(method: string, authority: string, path: string): Buffer {
  return fieldBlock([
    [":method", method],
    [":scheme", "https"],
    [":authority", authority],
    [":path", path],
  ]);
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value, "latin1");
  return Buffer.concat([integer(bytes.length), bytes]);
}

/** With a prefix of seven bits. */
function integer(value: number): Buffer {
  if (value < 127) return Buffer.from([value]);
  const bytes = [127];
  let rest = value - 127;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 128);
  return Buffer.from([...bytes, rest]);
}

/** Frames that have come whole. */
export function framesIn(bytes: Buffer): { type: number; flags: number; stream: number; payload: Buffer }[] {
  const frames: { type: number; flags: number; stream: number; payload: Buffer }[] = [];
  for (let at = 0; at + 9 <= bytes.length; ) {
    const end = at + 9 + bytes.readUIntBE(at, 3);
    if (end > bytes.length) break;
    const [type, flags] = [bytes[at + 3]!, bytes[at + 4]!];
    frames.push({ type, flags, stream: bytes.readUInt32BE(at + 5) & 0x7fffffff, payload: bytes.subarray(at + 9, end) });
    at = end;
  }
  return frames;
}
