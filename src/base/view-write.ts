import { Socket } from "node:net";
import type { Duplex } from "node:stream";

const SPARE_BYTES = 64 * 1024; // the largest view of a `Conn`
/** What is shorter is cheaper to copy than to make place for; and a part that waits must not hold much more than itself. */
const SHORT_BYTES = 16 * 1024;

let spare = Buffer.allocUnsafeSlow(SPARE_BYTES);

/**
 * Writes a view that is dead on return. The kernel nearly always takes a write at once, and then the copy's memory is
 * free again: one place serves all sockets, and only what has to wait keeps it. Other streams keep what they are given.
 */
export function writeView(stream: Duplex, view: Uint8Array): boolean {
  const isShared = stream instanceof Socket && stream.writableLength === 0;
  if (!isShared || view.length < SHORT_BYTES || view.length > SPARE_BYTES) return stream.write(Buffer.from(view));
  const copy = spare.subarray(0, view.length);
  copy.set(view);
  const hasRoom = stream.write(copy);
  if (stream.writableLength > 0) spare = Buffer.allocUnsafeSlow(SPARE_BYTES);
  return hasRoom;
}
