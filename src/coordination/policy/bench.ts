import { parsePrefix } from "../../base/address.ts";
import { type AddressRange, formatRange, parseRanges, rangeOfPrefix } from "../../wire/address-set.ts";
import { capabilitiesOf } from "../../wire/capabilities.ts";
import type { CapMap } from "../../wire/tailcfg.ts";
import type { PolicyNode } from "../policy-engine.ts";
import { Compilation } from "./compile.ts";
import type { Grant, PolicyDocument, PolicyTest } from "./document.ts";
import { parseProtocol } from "./ports.ts";
import { covers } from "./ranges.ts";
import { isTagged, names, rangesOf } from "./resolve.ts";
import { isLogin, isSelf, parseSelector, type Selector } from "./selector.ts";
import { admitsLogin, isNodeAddress, type SshTest } from "./ssh.ts";
import { isSameOwner, reachesBySsh } from "./ssh-rules.ts";

export interface BenchContext {
  readonly users?: readonly string[];
  readonly roles?: ReadonlyMap<string, readonly string[]>;
  readonly nodes?: readonly PolicyNode[];
}

const TESTABLE_PROTOCOLS = new Set([6, 17, 132]);

/** The nodes of now, and one made up for each known user and each tag that has none: tests are about the policy. */
export function populated(document: PolicyDocument, { users, roles, nodes = [] }: BenchContext): readonly PolicyNode[] {
  const logins = new Set([...(users ?? []), ...[...document.names.groups.values()].flat()]);
  for (const grant of document.grants ?? []) {
    for (const selector of [...grant.sources, ...grant.destinations])
      if (selector.kind === "user") logins.add(selector.login);
  }
  for (const owners of document.tagOwners.values()) {
    for (const owner of owners) if (owner.includes("@") && !owner.includes(":")) logins.add(owner);
  }
  const made: PolicyNode[] = [];
  const add = (user: string | undefined, tags: readonly string[]): void => {
    const number = made.length + 1;
    const addresses = [`100.127.${255 - (number >> 8)}.${number & 255}`, `fd7a:115c:a1e0:ffff::${number.toString(16)}`];
    const own = (user === undefined ? undefined : roles?.get(user)) ?? [];
    made.push({ id: -number, user, roles: own, tags, addresses, routes: [] });
  };
  for (const login of logins) {
    if (!nodes.some((node) => !isTagged(node) && isLogin(login, node.user))) add(login, []);
  }
  for (const tag of document.names.tags) if (!nodes.some((node) => node.tags.includes(tag))) add(undefined, [tag]);
  return [...nodes, ...made];
}

/** A policy and a set of nodes, to ask what it lets them do. */
export class Bench {
  readonly #document: PolicyDocument;
  readonly #nodes: readonly PolicyNode[];
  readonly #compilation: Compilation;
  readonly #grants: readonly Grant[];

  constructor(document: PolicyDocument, grants: readonly Grant[], nodes: readonly PolicyNode[]) {
    this.#document = document;
    this.#nodes = nodes;
    this.#grants = grants;
    this.#compilation = new Compilation(grants, document.names, nodes);
  }

