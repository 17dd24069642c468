/** A member's place in a `LinkedList`. */
export interface Link<T> {
  readonly value: T;
}

interface Node<T> extends Link<T> {
  previous: Node<T> | undefined;
  next: Node<T> | undefined;
  isIn: boolean;
}

/**
 * Members in the order in which they came. It stands in place of a `Set` where members come and go by the thousand a second:
 * V8 builds a set's table anew every so many members, and a table left behind in the old space keeps alive, until the next
 * full collection, whoever was in it. A link that is removed refers to nobody.
 */
export class LinkedList<T> {
  #first: Node<T> | undefined;
  #last: Node<T> | undefined;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** Who came before all others. */
  get first(): T | undefined {
    return this.#first?.value;
  }

  add(value: T): Link<T> {
    const previous = this.#last;
    const node: Node<T> = { value, previous, next: undefined, isIn: true };
    if (previous === undefined) this.#first = node;
    else previous.next = node;
    this.#last = node;
    this.#size++;
    return node;
  }

  /** `link` must be of this list. False: it was removed before. */
  remove(link: Link<T>): boolean {
    const node = link as Node<T>;
    if (!node.isIn) return false;
    const { previous, next } = node;
    if (previous === undefined) this.#first = next;
    else previous.next = next;
    if (next === undefined) this.#last = previous;
    else next.previous = previous;
    node.isIn = false;
    node.previous = undefined;
    node.next = undefined;
    this.#size--;
    return true;
  }

  /** Those who are in now, oldest first; whoever goes through them may remove any. */
  toArray(): T[] {
    const values: T[] = [];
    for (let node = this.#first; node !== undefined; node = node.next) values.push(node.value);
    return values;
  }
}
