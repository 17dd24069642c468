import type { Duplex } from "node:stream";

/**
 * What is written to backends in one turn of the event loop goes out at its end, connection after connection. A write
 * that wakes a sleeping backend costs several times one to a backend that is awake: so all but the first are cheap, and
 * a head and its body are one packet.
 */
let corked: Duplex[] = [];

export function holdForTurn(stream: Duplex): void {
  if (stream.writableCorked > 0) return;
  if (corked.length === 0) setImmediate(flush);
  stream.cork();
  corked.push(stream);
}

function flush(): void {
  const streams = corked;
  corked = [];
  for (const stream of streams) stream.uncork();
}
