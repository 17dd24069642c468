interface Member {
  /** Whose packets it carries. */
  readonly seenPeer: number;
  isScheduled: boolean;
}

/** So many of one peer are served before others have their turn. */
const QUOTA = 8;

/** Who wants to be served, peer by peer: one with thousands of connections waits for itself, not others for it. */
export class Turns<T extends Member> {
  readonly #queues: Map<number, T[]> = new Map();

  get isEmpty(): boolean {
    return this.#queues.size === 0;
  }

  add(member: T): void {
    if (member.isScheduled) return;
    member.isScheduled = true;
    const queue = this.#queues.get(member.seenPeer);
    if (queue === undefined) this.#queues.set(member.seenPeer, [member]);
    else queue.push(member);
  }

  /** The next ones, some of each peer. */
  next(): readonly T[] {
    const turn: T[] = [];
    for (const [peer, queue] of this.#queues) {
      if (queue.length <= QUOTA) {
        for (const member of queue) turn.push(member);
        this.#queues.delete(peer);
      } else for (const member of queue.splice(0, QUOTA)) turn.push(member);
    }
    return turn;
  }
}
