import { Fault } from "../../base/fault.ts";
import { malformed, readDataTile } from "./log-entry.ts";
import { CODE_NOT_THERE, type LogTransport } from "./log-transport.ts";
import { MerkleTree } from "./merkle-tree.ts";
import type { TransparencyLog } from "./transparency-log.ts";
import { type LogKey, readCheckpoint, type TreeHead } from "./tree-head.ts";

const WIDTH = 256;
const HASH_BYTES = 32;
const LEVELS = 6;

/** A log of files (c2sp.org/static-ct-api); `url` is its monitoring prefix. */
export function staticLog(url: string, key: LogKey, transport: LogTransport): TransparencyLog {
  /** A tile that is partial at this size may be whole by now, and the partial one gone. */
  const tile = async (place: string, index: number, width: number, signal: AbortSignal): Promise<Buffer> => {
    const path = `tile/${place}/${tilePath(index)}`;
    if (width === WIDTH) return transport(path, signal);
    try {
      return await transport(`${path}.p/${width}`, signal);
    } catch (thrown) {
      if (thrown instanceof Fault && thrown.code === CODE_NOT_THERE) return transport(path, signal);
      throw thrown;
    }
  };
  const hashes = async (level: number, index: number, width: number, signal: AbortSignal): Promise<Uint8Array[]> => {
    const bytes = await tile(String(level), index, width, signal);
    if (bytes.length < width * HASH_BYTES) throw malformed("a tile that is too short");
    return Array.from({ length: width }, (_, i) => bytes.subarray(i * HASH_BYTES, (i + 1) * HASH_BYTES));
  };
  return {
    url,
    head: async (signal) => readCheckpoint((await transport("checkpoint", signal)).toString("utf8"), key),
    treeAt: async ({ size }: TreeHead, signal) => {
      const peaks: Uint8Array[] = [];
      for (let level = LEVELS - 1; level >= 0; level--) {
        const width = Math.floor(size / WIDTH ** level) % WIDTH;
        if (width === 0) continue;
        const part = new MerkleTree();
        const index = Math.floor(size / WIDTH ** (level + 1));
        for (const hash of await hashes(level, index, width, signal)) part.append(hash);
        peaks.push(...part.peaks);
      }
      return new MerkleTree(size, peaks);
    },
    leaves: async (from, { size }, signal) => {
      const index = Math.floor(from / WIDTH);
      const width = Math.min(size - index * WIDTH, WIDTH);
      const leaves = readDataTile(await tile("data", index, width, signal));
      if (leaves.length < width) throw malformed("a tile that is too short");
      return leaves.slice(from % WIDTH, width);
    },
  };
}

/** 1234067 is `x001/x234/067`. */
export function tilePath(index: number): string {
  const parts = [String(index % 1000).padStart(3, "0")];
  for (let rest = Math.floor(index / 1000); rest > 0; rest = Math.floor(rest / 1000))
    parts.unshift(`x${String(rest % 1000).padStart(3, "0")}`);
  return parts.join("/");
}
