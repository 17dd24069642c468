import { parsePrefix } from "../../base/address.ts";
import { type AddressRange, AddressSet, joinedRanges, parseRanges, rangeOfPrefix } from "../../wire/address-set.ts";
import type { PolicyNode } from "../policy-engine.ts";
import { type Compilation, isInternet } from "./compile.ts";
import type { Grant } from "./document.ts";
import { ownOf } from "./own-ranges.ts";
import { overlap } from "./ranges.ts";
import { isExitNode } from "./resolve.ts";

/** Who may reach a node: one object for all nodes that let in the same. */
interface Admitted {
  readonly ranges: readonly AddressRange[];
  readonly set: AddressSet;
  /** What was found out about single nodes. */
  readonly known: Map<PolicyNode, boolean>;
  /** Those of all nodes that it lets in. */
  holders?: readonly PolicyNode[];
}

/** Whom each node must know of, by what the rules let it reach. */
export class Visibility {
  readonly #grants: readonly Grant[];
  readonly #nodes: readonly PolicyNode[];
  readonly #compilation: Compilation;
  readonly #exits: readonly PolicyNode[];
  readonly #admitted: Map<PolicyNode, Admitted> = new Map();
  readonly #admittedByKey: Map<string, Admitted> = new Map();
  #silent: readonly { readonly grant: Grant; readonly router: PolicyNode }[] | undefined;
  #groups: ReadonlyMap<Admitted, readonly PolicyNode[]> | undefined;

  constructor(grants: readonly Grant[], nodes: readonly PolicyNode[], compilation: Compilation) {
    this.#grants = grants;
    this.#nodes = nodes;
    this.#compilation = compilation;
    this.#exits = nodes.filter(isExitNode);
  }

