import fc from "fast-check";
import { expect, test } from "vitest";
import { auditPath, treeHash } from "../../../test/suites/transparency-log.ts";
import { leafHash, MerkleTree, peakCount } from "./merkle-tree.ts";

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const grown = (leaves: readonly Uint8Array[]): MerkleTree => {
  const tree = new MerkleTree();
  for (const leaf of leaves) tree.append(leafHash(leaf));
  return tree;
};

/** Of the reference implementation's tests (google/certificate-transparency, merkle_tree_test.cc), which every log repeats. */
const LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
const ROOTS = [
  "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
  "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
  "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
  "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
  "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
  "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
  "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
  "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

test.each(ROOTS.map((root, index) => [index + 1, root] as const))(
  "FN-12 the root of %i leaves, as published",
  (size, root) => {
    const leaves = LEAVES.slice(0, size).map((text) => Buffer.from(text, "hex"));
    expect(hex(grown(leaves).root)).toBe(root);
    expect(hex(treeHash(leaves))).toBe(root);
  },
);

test("FN-12 a tree of nothing", () => {
  expect(hex(new MerkleTree().root)).toBe("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
});

test("FN-12 property: however a tree was grown, taken down and begun from a proof, its root is that of RFC 6962", () => {
  const some = fc.array(fc.uint8Array({ maxLength: 4 }), { minLength: 1, maxLength: 70 });
  fc.assert(
    fc.property(some, fc.nat(), (leaves, cut) => {
      const at = cut % (leaves.length + 1);
      const first = grown(leaves.slice(0, at));
      expect(first.peaks).toHaveLength(peakCount(at));
      const again = new MerkleTree(first.size, first.peaks);
      for (const leaf of leaves.slice(at)) again.append(leafHash(leaf));
      expect(hex(again.root)).toBe(hex(treeHash(leaves)));
      expect(again.size).toBe(leaves.length);
      // The proof of the last leaf has the roots of all that is before it.
      const path = auditPath(leaves.length - 1, leaves);
      expect(path).toHaveLength(peakCount(leaves.length - 1));
      const begun = new MerkleTree(leaves.length - 1, path.toReversed());
      begun.append(leafHash(leaves.at(-1)!));
      expect(hex(begun.root)).toBe(hex(treeHash(leaves)));
    }),
    { numRuns: 200 },
  );
});
