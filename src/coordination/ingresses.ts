import { type AddressRange, formatRange, joinedRanges, parseRanges } from "../wire/address-set.ts";
import {
  CLAIMS,
  claimSerial,
  claimsOf as claimsToldIn,
  grantedDomains,
  grantedPorts,
  LEASES,
  leasablePorts,
  type PortRange,
} from "../wire/claims.ts";
import {
  DOOR_REQUIRED,
  FUNNEL_ATTRIBUTE,
  funnelPortsKey,
  INGRESS_ADDRESSES,
  INGRESS_CAPABILITY,
  PUBLIC_NAMES,
  type PublicNameClaim,
  RELAY_ATTRIBUTE,
} from "../wire/funnel.ts";
import type { CapMap, FilterRule, Hostinfo, Node } from "../wire/tailcfg.ts";
import { siteRulesOf, VISITOR_RULES } from "../wire/visitor-rules.ts";
import { type Claimant, Claims, type Holders } from "./claims.ts";
import { isExpired, nameOf } from "./node-view.ts";
import { PublicNameSet } from "./public-name-set.ts";
import type { NodeRecord } from "./records.ts";

/** What relays listen on where nobody says otherwise, as hosted. */
export const FUNNEL_PORTS: readonly number[] = [443, 8443, 10000];

export interface IngressFacts {
  readonly nodes: Iterable<NodeRecord>;
  /** What the policy's `nodeAttrs` give a node. */
  readonly attributesOf: (node: NodeRecord) => CapMap;
  readonly baseDomain: string;
  readonly ports: readonly number[];
  /** Where visitors come in, as far as it was said. */
  readonly relayAddresses?: readonly string[];
  /** A relay by the server's own word, whatever the policy says. */
  readonly isAppointed?: (node: NodeRecord) => boolean;
  readonly wall: number;
  /** Who held which domain and raw port until now: he keeps it. */
  readonly before: Holders;
  /** What he keeps only until another node asks. */
  readonly released?: ReadonlySet<string>;
  /** Names of the server itself, which no policy gives to a node. @default none */
  readonly reserved?: readonly string[];
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
  /** Own domains and raw ports. */
  readonly claims: Claims;
  /** Nodes that may not be public: the policy demands doors of them, and they know none (stock clients). */
  readonly #doorless: Set<number> = new Set();
  #names: PublicNameSet | undefined;

  constructor(facts: IngressFacts) {
    this.#facts = facts;
    const relays = new Map<number, NodeRecord>();
    const wired = new Map<number, NodeRecord>();
    const claimants: Claimant[] = [];
    const leasable: PortRange[] = [];
    for (const node of facts.nodes) {
      if (node.gateways !== undefined || node.isUnapproved === true) continue;
      const attributes = facts.attributesOf(node);
      const isOver = isExpired(node, facts.wall);
      if (DOOR_REQUIRED in attributes && node.hostinfo.SallyportDoors !== true) this.#doorless.add(node.id);
      if (RELAY_ATTRIBUTE in attributes || facts.isAppointed?.(node) === true) {
        if (isOver) continue;
        relays.set(node.id, node);
        leasable.push(...leasablePorts(node.hostinfo));
      } else if (wishOf(node.hostinfo) !== undefined) {
        const mayBePublic = FUNNEL_ATTRIBUTE in attributes && !this.#doorless.has(node.id);
        if (mayBePublic && !isOver) wired.set(node.id, node);
        // Whose key is over keeps what it holds, until it comes back or is removed: nothing moves by itself.
        const names = mayBePublic ? grantedDomains(attributes) : [];
        const ports = mayBePublic ? grantedPorts(attributes) : [];
        claimants.push({ id: node.id, claims: claimsToldIn(node.hostinfo), names, ports });
      }
    }
    const { baseDomain, before, released = new Set(), reserved = [] } = facts;
    this.claims = new Claims({ claimants, leasable, baseDomain, before, released, reserved });
    this.relays = relays;
    this.wired = wired;
    this.#addresses = [...relays.values()].flatMap(({ ipv4, ipv6 }) => [ipv4, ipv6]);
    this.#holes = this.#addresses.flatMap((text) => parseRanges(text) ?? []);
  }

  isRelay({ id }: NodeRecord): boolean {
    return this.relays.has(id);
  }

  /** Whom `viewer` knows beside those that the policy lets it know. */
  visibleTo(viewer: NodeRecord): readonly number[] {
    if (this.relays.has(viewer.id)) return [...this.wired.keys()];
    return this.wired.has(viewer.id) ? [...this.relays.keys()] : [];
  }

