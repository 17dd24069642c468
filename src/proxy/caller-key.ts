import type { Proof } from "../base/conn.ts";

/** Who is counted as one caller: a node, a visitor's address behind its ingress, an address. */
export function callerKey(proof: Proof): string {
  switch (proof.kind) {
    case "mesh":
      return proof.nodeKey;
    case "ingress":
      return `${proof.nodeKey} ${proof.visitor.address}`;
    case "public":
      return proof.source.address;
  }
}
