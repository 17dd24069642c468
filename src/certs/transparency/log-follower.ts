import { Fault } from "../../base/fault.ts";
import type { Leaf } from "./log-entry.ts";
import { leafHash, MerkleTree, peakCount } from "./merkle-tree.ts";
import type { TransparencyLog } from "./transparency-log.ts";
import type { TreeHead } from "./tree-head.ts";

/** How far a log was read, as it is kept. Hashes are hex. */
export interface LogPlace {
  /** Absent: it is begun anew, with what it holds then. */
  readonly tree?: { readonly size: number; readonly peaks: readonly string[] };
  /** The head up to which is being read. */
  readonly target?: { readonly size: number; readonly timestamp: number; readonly root: string };
  /** It has shown entries that are not those of its tree, at this Unix ms. */
  readonly forkedAt?: number;
}

export interface FollowOptions {
  readonly signal: AbortSignal;
  readonly onLeaf: (index: number, leaf: Leaf) => void;
  /** Between two answers: keeps the place, and the log from being asked too fast. */
  readonly onStep: () => Promise<void>;
  readonly wall: () => number;
}

/**
 * Reads one log from where it was first seen to its newest head, every entry once, and lets it get away with nothing: what
 * it shows must hash to what it has signed.
 */
export class LogFollower {
  readonly log: TransparencyLog;
  #tree: MerkleTree | undefined;
  #target: TreeHead | undefined;
  #forkedAt: number | undefined;

  constructor(log: TransparencyLog, saved?: LogPlace) {
    this.log = log;
    if (saved === undefined) return;
    const { tree, target, forkedAt } = saved;
    this.#forkedAt = forkedAt;
    if (tree === undefined || tree.peaks.length !== peakCount(tree.size)) return;
    const hashes = tree.peaks.map((hex) => Buffer.from(hex, "hex"));
    this.#tree = new MerkleTree(tree.size, hashes);
    this.#target = target && { ...target, root: Buffer.from(target.root, "hex") };
  }

  get place(): LogPlace {
    const tree = this.#tree && { size: this.#tree.size, peaks: this.#tree.peaks.map(hexOf) };
    const target = this.#target && { ...this.#target, root: hexOf(this.#target.root) };
    const forkedAt = this.#forkedAt;
    return { ...(tree && { tree }), ...(target && { target }), ...(forkedAt !== undefined && { forkedAt }) };
  }

  get forkedAt(): number | undefined {
    return this.#forkedAt;
  }

  /** Entries that were signed and are not read yet. */
  get behind(): number {
    return this.#target === undefined ? 0 : this.#target.size - (this.#tree?.size ?? 0);
  }

  /** The head whose entries have all been read. @throws {Fault} CERT_TRANSPARENCY_… */
  async follow(options: FollowOptions): Promise<TreeHead> {
    const { signal, onLeaf, onStep } = options;
    const { log } = this;
    const head = this.#target ?? (await log.head(signal));
    if (this.#tree === undefined) {
      const begun = await log.treeAt(head, signal);
      this.#compare(begun, head, options);
      this.#tree = begun;
      return head;
    }
    const tree = this.#tree;
    if (head.size < tree.size) {
      // A front end that lags says nothing against the log, and nothing new either.
      throw new Fault("CERT_TRANSPARENCY_OLD", `Cannot go on with "${log.url}": it shows an old head`);
    }
    this.#target = head;
    while (tree.size < head.size) {
      const leaves = await log.leaves(tree.size, head, signal);
      for (const leaf of leaves.slice(0, head.size - tree.size)) {
        onLeaf(tree.size, leaf);
        tree.append(leafHash(leaf.bytes));
      }
      if (tree.size < head.size) await onStep();
    }
    this.#target = undefined;
    this.#compare(tree, head, options);
    return head;
  }

  #compare(tree: MerkleTree, { root }: TreeHead, { wall }: FollowOptions): void {
    if (Buffer.from(tree.root).equals(root)) return;
    this.#tree = undefined; // from now on again
    this.#forkedAt = wall();
    throw new Fault(
      "CERT_TRANSPARENCY_FORKED",
      `Cannot believe "${this.log.url}": its entries are not those that it has signed`,
      { hint: "The log hides something, or somebody between it and us does. Tell its operator." },
    );
  }
}

const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
