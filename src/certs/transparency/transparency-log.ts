import type { Leaf } from "./log-entry.ts";
import type { MerkleTree } from "./merkle-tree.ts";
import type { TreeHead } from "./tree-head.ts";

/** One log, as it can be read. All throw Fault CERT_TRANSPARENCY_…, and nothing is believed but the head's signature. */
export interface TransparencyLog {
  /** As the operator wrote it. */
  readonly url: string;
  head(signal: AbortSignal): Promise<TreeHead>;
  /** What the tree of this head is made of; its root is the caller's to compare. */
  treeAt(head: TreeHead, signal: AbortSignal): Promise<MerkleTree>;
  /** Some leaves from `from` on, at least one and none from `head.size` on. */
  leaves(from: number, head: TreeHead, signal: AbortSignal): Promise<readonly Leaf[]>;
}
