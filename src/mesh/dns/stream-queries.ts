import type { Duplex } from "node:stream";

const LENGTH_BYTES = 2;
const LONGEST = LENGTH_BYTES + 65_535;

export type AnswerQuery = (query: Uint8Array) => Promise<Uint8Array | undefined>;

/**
 * DNS messages over a stream, each behind its length (RFC 1035 §4.2.2), one after another. A query without an answer
 * ends the stream.
 */
export function answerQueries(stream: Duplex, answer: AnswerQuery): void {
  let pending: Buffer = Buffer.alloc(0);
  let isBusy = false;
  let isOver = false;
  const proceed = (): void => {
    if (isBusy) return;
    const end = pending.length < LENGTH_BYTES ? Infinity : LENGTH_BYTES + pending.readUInt16BE(0);
    if (pending.length < end) {
      if (isOver) stream.end();
      else stream.resume();
      return;
    }
    const query = pending.subarray(LENGTH_BYTES, end);
    pending = pending.subarray(end);
    isBusy = true;
    answer(query).then(
      (reply) => {
        isBusy = false;
        if (reply === undefined || stream.destroyed) stream.destroy();
        else if (stream.write(framed(reply))) proceed();
        else stream.once("drain", proceed);
      },
      () => stream.destroy(),
    );
  };
  stream.on("data", (chunk: Buffer) => {
    pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk]);
    if (pending.length >= LONGEST) stream.pause(); // who asks faster than it is answered is held back
    proceed();
  });
  stream.on("end", () => {
    isOver = true;
    proceed();
  });
  stream.on("error", () => stream.destroy());
}

/** A message with its length before it. */
export function framed(message: Uint8Array): Buffer {
  const frame = Buffer.alloc(LENGTH_BYTES + message.length);
  frame.writeUInt16BE(message.length);
  frame.set(message, LENGTH_BYTES);
  return frame;
}