  /** Why the test fails; `undefined` when it does not. */
  trafficProblem({ attributes, ...test }: PolicyTest): string | undefined {
    if (attributes !== undefined) {
      // Only of sources is a posture asked, so all may have what the test says of its own.
      const nodes = this.#nodes.map((node) => ({ ...node, attributes }));
      return new Bench(this.#document, this.#grants, nodes).trafficProblem({ ...test, attributes: undefined });
    }
    if (test.accept.length === 0 && test.deny.length === 0) return "neither accept nor deny is given";
    const protocol = test.proto === "" ? 6 : parseProtocol(test.proto);
    if (protocol === undefined || !TESTABLE_PROTOCOLS.has(protocol)) return `protocol "${test.proto}" cannot be tested`;
    const sources = this.#sources(test.src);
    if (typeof sources === "string") return sources;
    for (const [entries, isWanted] of [
      [test.accept, true],
      [test.deny, false],
    ] as const) {
      for (const entry of entries) {
        const problem = this.#entryProblem(sources, entry, protocol, isWanted);
        if (problem !== undefined) return `from "${test.src}" to "${entry}": ${problem}`;
      }
    }
    return undefined;
  }

  /** What `src` may do at `target`, by capability; the first node of each stands for all of it. */
  capabilities(src: string, target: string): CapMap {
    const sources = this.#sources(src);
    const selector = parseSelector(target, this.#document.names);
    if (typeof sources === "string" || typeof selector === "string") return {};
    const source = sources[0] ?? [];
    const targets = this.#targets(selector, source);
    if (typeof targets === "string") return {};
    const [first] = targets;
    const pair = source.flatMap((from) =>
      (first?.ranges ?? []).filter((to) => to.bits === from.bits).map((to) => [from, to] as const),
    )[0];
    if (first === undefined || pair === undefined) return {};
    return capabilitiesOf(this.#compilation.rulesFor(first.node), formatRange(pair[0]), formatRange(pair[1]));
  }

  #sources(text: string): readonly AddressRange[][] | string {
    const selector = parseSelector(text, this.#document.names);
    if (typeof selector === "string") return selector;
    if (selector.kind === "range") return [[selector.range]];
    if (selector.kind === "ipset") return selector.ranges.map((range) => [range]);
    const nodes = this.#nodes.filter((node) => names(selector, node, this.#document.names));
    return nodes.length === 0 ? `"${text}" stands for nobody` : nodes.map((node) => [...rangesOf(node)]);
  }

  #entryProblem(
    sources: readonly AddressRange[][],
    entry: string,
    protocol: number,
    isWanted: boolean,
  ): string | undefined {
    const colon = entry.lastIndexOf(":");
    const [target, port] = [entry.slice(0, Math.max(0, colon)), entry.slice(colon + 1)];
    if (!/^\d{1,5}$/.test(port) || Number(port) < 1 || Number(port) > 65535) return "one port is wanted";
    if (target.includes("/") || target === "*" || target === "autogroup:internet") return "one host is wanted";
    const selector = parseSelector(target, this.#document.names);
    if (typeof selector === "string") return selector;
    let isAsked = false;
    for (const source of sources) {
      const targets = this.#targets(selector, source);
      if (typeof targets === "string") return targets;
      const pairs = targets.flatMap(({ node, ranges }) =>
        ranges.flatMap((to) => source.filter((from) => from.bits === to.bits).map((from) => ({ node, from, to }))),
      );
      isAsked ||= pairs.length > 0;
      // Every source must get to some address of the target; a deny fails when any gets to any.
      const isAdmitted = pairs.some(({ node, from, to }) => this.#admits(node, from, to, protocol, Number(port)));
      if (isWanted && !isAdmitted && pairs.length > 0) return "not allowed, but accept is wanted";
      if (!isWanted && isAdmitted) return "allowed, but deny is wanted";
    }
    return isAsked || !isWanted ? undefined : "stands for nobody";
  }

  #targets(
    selector: Selector,
    source: readonly AddressRange[],
  ): { node: PolicyNode; ranges: readonly AddressRange[] }[] | string {
    if (selector.kind === "range") {
      const { range } = selector;
      if (range.low !== range.high) return "a host of one address is wanted";
      const holder = this.#nodes.find((node) =>
        rangesOf(node).some((own) => own.bits === range.bits && own.low === range.low),
      );
      const text = holder ?? routeHolder(this.#nodes, range) ?? outsider(range);
      return [{ node: text, ranges: [range] }];
    }
    const isSelf = selector.kind === "autogroup" && selector.name === "self";
    const owner = this.#nodes.find((node) =>
      rangesOf(node).some((own) => source.some((range) => range.bits === own.bits && range.low === own.low)),
    );
    const nodes = this.#nodes.filter((node) =>
      isSelf
        ? owner !== undefined && !isTagged(owner) && !isTagged(node) && node.user === owner.user
        : names(selector, node, this.#document.names),
    );
    return nodes.length === 0 ? "stands for nobody" : nodes.map((node) => ({ node, ranges: rangesOf(node) }));
  }

  #admits(node: PolicyNode, from: AddressRange, to: AddressRange, protocol: number, port: number): boolean {
    return this.#compilation.rulesFor(node).some((rule) => {
      if (rule.DstPorts === undefined || !(rule.IPProto ?? [6, 17, 1, 58]).includes(protocol)) return false;
      if (!rule.SrcIPs.flatMap(rangesIn).some((range) => covers(range, from))) return false;
      return rule.DstPorts.some(
        ({ IP, Ports }) => Ports.First <= port && port <= Ports.Last && rangesIn(IP).some((range) => covers(range, to)),
      );
    });
  }

  sshProblem(test: SshTest): string | undefined {
    const logins = [...test.accept, ...test.deny, ...test.check];
    if (logins.length === 0) return "neither accept, deny nor check is given";
    if (logins.includes("")) return "a login name is empty";
    const selector = parseSelector(test.src, this.#document.names);
    if (typeof selector === "string") return selector;
    const sources = this.#nodes.filter((node) => names(selector, node, this.#document.names));
    if (sources.length === 0 || test.dst.length === 0) return `"${test.src}" stands for nobody`;
    for (const source of sources) {
      for (const text of test.dst) {
        const targets = this.#sshTargets(text, source);
        if (typeof targets === "string") return targets;
        for (const target of targets) {
          const problem = this.#loginProblem(test, source, target);
          if (problem !== undefined) return `from "${test.src}" to "${text}": ${problem}`;
        }
      }
    }
    return undefined;
  }

  #sshTargets(text: string, source: PolicyNode): readonly PolicyNode[] | string {
    const address = this.#document.names.hosts.get(text) ?? text;
    const selector = parseSelector(text, this.#document.names);
    if (typeof selector === "string") return selector;
    if (selector.kind === "range" && !isNodeAddress(address)) return `"${text}": one node's IPv4 address is wanted`;
    const nodes = this.#nodes.filter((node) =>
      isSelf(selector) ? isSameOwner(node, source) : names(selector, node, this.#document.names),
    );
    return nodes.length === 0 ? `"${text}" stands for nobody` : nodes;
  }

  #loginProblem({ accept, deny, check }: SshTest, source: PolicyNode, target: PolicyNode): string | undefined {
    const verdict = (login: string): "accept" | "check" | "deny" => {
      const matching = this.#document.ssh.filter(
        (rule) =>
          reachesBySsh(rule, this.#document.names, source, target) && admitsLogin(rule.users, login, source.user),
      );
      // Check rules stand before accept rules on the wire, and the first match wins.
      return matching.some((rule) => rule.action === "check") ? "check" : matching.length > 0 ? "accept" : "deny";
    };
    const miss = (logins: readonly string[], wanted: string): string | undefined => {
      const login = logins.find((candidate) => verdict(candidate) !== wanted);
      return login === undefined ? undefined : `login "${login}": ${verdict(login)}, ${wanted} is wanted`;
    };
    return miss(accept, "accept") ?? miss(deny, "deny") ?? miss(check, "check");
  }
}

function routeHolder(nodes: readonly PolicyNode[], range: AddressRange): PolicyNode | undefined {
  return nodes.find((node) =>
    node.routes.some((route) => {
      const prefix = parsePrefix(route);
      return prefix !== undefined && prefix.bits > 0 && covers(rangeOfPrefix(prefix), range);
    }),
  );
}

/** A host outside the tailnet stands as a node of its own: rules may name it. */
function outsider(range: AddressRange): PolicyNode {
  return { id: 0, user: undefined, tags: [], addresses: [formatRange(range)], routes: [] };
}

function rangesIn(text: string): readonly AddressRange[] {
  return parseRanges(text) ?? [];
}
