import { type AddressRange, formatRange, parseRanges } from "../../wire/address-set.ts";
import type { FilterRule, NetPortRange } from "../../wire/tailcfg.ts";
import type { PolicyNode } from "../policy-engine.ts";
import type { Grant } from "./document.ts";
import { ownOf } from "./own-ranges.ts";
import { meets, type Posture } from "./posture.ts";
import { covers, overlap, prefixesOf } from "./ranges.ts";
import { isTagged, MESH_SOURCES, names, subnetRoutes } from "./resolve.ts";
import { isSelf, type Names, type Selector } from "./selector.ts";

/** What the holders of a capability must learn about whom they hold it of: an empty capability the other way round. */
const COMPANIONS: Readonly<Record<string, string>> = {
  "tailscale.com/cap/drive": "tailscale.com/cap/drive-sharer",
  "tailscale.com/cap/relay": "tailscale.com/cap/relay-target",
};

export const isInternet = (selector: Selector): boolean =>
  selector.kind === "autogroup" && selector.name === "internet";

/** The grants of a policy against one set of nodes. Made anew when the nodes change. */
export class Compilation {
  readonly #grants: readonly Grant[];
  readonly #names: Names;
  readonly #nodes: readonly PolicyNode[];
  readonly #rules: Map<PolicyNode, readonly FilterRule[]> = new Map();
  readonly #sources: Map<readonly Selector[], readonly string[]> = new Map();
  readonly #ownSources: Map<Grant, ReadonlyMap<string, readonly string[]>> = new Map();
  /** Each list of sources once, with its number: a thousand nodes that let in the same share one. */
  readonly #lists: Map<string, readonly string[]> = new Map();
  readonly #numbers: Map<readonly string[], number> = new Map();

  constructor(grants: readonly Grant[], policyNames: Names, nodes: readonly PolicyNode[]) {
    this.#grants = grants;
    this.#names = policyNames;
    this.#nodes = nodes;
  }

  rulesFor(node: PolicyNode): readonly FilterRule[] {
    let rules = this.#rules.get(node);
    if (rules === undefined) {
      rules = this.#merged(this.#grants.flatMap((grant) => this.#rulesOf(grant, node)));
      this.#rules.set(node, rules);
    }
    return rules;
  }

  /** A list of sources that `rulesFor` gave is the same as another exactly when their numbers are. */
  numberOf(sources: readonly string[]): number {
    return this.#numbers.get(sources)!;
  }

