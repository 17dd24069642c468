import type { PublicName } from "./public-names.ts";

/** A raw public port, and the node that it leads to: under the node's own name, on that one port. */
export interface Lease extends PublicName {
  readonly port: number;
}

/** Every leased port, each with one holder: the first, and who held it in `before` was first (FN-14). */
export class LeaseTable {
  readonly #byPort: Map<number, Lease> = new Map();
  readonly conflicts: readonly Lease[];

  constructor(leases: Iterable<Lease>, before?: LeaseTable) {
    const conflicts: Lease[] = [];
    for (const lease of leases) {
      const held = this.#byPort.get(lease.port);
      const isOlder = held !== undefined && before?.find(lease.port)?.owner === lease.owner;
      if (held === undefined || isOlder) this.#byPort.set(lease.port, lease);
      if (held !== undefined) conflicts.push(isOlder ? held : lease);
    }
    this.conflicts = conflicts;
  }

  find(port: number): Lease | undefined {
    return this.#byPort.get(port);
  }

  get ports(): readonly number[] {
    return [...this.#byPort.keys()];
  }
}
