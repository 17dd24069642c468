import { createCipheriv, createHash } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";

const CHUNK_BYTES = 64 * 1024;
const BLOCK_BYTES = 16;
const KEY: Uint8Array = new Uint8Array(16).fill(7);

/** Bytes of a file that nobody stores: AES-CTR of zeros, from any offset on. */
export function* largeFile(from: number, to: number): Generator<Uint8Array> {
  const counter = Buffer.alloc(BLOCK_BYTES);
  counter.writeBigUInt64BE(BigInt(Math.floor(from / BLOCK_BYTES)), 8);
  const cipher = createCipheriv("aes-128-ctr", KEY, counter);
  cipher.update(new Uint8Array(from % BLOCK_BYTES));
  for (let at = from; at < to; at += CHUNK_BYTES) yield cipher.update(new Uint8Array(Math.min(CHUNK_BYTES, to - at)));
}

/** SHA-256 of the first `bytes`, hex. */
export function largeFileDigest(bytes: number): string {
  const hash = createHash("sha256");
  for (const chunk of largeFile(0, bytes)) hash.update(chunk);
  return hash.digest("hex");
}

/** Serves it, from where `Range` says on, so that a download can be taken up again; no faster than is said. */
export function serveLargeFile(
  bytes: number,
  request: IncomingMessage,
  response: ServerResponse,
  bytesPerSecond: number = Infinity,
): void {
  const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
  response.writeHead(from > 0 ? 206 : 200, {
    "content-length": String(bytes - from),
    "accept-ranges": "bytes",
    etag: '"large"',
    ...(from > 0 ? { "content-range": `bytes ${from}-${bytes - 1}/${bytes}` } : {}),
  });
  const source = Readable.from(paced(largeFile(from, bytes), bytesPerSecond), { objectMode: false });
  source.pipe(response);
}

async function* paced(chunks: Iterable<Uint8Array>, bytesPerSecond: number): AsyncGenerator<Uint8Array> {
  const start = performance.now();
  let sent = 0;
  for (const chunk of chunks) {
    yield chunk;
    sent += chunk.length;
    const ahead = (sent * 1000) / bytesPerSecond - (performance.now() - start);
    if (ahead > 0) await sleep(ahead);
  }
}