  /** Ids of the nodes that some rule lets reach `node` or what it routes, or the other way round. */
  visibleTo(node: PolicyNode): ReadonlySet<number> {
    const seen = new Set<number>();
    for (const { id } of this.#holdersOf(this.#admittedBy(node))) seen.add(id);
    for (const [admitted, nodes] of this.#byAdmitted()) {
      if (this.#admits(admitted, node)) for (const { id } of nodes) seen.add(id);
    }
    for (const exit of this.#exits) {
      if (exit !== node && this.#exitsThrough(node, exit)) seen.add(exit.id);
      else if (exit === node) for (const other of this.#nodes) if (this.#exitsThrough(other, node)) seen.add(other.id);
    }
    for (const { grant, router } of this.#silentRouters()) {
      if (router === node)
        for (const other of this.#nodes) if (this.#compilation.isSource(grant, other)) seen.add(other.id);
      if (this.#compilation.isSource(grant, node)) seen.add(router.id);
    }
    seen.delete(node.id);
    return seen;
  }

  /** Capabilities that are steered by `via` make no rule, as the hosted service has it: they only show the router. */
  #silentRouters(): readonly { readonly grant: Grant; readonly router: PolicyNode }[] {
    this.#silent ??= this.#grants
      .filter((grant) => grant.app !== undefined && grant.via.length > 0 && grant.openings.length === 0)
      .flatMap((grant) =>
        this.#nodes.filter((node) => this.#carries(grant, node)).map((router) => ({ grant, router })),
      );
    return this.#silent;
  }

  #carries(grant: Grant, node: PolicyNode): boolean {
    return (
      grant.via.some((tag) => node.tags.includes(tag)) &&
      this.#compilation.destinations(grant.destinations, node, true).length > 0
    );
  }

  #admits({ known, set, ranges }: Admitted, from: PolicyNode): boolean {
    let isAdmitted = known.get(from);
    if (isAdmitted === undefined) {
      const { addresses, routes } = ownOf(from);
      isAdmitted =
        addresses.some((address) => set.has(address)) ||
        routes.some((range) => ranges.some((other) => overlap(range, other)));
      known.set(from, isAdmitted);
    }
    return isAdmitted;
  }

  #holdersOf(admitted: Admitted): readonly PolicyNode[] {
    admitted.holders ??= this.#nodes.filter((node) => this.#admits(admitted, node));
    return admitted.holders;
  }

  #byAdmitted(): ReadonlyMap<Admitted, readonly PolicyNode[]> {
    this.#groups ??= Map.groupBy(this.#nodes, (node) => this.#admittedBy(node));
    return this.#groups;
  }

  /** Those of `router`'s approved routes that `viewer` has a use for (control-protocol sheet 7.4). */
  routesFor(viewer: PolicyNode, router: PolicyNode): readonly string[] {
    const destinations = this.#openTo(viewer, router);
    for (const { grant, router: silent } of this.#silentRouters()) {
      if (silent === router && this.#compilation.isSource(grant, viewer))
        for (const text of this.#compilation.destinations(grant.destinations, router, true)) destinations.add(text);
    }
    const canExit = destinations.has("*") || this.#exitsThrough(viewer, router);
    const admitted = this.#admittedBy(viewer).ranges;
    return router.routes.filter((text) => {
      const prefix = parsePrefix(text);
      if (prefix === undefined) return false;
      if (prefix.bits === 0) return canExit;
      const route = [rangeOfPrefix(prefix)];
      return (
        destinations.values().some((destination) => overlapsAny(destination, route)) ||
        admitted.some((range) => overlap(range, route[0]!)) ||
        viewer.routes.includes(text)
      );
    });
  }

  /** Names of `host`'s services that some rule lets `viewer` reach. */
  servicesFor(viewer: PolicyNode, host: PolicyNode): readonly string[] {
    const destinations = this.#openTo(viewer, host);
    return Object.entries(host.services ?? {}).flatMap(([name, addresses]) => {
      const ranges = addresses.flatMap((address) => parseRanges(address) ?? []);
      return destinations.values().some((destination) => overlapsAny(destination, ranges)) ? [name] : [];
    });
  }

  /** What of `node` and behind it some rule opens to `viewer`. */
  #openTo(viewer: PolicyNode, node: PolicyNode): Set<string> {
    const { ranges, routes } = ownOf(viewer);
    const own = [...ranges, ...routes];
    const rules = this.#compilation
      .rulesFor(node)
      .filter((rule) => rule.DstPorts !== undefined && rule.SrcIPs.some((text) => overlapsAny(text, own)));
    return new Set(rules.flatMap((rule) => rule.DstPorts!.map(({ IP }) => IP)));
  }

  #admittedBy(node: PolicyNode): Admitted {
    let admitted = this.#admitted.get(node);
    if (admitted === undefined) {
      const lists = new Set(this.#compilation.rulesFor(node).map((rule) => rule.SrcIPs));
      const key = [...lists]
        .map((list) => this.#compilation.numberOf(list))
        .toSorted((a, b) => a - b)
        .join();
      admitted = this.#admittedByKey.get(key);
      if (admitted === undefined) {
        const texts = new Set([...lists].flat());
        const ranges = joinedRanges([...texts].flatMap((text) => parseRanges(text) ?? []));
        admitted = { ranges, set: new AddressSet(ranges), known: new Map() };
        this.#admittedByKey.set(key, admitted);
      }
      this.#admitted.set(node, admitted);
    }
    return admitted;
  }

  /** `autogroup:internet` makes no filter rule, only exit nodes visible. */
  #exitsThrough(from: PolicyNode, to: PolicyNode): boolean {
    if (!isExitNode(to)) return false;
    return this.#grants.some(
      (grant) =>
        grant.destinations.some(isInternet) &&
        (grant.via.length === 0 || grant.via.some((tag) => to.tags.includes(tag))) &&
        this.#compilation.isSource(grant, from),
    );
  }
}

function overlapsAny(text: string, ranges: readonly AddressRange[]): boolean {
  return (parseRanges(text) ?? []).some((range) => ranges.some((other) => overlap(range, other)));
}