  #listed(texts: readonly string[]): readonly string[] {
    const key = texts.join();
    const list = this.#lists.get(key);
    if (list !== undefined) return list;
    this.#lists.set(key, texts);
    this.#numbers.set(texts, this.#numbers.size);
    return texts;
  }

  /** Is `node` one of those whom the grant lets in? */
  isSource({ sources, postures }: Grant, node: PolicyNode): boolean {
    return meets(postures, node) && sources.some((selector) => names(selector, node, this.#names));
  }

  #rulesOf(grant: Grant, node: PolicyNode): FilterRule[] {
    const rules: FilterRule[] = [];
    if (grant.via.length > 0 && !grant.via.some((tag) => node.tags.includes(tag))) return rules;
    const others = grant.destinations.filter((selector) => !isSelf(selector));
    const destinations = this.destinations(others, node, grant.via.length > 0);
    if (destinations.length > 0) this.#emit(grant, this.#sourcesOf(grant), destinations, node, rules);
    if (others.length < grant.destinations.length && !isTagged(node) && node.user !== undefined) {
      this.#emit(grant, this.#ownSourcesOf(grant, node.user), addressesOf([node]), node, rules);
    }
    if (grant.app !== undefined && grant.via.length === 0) this.#companions(grant, node, rules);
    return rules;
  }

  /** The nodes of `user` from which `autogroup:self` is reached. */
  #ownSourcesOf(grant: Grant, user: string): readonly string[] {
    let byUser = this.#ownSources.get(grant);
    if (byUser === undefined) {
      const isSource = (node: PolicyNode): boolean => !isTagged(node) && this.isSource(grant, node);
      const nodes = Map.groupBy(this.#nodes.filter(isSource), (node) => node.user ?? "");
      byUser = new Map([...nodes].map(([owner, own]) => [owner, this.#listed(addressesOf(own))]));
      this.#ownSources.set(grant, byUser);
    }
    return byUser.get(user) ?? [];
  }

  #emit(
    grant: Grant,
    sources: readonly string[],
    destinations: readonly string[],
    node: PolicyNode,
    rules: FilterRule[],
  ): void {
    if (sources.length === 0 || destinations.length === 0) return;
    for (const { protocols, ports } of grant.openings) {
      rules.push({
        SrcIPs: sources,
        DstPorts: destinations.flatMap((IP) => ports.map((Ports) => ({ IP, Ports }))),
        ...(protocols.length === 0 ? {} : { IPProto: protocols }),
      });
    }
    if (grant.app === undefined || grant.via.length > 0) return;
    const own = ownOf(node);
    const dsts = destinations.flatMap((text) =>
      text === "*" ? [...own.texts, ...own.virtual.map(formatRange)] : [text],
    );
    rules.push({ SrcIPs: sources, CapGrant: [{ Dsts: dsts.flatMap(asPrefixes), CapMap: grant.app }] });
  }

  /** `node` is a source here: it learns of the destinations. */
  #companions(grant: Grant, node: PolicyNode, rules: FilterRule[]): void {
    const back: Record<string, null> = {};
    for (const name of Object.keys(grant.app ?? {})) {
      if (Object.hasOwn(COMPANIONS, name)) back[COMPANIONS[name]!] = null;
    }
    if (Object.keys(back).length === 0 || !this.isSource(grant, node)) return;
    const sources = new Set<string>();
    for (const selector of grant.destinations) {
      if (selector.kind === "any") for (const text of this.#everySource()) sources.add(text);
      else if (selectedRanges(selector) !== undefined) {
        for (const range of selectedRanges(selector)!) sources.add(formatRange(range));
      } else {
        const isOwn = (other: PolicyNode): boolean => !isTagged(node) && !isTagged(other) && other.user === node.user;
        const holders = this.#nodes.filter((other) =>
          isSelf(selector) ? isOwn(other) : names(selector, other, this.#names),
        );
        for (const text of addressesOf(holders)) sources.add(text);
      }
    }
    if (sources.size === 0) return;
    rules.push({
      SrcIPs: this.#listed([...sources]),
      CapGrant: [{ Dsts: addressesOf([node]).flatMap(asPrefixes), CapMap: back }],
    });
  }

  #sourcesOf({ sources: selectors, postures }: Grant): readonly string[] {
    let list = this.#sources.get(selectors);
    if (list === undefined) {
      const isAll = selectors.some((selector) => selector.kind === "autogroup" && selector.name === "danger-all");
      const texts =
        postures.length > 0
          ? this.#posturedSources(selectors, postures)
          : isAll
            ? ["*"]
            : selectors.flatMap((selector) => this.#resolve(selector));
      list = this.#listed([...new Set(texts)]);
      this.#sources.set(selectors, list);
    }
    return list;
  }

  /** Only nodes have a posture: of an address range, those of its addresses that belong to one that meets it. */
  #posturedSources(selectors: readonly Selector[], postures: readonly Posture[]): readonly string[] {
    return this.#nodes
      .filter((node) => meets(postures, node))
      .flatMap((node) =>
        selectors.flatMap((selector) => {
          const named = selectedRanges(selector);
          if (named === undefined) return names(selector, node, this.#names) ? ownOf(node).texts : [];
          return ownOf(node)
            .ranges.filter((own) => named.some((range) => covers(range, own)))
            .map(formatRange);
        }),
      );
  }

  /** Rules of the same sources and protocols become one, as the hosted service sends them. */
  #merged(rules: readonly FilterRule[]): readonly FilterRule[] {
    const byHead = new Map<string, { rule: FilterRule; ports: Map<string, NetPortRange> }>();
    const grants: FilterRule[] = [];
    for (const rule of rules) {
      if (rule.DstPorts === undefined) {
        grants.push(rule);
        continue;
      }
      const head = `${this.#numbers.get(rule.SrcIPs)} ${rule.IPProto?.join() ?? ""}`;
      let entry = byHead.get(head);
      if (entry === undefined) {
        entry = { rule, ports: new Map() };
        byHead.set(head, entry);
      }
      for (const port of rule.DstPorts) entry.ports.set(`${port.IP} ${port.Ports.First}-${port.Ports.Last}`, port);
    }
    return [...[...byHead.values()].map(({ rule, ports }) => ({ ...rule, DstPorts: [...ports.values()] })), ...grants];
  }

  #resolve(selector: Selector): readonly string[] {
    if (selector.kind === "any") return this.#everySource();
    const named = selectedRanges(selector);
    if (named !== undefined) return named.map(formatRange);
    return addressesOf(this.#nodes.filter((node) => names(selector, node, this.#names)));
  }

  #everySource(): readonly string[] {
    return [...MESH_SOURCES, ...new Set(this.#nodes.flatMap(subnetRoutes))];
  }

  /** Those parts of the destinations that `node` receives rules about. */
  destinations(selectors: readonly Selector[], node: PolicyNode, isVia: boolean): readonly string[] {
    const texts = new Set<string>();
    for (const selector of selectors) {
      const named = selectedRanges(selector);
      // Only what is routed can be steered.
      if (isInternet(selector) || (isVia && named === undefined)) continue;
      if (selector.kind === "any") texts.add("*");
      else if (selector.kind === "service") for (const text of node.services?.[selector.name] ?? []) texts.add(text);
      else if (named !== undefined) {
        const { ranges, routes, virtual } = ownOf(node);
        const local = isVia ? routes : [...ranges, ...routes, ...virtual];
        for (const range of named) if (local.some((own) => overlap(own, range))) texts.add(formatRange(range));
      } else if (names(selector, node, this.#names)) for (const text of ownOf(node).texts) texts.add(text);
    }
    return [...texts];
  }
}

function addressesOf(nodes: readonly PolicyNode[]): readonly string[] {
  return nodes.flatMap((node) => ownOf(node).texts);
}

/** Prefixes of a destination; capability rules take no ranges. */
function asPrefixes(text: string): readonly string[] {
  return (parseRanges(text) ?? []).flatMap(prefixesOf);
}

/** The addresses that a selector names as such; `undefined`: it names nodes. */
function selectedRanges(selector: Selector): readonly AddressRange[] | undefined {
  if (selector.kind === "ipset") return selector.ranges;
  return selector.kind === "range" ? [selector.range] : undefined;
}
