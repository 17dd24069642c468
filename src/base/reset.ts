import { Socket } from "node:net";
import { TLSSocket } from "node:tls";

/**
 * Cuts a TCP connection so that the other side is told. In the turn of the loop in which its end is under way Node cannot:
 * `resetAndDestroy` fails with EINVAL, and leaves behind a socket that is never closed.
 */
export function resetSocket(socket: Socket): void {
  if (socket.destroyed) return;
  const { writableEnded, writableFinished, writableLength } = socket;
  const isTcp = socket instanceof Socket && !(socket instanceof TLSSocket);
  const isEnding = isTcp && writableEnded && !writableFinished && writableLength === 0;
  if (isTcp && socket.connecting)
    socket.destroy(); // nobody there knows of it, and the end may come before the reset
  else if (isEnding) socket.once("finish", () => resetSocket(socket));
  else socket.resetAndDestroy();
}
