import { Fault } from "../../base/fault.ts";
import type { AuthKey, Change, CoordinationState, NodeRecord, OidcIdentity, RestingAddress, User } from "../records.ts";
import type { CoordinationStore, LogQuery, StoredLogEntry } from "./coordination-store.ts";

interface Tables {
  users: Map<number, User>;
  authKeys: Map<string, AuthKey>;
  nodes: Map<number, NodeRecord>;
  resting: Map<string, RestingAddress>;
  settings: Map<string, string>;
}

/** A store that forgets everything with the process; keeps the same promises as the others otherwise. */
export class MemoryCoordinationStore implements CoordinationStore {
  #tables: Tables = {
    users: new Map(),
    authKeys: new Map(),
    nodes: new Map(),
    resting: new Map(),
    settings: new Map(),
  };
  readonly #log: StoredLogEntry[] = [];
  #sequence = 0;
  #closed = false;

  async load(): Promise<CoordinationState> {
    this.#assertOpen();
    const { users, authKeys, nodes, resting, settings } = this.#tables;
    return {
      users: [...users.values()].toSorted((a, b) => a.id - b.id),
      authKeys: [...authKeys.values()].toSorted((a, b) => (a.id < b.id ? -1 : 1)),
      nodes: [...nodes.values()].toSorted((a, b) => a.id - b.id),
      resting: [...resting.values()],
      settings: new Map(settings),
    };
  }

  async commit(changes: readonly Change[]): Promise<void> {
    this.#assertOpen();
    const { users, authKeys, nodes, resting, settings } = this.#tables;
    const next: Tables = {
      users: new Map(users),
      authKeys: new Map(authKeys),
      nodes: new Map(nodes),
      resting: new Map(resting),
      settings: new Map(settings),
    };
    const entries: StoredLogEntry[] = [];
    for (const change of changes) {
      if ("append" in change) entries.push({ ...change.value, sequence: this.#sequence + entries.length + 1 });
      else apply(next, change);
    }
    this.#tables = next;
    this.#log.push(...entries);
    this.#sequence += entries.length;
  }

  async log({ limit, before = Infinity }: LogQuery): Promise<readonly StoredLogEntry[]> {
    this.#assertOpen();
    return this.#log
      .filter(({ sequence }) => sequence < before)
      .toReversed()
      .slice(0, limit);
  }

  async close(): Promise<void> {
    this.#closed = true;
  }

  #assertOpen(): void {
    if (this.#closed) {
      throw new Fault(
        "COORDINATION_STORE_CLOSED",
        "Cannot use the coordination store: it is closed, wanted an open one",
      );
    }
  }
}

function apply(tables: Tables, change: Exclude<Change, { append: "log" }>): void {
  if ("use" in change) {
    const key = tables.authKeys.get(change.id);
    if (key === undefined || (!key.reusable && key.uses > 0)) throw keyUsed(change.id);
    tables.authKeys.set(key.id, { ...key, uses: key.uses + 1, lastUsed: change.at });
  } else if ("remove" in change) {
    if (change.remove === "resting") tables.resting.delete(change.ipv4);
    else if (change.remove === "authKey") tables.authKeys.delete(change.id);
    else if (change.remove === "node") tables.nodes.delete(change.id);
    else removeUser(tables, change.id);
  } else if (change.put === "setting") tables.settings.set(change.name, change.value);
  else if (change.put === "resting") tables.resting.set(change.value.ipv4, change.value);
  else if (change.put === "authKey") {
    assertUser(tables, change.value.userId);
    tables.authKeys.set(change.value.id, change.value);
  } else if (change.put === "user") {
    const { value } = change;
    for (const other of tables.users.values()) {
      if (other.id === value.id) continue;
      if (other.login === value.login) throw conflict("login", value.login);
      const identity = identityKey(value.identity);
      if (identity !== undefined && identityKey(other.identity) === identity) throw conflict("identity", identity);
    }
    tables.users.set(value.id, value);
  } else putNode(tables, change.value);
}

function putNode(tables: Tables, value: NodeRecord): void {
  assertUser(tables, value.userId);
  for (const other of tables.nodes.values()) {
    if (other.id === value.id) continue;
    for (const column of ["nodeKey", "name", "ipv4", "ipv6"] as const) {
      if (other[column] === value[column]) throw conflict(column, value[column]);
    }
  }
  tables.nodes.set(value.id, value);
}

function removeUser(tables: Tables, id: number): void {
  for (const { userId } of [...tables.nodes.values(), ...tables.authKeys.values()]) {
    if (userId === id) throw conflict("user", String(id));
  }
  tables.users.delete(id);
}

function assertUser({ users }: Tables, id: number | undefined): void {
  if (id !== undefined && !users.has(id)) throw conflict("user", String(id));
}

/** Issuer and subject as one text that no other pair has. */
export function identityKey(identity: OidcIdentity | undefined): string | undefined {
  return identity === undefined ? undefined : JSON.stringify([identity.issuer, identity.subject]);
}

export function conflict(column: string, value: string): Fault {
  return new Fault(
    "COORDINATION_CONFLICT",
    `Cannot store ${column} "${value}": it is taken or in use, wanted one that is free`,
  );
}

export function keyUsed(id: string): Fault {
  return new Fault("COORDINATION_KEY_USED", `Cannot use auth key "${id}": it was used before, wanted one that was not`);
}
