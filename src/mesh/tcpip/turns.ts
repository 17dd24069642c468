interface Member {
  /** Whose packets it carries. */
  readonly seenPeer: number;
  isScheduled: boolean;
}

/** So many of one peer are served before others have their turn. */
const QUOTA = 8;
/** Queues of peers that may all be gone. */
const MOST_IDLE = 1024;

/** Who wants to be served, peer by peer: one with thousands of connections waits for itself, not others for it. */
export class Turns<T extends Member> {
  /** By peer, and they stay when they are empty. */
  readonly #queues: Map<number, T[]> = new Map();
  /** Those with somebody in them. */
  #waiting: T[][] = [];

  get isEmpty(): boolean {
    return this.#waiting.length === 0;
  }

  add(member: T): void {
    if (member.isScheduled) return;
    member.isScheduled = true;
    const queue = this.#queueOf(member.seenPeer);
    if (queue.push(member) === 1) this.#waiting.push(queue);
  }

  #queueOf(peer: number): T[] {
    const known = this.#queues.get(peer);
    if (known !== undefined) return known;
    if (this.#queues.size >= MOST_IDLE && this.isEmpty) this.#queues.clear();
    const queue: T[] = [];
    this.#queues.set(peer, queue);
    return queue;
  }

  /** The next ones, some of each peer. */
  next(): readonly T[] {
    const turn: T[] = [];
    const queues = this.#waiting;
    this.#waiting = [];
    for (const queue of queues) {
      if (queue.length <= QUOTA) {
        for (const member of queue) turn.push(member);
        queue.length = 0;
      } else {
        for (const member of queue.splice(0, QUOTA)) turn.push(member);
        this.#waiting.push(queue);
      }
    }
    return turn;
  }
}
