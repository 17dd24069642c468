import { type AddressRange, formatRange, joinedRanges, parseRanges } from "../wire/address-set.ts";
import {
  FUNNEL_ATTRIBUTE,
  funnelPortsKey,
  INGRESS_CAPABILITY,
  PUBLIC_NAMES,
  type PublicNameClaim,
  RELAY_ATTRIBUTE,
} from "../wire/funnel.ts";
import type { CapMap, FilterRule, Hostinfo, Node } from "../wire/tailcfg.ts";
import { isExpired, nameOf } from "./node-view.ts";
import type { NodeRecord } from "./records.ts";

/** What relays listen on where nobody says otherwise, as hosted. */
export const FUNNEL_PORTS: readonly number[] = [443, 8443, 10000];

export interface IngressFacts {
  readonly nodes: Iterable<NodeRecord>;
  /** What the policy's `nodeAttrs` give a node. */
  readonly attributesOf: (node: NodeRecord) => CapMap;
  readonly baseDomain: string;
  readonly ports: readonly number[];
  readonly wall: number;
}

/**
 * Funnel as the server sees it (docs/design/0004-funnel.md): who relays visitors, who may be visited, and under which
 * names. A relay is no member of the mesh like others: the policy says nothing about it, it sees the nodes that want
 * visitors and nobody else, and all it may do with them is deliver (FN-11).
 */
export class Ingresses {
  /** Nodes that relay, by id. */
  readonly relays: ReadonlyMap<number, NodeRecord>;
  /** Nodes that want visitors now or have said that they may, by id. */
  readonly wired: ReadonlyMap<number, NodeRecord>;
  readonly #facts: IngressFacts;
  readonly #addresses: readonly string[];
  readonly #holes: readonly AddressRange[];
  readonly #shown: WeakMap<Node, Node> = new WeakMap();

  constructor(facts: IngressFacts) {
    this.#facts = facts;
    const relays = new Map<number, NodeRecord>();
    const wired = new Map<number, NodeRecord>();
    for (const node of facts.nodes) {
      if (node.gateways !== undefined || node.isUnapproved === true || isExpired(node, facts.wall)) continue;
      const attributes = facts.attributesOf(node);
      if (RELAY_ATTRIBUTE in attributes) relays.set(node.id, node);
      else if (FUNNEL_ATTRIBUTE in attributes && wishOf(node.hostinfo) !== undefined) wired.set(node.id, node);
    }
    this.relays = relays;
    this.wired = wired;
    this.#addresses = [...relays.values()].flatMap(({ ipv4, ipv6 }) => [ipv4, ipv6]);
    this.#holes = this.#addresses.flatMap((text) => parseRanges(text) ?? []);
  }

  isRelay({ id }: NodeRecord): boolean {
    return this.relays.has(id);
  }

  /** Whom `viewer` knows beside those that the policy lets it know. */
  visibleTo(viewer: NodeRecord): readonly NodeRecord[] {
    if (this.relays.has(viewer.id)) return [...this.wired.values()];
    return this.wired.has(viewer.id) ? [...this.relays.values()] : [];
  }

  /** `view` of `node`, with what `viewer` must know for a delivery: the same object for the same view. */
  shown(view: Node, node: NodeRecord, viewer: NodeRecord): Node {
    const isDelivery = this.relays.has(viewer.id) ? this.wired.has(node.id) : this.relays.has(node.id);
    if (!isDelivery) return view;
    let shown = this.#shown.get(view);
    if (shown === undefined) {
      shown = this.relays.has(node.id)
        ? { ...view, UnsignedPeerAPIOnly: true } // what a stock client takes for "nothing else, whatever its filter says"
        : { ...view, CapMap: { ...view.CapMap, [PUBLIC_NAMES]: this.claimsOf(node) } };
      this.#shown.set(view, shown);
    }
    return shown;
  }

  /** The names under which `node` is public now. */
  claimsOf(node: NodeRecord): readonly PublicNameClaim[] {
    if (!this.wired.has(node.id) || wishOf(node.hostinfo) !== "on") return [];
    return [{ name: nameOf(node, this.#facts.baseDomain), ports: this.#facts.ports }];
  }

  /** Every public name of the mesh, for its public zone. */
  publicNames(): readonly string[] {
    return [...this.wired.values()].flatMap((node) => this.claimsOf(node).map(({ name }) => name));
  }

  /** The policy's rules for `node` without the relays among their sources, and the one right that they have. */
  filter(rules: readonly FilterRule[], node: NodeRecord): readonly FilterRule[] {
    if (this.relays.has(node.id)) return [];
    if (!this.wired.has(node.id) || this.relays.size === 0) return rules;
    const others = rules.map((rule) => ({ ...rule, SrcIPs: this.#withoutRelays(rule.SrcIPs) }));
    const delivery: FilterRule = {
      SrcIPs: this.#addresses,
      CapGrant: [{ Dsts: [`${node.ipv4}/32`, `${node.ipv6}/128`], CapMap: { [INGRESS_CAPABILITY]: [] } }],
    };
    return [...others.filter(({ SrcIPs }) => SrcIPs.length > 0), delivery];
  }

  #withoutRelays(sources: readonly string[]): readonly string[] {
    return sources.flatMap((text) => {
      const ranges = parseRanges(text);
      if (ranges === undefined) return [text];
      const left = without(ranges, this.#holes);
      return left === ranges ? [text] : left.map(formatRange);
    });
  }

  /** What the policy's `funnel` stands for on the wire (control-protocol §6.2). */
  attributes(attributes: CapMap): CapMap {
    if (!(FUNNEL_ATTRIBUTE in attributes)) return attributes;
    return { ...attributes, [funnelPortsKey(this.#facts.ports)]: null };
  }
}

/** What a node says of visitors: `on`, it wants them; `off`, it may want them soon (control-protocol §6.3). */
export function wishOf({ IngressEnabled, WireIngress }: Hostinfo): "on" | "off" | undefined {
  if (IngressEnabled === true) return "on";
  return WireIngress === true ? "off" : undefined;
}

/** `ranges` itself where no hole lies in it. */
function without(ranges: readonly AddressRange[], holes: readonly AddressRange[]): readonly AddressRange[] {
  let left = ranges;
  for (const hole of holes) {
    if (!left.some(({ bits, low, high }) => bits === hole.bits && low <= hole.high && hole.low <= high)) continue;
    left = left.flatMap((range) => {
      const { bits, low, high } = range;
      if (bits !== hole.bits || hole.high < low || high < hole.low) return [range];
      const below = low < hole.low ? [{ bits, low, high: hole.low - 1n }] : [];
      return high > hole.high ? [...below, { bits, low: hole.high + 1n, high }] : below;
    });
  }
  return left === ranges ? ranges : joinedRanges(left);
}
