import type { Node } from "../wire/tailcfg.ts";

/** Every node has tried to come back by then: its longest pause (`src/mesh/control/backoff.ts`, upstream util/backoff). */
const RETURN_MS = 45_000;

/**
 * Which nodes are here. A server that was restarted takes everybody for away until he has come back to it, and an ingress
 * may be the first to come: who was here when our map stream broke is believed to be so for a while, or a public name would be
 * away whose node has never been.
 */
export class Presence {
  #here: ReadonlySet<string> = new Set();
  /** Stable ids of nodes that the server has not seen since the break. */
  #doubted: ReadonlySet<string> = new Set();
  #until: number = Number.NEGATIVE_INFINITY;

  /** The map stream is broken. */
  broke(): void {
    if (this.#until === Number.POSITIVE_INFINITY) return;
    this.#doubted = new Set(this.#here);
    this.#until = Number.POSITIVE_INFINITY;
  }

  /** It is back. Gives when to look anew at who is here; undefined: nobody is in doubt. */
  back(now: number): number | undefined {
    if (this.#until !== Number.POSITIVE_INFINITY) return undefined;
    this.#until = now + RETURN_MS;
    return this.#until;
  }

  /** By what the server says, and who is still believed to be here. */
  read(peers: Iterable<Node>, now: number): (node: Node) => boolean {
    const here = new Set<string>();
    const doubted = new Set<string>();
    for (const { StableID, Online } of peers) {
      const isDoubted = Online === false && now < this.#until && this.#doubted.has(StableID);
      if (isDoubted) doubted.add(StableID);
      if (isDoubted || Online !== false) here.add(StableID);
    }
    this.#here = here;
    this.#doubted = doubted;
    return ({ StableID }) => here.has(StableID);
  }
}