  /** `view` of `node`, with what `viewer` must know for a delivery: the same object for the same view. */
  shown(view: Node, node: NodeRecord, viewer: NodeRecord): Node {
    const isDelivery = this.relays.has(viewer.id) ? this.wired.has(node.id) : this.relays.has(node.id);
    if (!isDelivery) return view;
    let shown = this.#shown.get(view);
    if (shown === undefined) {
      shown = this.relays.has(node.id)
        ? { ...view, UnsignedPeerAPIOnly: true } // what a stock client takes for "nothing else, whatever its filter says"
        : { ...view, CapMap: { ...view.CapMap, [PUBLIC_NAMES]: this.#ruledClaimsOf(node), ...this.#leasesOf(node) } };
      this.#shown.set(view, shown);
    }
    return shown;
  }

  /** The names that lead to `node` now. */
  claimsOf(node: NodeRecord): readonly PublicNameClaim[] {
    if (!this.wired.has(node.id) || wishOf(node.hostinfo) !== "on") return [];
    const { baseDomain, ports } = this.#facts;
    const own = this.claims.namesOf(node.id).map((name) => ({ name, ports }));
    return [{ name: nameOf(node, baseDomain), ports }, ...own];
  }

  /**
   * Of them those that it says are public, so that the others are as unknown as if there were none (FN-3). Its own name leads to
   * its raw ports as well, whatever else is public.
   */
  #openClaimsOf(node: NodeRecord): readonly PublicNameClaim[] {
    const { publicSites } = node;
    const claims = this.claimsOf(node);
    if (publicSites === undefined) return claims;
    const sites = new Set(publicSites);
    const [own] = claims;
    const isLessee = this.claims.portsOf(node.id).length > 0;
    return claims
      .map((claim) => ({ ...claim, ports: claim.ports.filter((port) => sites.has(`${claim.name}:${port}`)) }))
      .filter(({ name, ports }) => ports.length > 0 || (isLessee && name === own?.name));
  }

  /** The same with what the node asks for its visitors, and what is not its own: for relays alone. */
  #ruledClaimsOf(node: NodeRecord): readonly PublicNameClaim[] {
    const { visitorRules = [] } = node;
    const leased = this.claims.portsOf(node.id); // they are delivered under its own name
    return this.#openClaimsOf(node).map((claim) => {
      // Of no other ports: what is said of a wildcard is told with each of hundreds of names below it.
      const rules = siteRulesOf(visitorRules, claim.name, [...claim.ports, ...leased]);
      const except = this.claims.heldBelow(claim.name, node.id);
      return { ...claim, ...(rules.length === 0 ? {} : { rules }), ...(except.length === 0 ? {} : { except }) };
    });
  }

  #leasesOf(node: NodeRecord): CapMap {
    const ports = wishOf(node.hostinfo) === "on" ? this.claims.portsOf(node.id) : [];
    return ports.length === 0 ? {} : { [LEASES]: ports.map((port) => ({ port })) };
  }

  /** Every name of the mesh's public zone that leads to the relays: what is public, and their own, for aliases of own domains. */
  get publicNames(): PublicNameSet {
    const { baseDomain } = this.#facts;
    this.#names ??= new PublicNameSet([
      ...[...this.relays.values()].map((node) => ({ name: nameOf(node, baseDomain), except: [] })),
      ...[...this.wired.values()].flatMap((node) =>
        this.#openClaimsOf(node).map(({ name }) => ({ name, except: this.claims.heldBelow(name, node.id) })),
      ),
    ]);
    return this.#names;
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

  /** Is `funnel` kept from this node because it knows no doors? */
  isDoorless(id: number): boolean {
    return this.#doorless.has(id);
  }

  /** What the policy's `funnel` stands for on the wire (control-protocol §6.2), and what became of what the node claims. */
  attributes(attributes: CapMap, id: number): CapMap {
    if (!(FUNNEL_ATTRIBUTE in attributes)) return attributes;
    if (this.#doorless.has(id)) {
      const { [FUNNEL_ATTRIBUTE]: _, ...others } = attributes;
      return others;
    }
    const node = this.wired.get(id);
    const names = node === undefined ? {} : { [PUBLIC_NAMES]: this.claimsOf(node) };
    const serial = node === undefined ? undefined : claimSerial(node.hostinfo);
    const answers = this.claims.answersFor(id);
    const claims = { [CLAIMS]: serial === undefined ? answers : [...answers, { serial }] };
    const { ports, relayAddresses = [] } = this.#facts;
    const places = relayAddresses.length === 0 ? {} : { [INGRESS_ADDRESSES]: relayAddresses };
    return { ...attributes, [funnelPortsKey(ports)]: null, [VISITOR_RULES]: null, ...places, ...claims, ...names };
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
