import { type Leaf, malformed, readLeaf } from "./log-entry.ts";
import type { LogTransport } from "./log-transport.ts";
import { leafHash, MerkleTree, peakCount } from "./merkle-tree.ts";
import type { TransparencyLog } from "./transparency-log.ts";
import { type LogKey, readSignedTreeHead } from "./tree-head.ts";

const HASH_BYTES = 32;
const MOST_LEAVES = 512;

/** A log that answers requests (RFC 6962 section 4). */
export function rfc6962Log(url: string, key: LogKey, transport: LogTransport): TransparencyLog {
  const ask = async (path: string, query: Readonly<Record<string, string>>, signal: AbortSignal): Promise<Json> => {
    const text = (await transport(`ct/v1/${path}?${new URLSearchParams(query)}`, signal)).toString("utf8");
    try {
      return Object(JSON.parse(text)) as Json;
    } catch {
      throw malformed("an answer that is no JSON");
    }
  };
  const leaves = async (from: number, to: number, signal: AbortSignal): Promise<readonly Leaf[]> => {
    const { entries } = await ask("get-entries", { start: String(from), end: String(to) }, signal);
    if (!Array.isArray(entries) || entries.length === 0 || entries.length > to - from + 1)
      throw malformed("no entries");
    return entries.map((entry) => readLeaf(bytesOf((Object(entry) as Json)["leaf_input"])));
  };
  return {
    url,
    head: async (signal) => readSignedTreeHead(await ask("get-sth", {}, signal), key),
    leaves: (from, { size }, signal) => leaves(from, Math.min(size, from + MOST_LEAVES) - 1, signal),
    // The way from the last leaf to the root passes by the root of each perfect subtree before it (section 2.1.1).
    treeAt: async ({ size }, signal) => {
      if (size === 0) return new MerkleTree();
      const [last] = await leaves(size - 1, size - 1, signal);
      const hash = leafHash(last!.bytes);
      const asked = { hash: Buffer.from(hash).toString("base64"), tree_size: String(size) };
      const { leaf_index, audit_path } = await ask("get-proof-by-hash", asked, signal);
      const path = Array.isArray(audit_path) ? audit_path.map(bytesOf) : [];
      const isWhole = path.length === peakCount(size - 1) && path.every(({ length }) => length === HASH_BYTES);
      if (leaf_index !== size - 1 || !isWhole) throw malformed("no proof of its last entry");
      const tree = new MerkleTree(size - 1, path.toReversed());
      tree.append(hash);
      return tree;
    },
  };
}

type Json = Readonly<Record<string, unknown>>;

const bytesOf = (value: unknown): Uint8Array => Buffer.from(typeof value === "string" ? value : "", "base64");
