import type { NodeRecord } from "./records.ts";

const NO_ROUTES: readonly string[] = [];
const NOBODY: readonly number[] = [];

/** Who carries a route, of all that serve it: one, who keeps it while it is there. */
export class RouteElection {
  readonly #carriers: Map<string, number> = new Map();
  #routesOf: ReadonlyMap<number, readonly string[]> = new Map();
  /** Routes that several nodes serve → those, the one that carries it first. */
  #lines: ReadonlyMap<string, readonly number[]> = new Map();

  /** Nodes whose routes changed hands. `candidates`: route → all that serve it. */
  elect(
    candidates: ReadonlyMap<string, readonly NodeRecord[]>,
    isOnline: (nodeId: number) => boolean,
  ): readonly number[] {
    const before = this.#routesOf;
    const after = new Map<number, string[]>();
    const lines = new Map<string, readonly number[]>();
    for (const route of this.#carriers.keys()) if (!candidates.has(route)) this.#carriers.delete(route);
    for (const [route, nodes] of candidates) {
      const held = nodes.find(({ id }) => id === this.#carriers.get(route));
      const online = nodes.filter(({ id }) => isOnline(id)).toSorted((a, b) => a.id - b.id);
      const chosen = held !== undefined && (isOnline(held.id) || online.length === 0) ? held : (online[0] ?? nodes[0]!);
      this.#carriers.set(route, chosen.id);
      after.set(chosen.id, [...(after.get(chosen.id) ?? []), route].toSorted());
      if (nodes.length > 1) lines.set(route, inLine(chosen, online, nodes));
    }
    const touched = [...new Set([...before.keys(), ...after.keys()])];
    const changed = new Set(touched.filter((id) => String(before.get(id)) !== String(after.get(id))));
    for (const [route, line] of lines) {
      if (String(this.#lines.get(route)) !== String(line)) for (const id of line) changed.add(id);
    }
    this.#routesOf = after;
    this.#lines = lines;
    return [...changed];
  }

  routesOf(nodeId: number): readonly string[] {
    return this.#routesOf.get(nodeId) ?? NO_ROUTES;
  }

  carrierOf(route: string): number | undefined {
    return this.#carriers.get(route);
  }

  /** Empty where there is no choice. */
  lineOf(route: string): readonly number[] {
    return this.#lines.get(route) ?? NOBODY;
  }

  /** Does `nodeId` stand behind another one in some line? */
  isStandby(nodeId: number): boolean {
    return this.#lines.values().some((line) => line.includes(nodeId, 1));
  }
}

/** Who carries a route first, then who is there, then the rest. */
function inLine(chosen: NodeRecord, online: readonly NodeRecord[], all: readonly NodeRecord[]): readonly number[] {
  return [...new Set([chosen, ...online, ...all].map(({ id }) => id))];
}
