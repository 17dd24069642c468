import type { Duplex } from "node:stream";

const EVENTS = ["data", "end", "drain", "connect", "close"] as const;

/**
 * Takes the listeners off a socket that is closed. Node's sockets that are gone keep one another alive until the next full
 * collection, and with them whatever their listeners refer to: where they come and go by the thousand a second, that makes
 * old in V8's sense all there ever was of a connection.
 */
export function letGo(socket: Duplex): void {
  for (const event of EVENTS) socket.removeAllListeners(event);
}
