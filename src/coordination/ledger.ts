import type { AuthKey, Change, CoordinationState, NodeRecord, RestingAddress, User } from "./records.ts";
import type { CoordinationStore } from "./store/coordination-store.ts";

/** The state in memory, always equal to what the store has committed. Writers go one after another. */
export class Ledger {
  readonly users: Map<number, User>;
  readonly authKeys: Map<string, AuthKey>;
  readonly nodes: Map<number, NodeRecord>;
  readonly resting: Map<string, RestingAddress>;
  readonly settings: Map<string, string>;
  readonly #byNodeKey: Map<string, number> = new Map();
  readonly #byName: Map<string, number> = new Map();
  readonly #byIpv4: Map<string, number> = new Map();
  readonly #store: CoordinationStore;
  #tail: Promise<unknown> = Promise.resolve();

  private constructor(store: CoordinationStore, state: CoordinationState) {
    this.#store = store;
    this.users = new Map(state.users.map((user) => [user.id, user]));
    this.authKeys = new Map(state.authKeys.map((key) => [key.id, key]));
    this.nodes = new Map();
    this.resting = new Map(state.resting.map((address) => [address.ipv4, address]));
    this.settings = new Map(state.settings);
    for (const node of state.nodes) this.#putNode(node);
  }

  static async open(store: CoordinationStore): Promise<Ledger> {
    return new Ledger(store, await store.load());
  }

  nodeByKey(nodeKey: string): NodeRecord | undefined {
    return this.#node(this.#byNodeKey.get(nodeKey));
  }

  nodeByName(name: string): NodeRecord | undefined {
    return this.#node(this.#byName.get(name));
  }

  isAddressUsed(ipv4: string): boolean {
    return this.#byIpv4.has(ipv4);
  }

  userByLogin(login: string): User | undefined {
    for (const user of this.users.values()) if (user.login === login) return user;
    return undefined;
  }

  /** Runs `write` when every earlier one is done. */
  exclusive<T>(write: () => Promise<T>): Promise<T> {
    const result = this.#tail.then(write);
    this.#tail = result.catch(() => undefined);
    return result;
  }

  /** Only inside `exclusive`: durable first, visible after. */
  async commit(changes: readonly Change[]): Promise<void> {
    if (changes.length === 0) return;
    await this.#store.commit(changes);
    for (const change of changes) this.#apply(change);
  }

  #apply(change: Change): void {
    if ("append" in change) return;
    if ("use" in change) {
      const key = this.authKeys.get(change.id);
      if (key !== undefined) this.authKeys.set(key.id, { ...key, uses: key.uses + 1, lastUsed: change.at });
    } else if ("remove" in change) {
      if (change.remove === "resting") this.resting.delete(change.ipv4);
      else if (change.remove === "authKey") this.authKeys.delete(change.id);
      else if (change.remove === "user") this.users.delete(change.id);
      else this.#dropNode(change.id);
    } else if (change.put === "setting") this.settings.set(change.name, change.value);
    else if (change.put === "resting") this.resting.set(change.value.ipv4, change.value);
    else if (change.put === "authKey") this.authKeys.set(change.value.id, change.value);
    else if (change.put === "user") this.users.set(change.value.id, change.value);
    else this.#putNode(change.value);
  }

  #putNode(node: NodeRecord): void {
    this.#dropNode(node.id);
    this.nodes.set(node.id, node);
    this.#byNodeKey.set(node.nodeKey, node.id);
    this.#byName.set(node.name, node.id);
    this.#byIpv4.set(node.ipv4, node.id);
  }

  #dropNode(id: number): void {
    const node = this.nodes.get(id);
    if (node === undefined) return;
    this.nodes.delete(id);
    this.#byNodeKey.delete(node.nodeKey);
    this.#byName.delete(node.name);
    this.#byIpv4.delete(node.ipv4);
  }

  #node(id: number | undefined): NodeRecord | undefined {
    return id === undefined ? undefined : this.nodes.get(id);
  }
}
