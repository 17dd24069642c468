import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { resetSocket } from "../base/reset.ts";

/** What may wait to be written on one side before the other is read no further (WS-6). */
const HIGH_BYTES = 32 * 1024;
const LOW_BYTES = 16 * 1024;

/** Two streams end to end: each direction ends on its own (WS-7), an error ends both (WS-5). */
export function joinStreams(one: Duplex, other: Duplex): void {
  pump(one, other);
  pump(other, one);
}

function pump(from: Duplex, to: Duplex): void {
  let isPaused = false;
  const onWritten = (): void => {
    if (!isPaused || to.destroyed || to.writableLength > LOW_BYTES) return;
    isPaused = false;
    from.resume();
  };
  from.on("data", (chunk: Buffer) => {
    to.write(chunk, onWritten);
    if (isPaused || to.writableLength <= HIGH_BYTES) return;
    isPaused = true;
    from.pause();
  });
  from.on("end", () => void to.end());
  from.on("error", () => reset(to));
  from.on("close", () => {
    // After both ends `to` still sends what it was given, and closes by itself.
    if (!from.readableEnded || !from.writableFinished) reset(to);
  });
  from.resume();
}

/** What was cut on one side must not look complete on the other. */
export function reset(stream: Duplex): void {
  if (stream.destroyed) return;
  try {
    resetSocket(stream as Socket); // throws where there is no TCP below
  } catch {
    stream.destroy();
  }
}
