import type { Clock } from "../base/clock.ts";
import type { Node } from "../wire/tailcfg.ts";

/** A node that answers is asked again so much later. */
const AGAIN_MS = 10_000;
const MOST_ASKED = 4096;

export interface LifeSignsOptions {
  /** Settles when the node has answered by the tunnel, fails when it does not. */
  readonly ask: (node: Node) => Promise<unknown>;
  /** Another node is known to live, or one does not answer any more. */
  readonly changed: () => void;
  readonly clock: Clock;
}

/** Nodes that the server does not hear of, and we do: it is their way to the server that is broken, not ours to them. */
export class LifeSigns {
  readonly #options: LifeSignsOptions;
  /** By stable id. */
  readonly #away: Map<string, Away> = new Map();
  #isClosed = false;

  constructor(options: LifeSignsOptions) {
    this.#options = options;
  }

  has({ StableID }: Node): boolean {
    return this.#away.get(StableID)?.isAlive === true;
  }

  /** `nodes`: those that the server says are away. Each is asked, until it does not answer or is back. */
  set(nodes: readonly Node[]): void {
    const away = new Set(nodes.map(({ StableID }) => StableID));
    for (const id of this.#away.keys()) if (!away.has(id)) this.#away.delete(id);
    for (const node of nodes) {
      if (this.#away.has(node.StableID) || this.#away.size >= MOST_ASKED) continue;
      const away: Away = { node, isAlive: false };
      this.#away.set(node.StableID, away);
      this.#ask(away);
    }
  }

  #ask(away: Away): void {
    const { ask, clock } = this.#options;
    ask(away.node).then(
      () => {
        this.#note(away, true);
        clock.at(clock.now() + AGAIN_MS, () => {
          if (this.#isWaited(away)) this.#ask(away);
        });
      },
      () => this.#note(away, false),
    );
  }

  #note(away: Away, isAlive: boolean): void {
    if (!this.#isWaited(away) || away.isAlive === isAlive) return;
    away.isAlive = isAlive;
    this.#options.changed();
  }

  /** It is not back, nor gone, nor back and away again. */
  #isWaited(away: Away): boolean {
    return !this.#isClosed && this.#away.get(away.node.StableID) === away;
  }

  close(): void {
    this.#isClosed = true;
  }
}

interface Away {
  readonly node: Node;
  isAlive: boolean;
}
