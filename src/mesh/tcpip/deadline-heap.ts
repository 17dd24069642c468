export interface Timed {
  /** When it wants to be polled. */
  deadline: number;
  /** Owned by the heap: the key it is filed under, and where. -1: not filed. */
  heapKey: number;
  heapIndex: number;
}

/**
 * Whom to poll first. A deadline that moved later stays filed under its old key until that comes up, because timers of
 * a busy connection are pushed back with each acknowledgment and nearly never run.
 */
export class DeadlineHeap<T extends Timed> {
  readonly #items: T[] = [];

  /** A lower bound of the earliest deadline. */
  get next(): number {
    return this.#items[0]?.heapKey ?? Infinity;
  }

  get size(): number {
    return this.#items.length;
  }

  /** Call whenever `item.deadline` may have become earlier. */
  update(item: T): void {
    if (item.deadline === Infinity && item.heapIndex < 0) return;
    if (item.heapIndex < 0) {
      item.heapKey = item.deadline;
      item.heapIndex = this.#items.length;
      this.#items.push(item);
      this.#up(item.heapIndex);
    } else if (item.deadline < item.heapKey) {
      item.heapKey = item.deadline;
      this.#up(item.heapIndex);
    }
  }

  remove(item: T): void {
    const index = item.heapIndex;
    if (index < 0) return;
    item.heapIndex = -1;
    const last = this.#items.pop()!;
    if (last === item) return;
    this.#items[index] = last;
    last.heapIndex = index;
    this.#up(index);
    this.#down(last.heapIndex);
  }

  /** Takes one item that is due, or `undefined`. It is no longer filed: call `update` again. */
  takeDue(now: number): T | undefined {
    for (let item = this.#items[0]; item !== undefined && item.heapKey <= now; item = this.#items[0]) {
      if (item.deadline <= now) {
        this.remove(item);
        return item;
      }
      if (item.deadline === Infinity) {
        this.remove(item);
        continue;
      }
      item.heapKey = item.deadline;
      this.#down(0);
    }
    return undefined;
  }

  #up(from: number): void {
    const items = this.#items;
    const item = items[from]!;
    let index = from;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (items[parent]!.heapKey <= item.heapKey) break;
      items[index] = items[parent]!;
      items[index]!.heapIndex = index;
      index = parent;
    }
    items[index] = item;
    item.heapIndex = index;
  }

  #down(from: number): void {
    const items = this.#items;
    const item = items[from]!;
    let index = from;
    for (let child = 2 * index + 1; child < items.length; child = 2 * index + 1) {
      if (child + 1 < items.length && items[child + 1]!.heapKey < items[child]!.heapKey) child++;
      if (items[child]!.heapKey >= item.heapKey) break;
      items[index] = items[child]!;
      items[index]!.heapIndex = index;
      index = child;
    }
    items[index] = item;
    item.heapIndex = index;
  }
}
