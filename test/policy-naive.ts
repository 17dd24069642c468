/**
 * What a policy means, read off the control-protocol sheet (7.1 to 7.4) in the plainest way and for one packet at a
 * time. It shares no code with the engine: where the two differ, one of them has misread the sheet.
 */

export interface Rule {
  readonly action?: string;
  readonly src: readonly string[];
  readonly dst: readonly string[];
  readonly ip?: readonly string[];
  readonly proto?: string;
  readonly app?: Readonly<Record<string, readonly unknown[]>>;
  readonly via?: readonly string[];
  readonly srcPosture?: readonly string[];
}

export interface Policy {
  readonly groups: Readonly<Record<string, readonly string[]>>;
  readonly hosts: Readonly<Record<string, string>>;
  readonly ipsets: Readonly<Record<string, readonly string[]>>;
  readonly postures: Readonly<Record<string, readonly string[]>>;
  readonly tagOwners: Readonly<Record<string, readonly string[]>>;
  readonly acls?: readonly Rule[];
  readonly grants?: readonly Rule[];
}

export interface Member {
  readonly id: number;
  readonly user: string | undefined;
  readonly tags: readonly string[];
  readonly addresses: readonly string[];
  readonly routes: readonly string[];
  readonly roles: readonly string[];
  readonly attributes: Readonly<Record<string, string>>;
  readonly services: Readonly<Record<string, readonly string[]>>;
}

/** An address as a number that tells the families apart: IPv6 lies above all of IPv4. */
export function numberOf(text: string): bigint {
  if (!text.includes(":")) return text.split(".").reduce((sum, part) => sum * 256n + BigInt(part), 0n);
  const [head = "", tail] = text.split("::");
  const words = (part: string): string[] => (part === "" ? [] : part.split(":"));
  const before = words(head);
  const after = tail === undefined ? [] : words(tail);
  const middle = new Array<string>(8 - before.length - after.length).fill("0");
  const all = tail === undefined ? before : [...before, ...middle, ...after];
  return all.reduce((sum, word) => sum * 65536n + BigInt(`0x${word}`), 0n) + V6;
}

const V6 = 1n << 130n;

export interface Span {
  readonly from: bigint;
  readonly to: bigint;
}

/** An address, a CIDR or `a-b`. */
export function spanOf(text: string): Span {
  const dash = text.indexOf("-");
  if (dash > 0) return { from: numberOf(text.slice(0, dash)), to: numberOf(text.slice(dash + 1)) };
  const [address = "", bits] = text.split("/");
  const size = 1n << BigInt((address.includes(":") ? 128 : 32) - Number(bits ?? (address.includes(":") ? 128 : 32)));
  const offset = address.includes(":") ? V6 : 0n;
  const from = ((numberOf(address) - offset) / size) * size + offset;
  return { from, to: from + size - 1n };
}

const inside = (at: bigint, { from, to }: Span): boolean => from <= at && at <= to;
const meet = (a: Span, b: Span): boolean => a.from <= b.to && b.from <= a.to;

const MESH = ["100.64.0.0-100.115.91.255", "100.115.94.0-100.127.255.255", "fd7a:115c:a1e0::/48"].map(spanOf);
const isDefault = (route: string): boolean => route.endsWith("/0");

/** An address belongs to an ipset when the last step that speaks of it adds it. */
function inIpset(policy: Policy, name: string, at: bigint): boolean {
  let isIn = false;
  for (const step of policy.ipsets[name]!) {
    const [verb, target] = step.includes(" ") ? step.split(" ") : ["add", step];
    const isNamed = target!.startsWith("ipset:")
      ? inIpset(policy, target!, at)
      : inside(at, spanOf(policy.hosts[target!] ?? target!));
    if (isNamed) isIn = verb === "add";
  }
  return isIn;
}

const LITERAL = /^[0-9a-f.:[\]]+(\/\d+)?$/;

/** `undefined`: the selector names nodes, not addresses. */
function holdsAddress(policy: Policy, selector: string, at: bigint): boolean | undefined {
  if (selector.startsWith("ipset:")) return inIpset(policy, selector, at);
  const text = policy.hosts[selector] ?? selector;
  return LITERAL.test(text) ? inside(at, spanOf(text)) : undefined;
}

/** Whether `member` is whom the selector names. */
function isNamed(policy: Policy, selector: string, member: Member): boolean {
  const isTagged = member.tags.length > 0;
  if (selector === "*" || selector === "autogroup:danger-all") return true;
  if (selector.startsWith("tag:")) return member.tags.includes(selector);
  if (selector === "autogroup:tagged") return isTagged;
  if (isTagged) return false;
  if (selector === "autogroup:member") return true;
  if (selector.startsWith("autogroup:")) return member.roles.includes(selector.slice(10));
  if (selector.startsWith("group:")) return policy.groups[selector]!.includes(member.user!);
  if (selector.startsWith("user:*@")) return member.user!.split("@")[1] === selector.slice(7);
  return selector === member.user;
}

/** Postures of the generated policies only ask `node:os == 'x'`. */
function meetsPosture(policy: Policy, { srcPosture = [] }: Rule, member: Member): boolean {
  if (srcPosture.length === 0) return true;
  return srcPosture.some((name) =>
    policy.postures[name]!.every((line) => line === `node:os == '${member.attributes["node:os"]}'`),
  );
}

export function isSource(policy: Policy, members: readonly Member[], rule: Rule, at: bigint): boolean {
  const owner = members.find((member) => member.addresses.some((address) => numberOf(address) === at));
  if ((rule.srcPosture?.length ?? 0) > 0 && (owner === undefined || !meetsPosture(policy, rule, owner))) return false;
  const isPostured = (rule.srcPosture?.length ?? 0) > 0;
  return rule.src.some((selector) => {
    if (selector === "autogroup:danger-all") return true;
    if (selector === "*" && !isPostured) {
      const routes = members.flatMap((member) => member.routes).filter((route) => !isDefault(route));
      return [...MESH, ...routes.map(spanOf)].some((span) => inside(at, span));
    }
    return holdsAddress(policy, selector, at) ?? (owner !== undefined && isNamed(policy, selector, owner));
  });
}

/** Whether a destination of the rule is `to` on `holder`, for a packet from `from`. */
export function isDestination(
  policy: Policy,
  members: readonly Member[],
  rule: Rule,
  selector: string,
  holder: Member,
  to: bigint,
  from: bigint,
): boolean {
  const via = rule.via ?? [];
  if (via.length > 0 && !via.some((tag) => holder.tags.includes(tag))) return false;
  if (selector === "autogroup:internet") return false;
  if (via.length > 0 && holdsAddress(policy, selector, to) === undefined) return false; // only routes are steered
  if (selector === "*") return true;
  const isOwn = holder.addresses.some((address) => numberOf(address) === to);
  if (selector === "autogroup:self") {
    const owner = members.find((member) => member.addresses.some((address) => numberOf(address) === from));
    const isSame =
      owner !== undefined && owner.tags.length === 0 && holder.tags.length === 0 && owner.user === holder.user;
    return isOwn && isSame;
  }
  if (selector.startsWith("svc:")) return (holder.services[selector] ?? []).some((text) => numberOf(text) === to);
  const isIn = holdsAddress(policy, selector, to);
  if (isIn === undefined) return isOwn && isNamed(policy, selector, holder);
  if (!isIn) return false;
  const routes = holder.routes.filter((route) => !isDefault(route)).map(spanOf);
  const own = [...holder.addresses, ...Object.values(holder.services).flat()].map(spanOf);
  const local = via.length > 0 ? routes : [...own, ...routes];
  // The literal reaches the node when it overlaps what the node is or routes; of an ipset, each unbroken part by itself.
  const part = partAround(policy, selector, to);
  return local.some((span) => meet(span, part));
}

/** The unbroken part of a literal in which `at` lies. */
function partAround(policy: Policy, selector: string, at: bigint): Span {
  if (!selector.startsWith("ipset:")) return spanOf(policy.hosts[selector] ?? selector);
  const edges = edgesOf(policy, selector);
  let from = edges.filter((edge) => edge <= at).reduce((a, b) => (a > b ? a : b));
  let to = from;
  const sorted = [...new Set(edges)].toSorted((a, b) => (a < b ? -1 : a > b ? 1 : 0));
  for (let i = sorted.indexOf(from); i > 0 && inIpset(policy, selector, sorted[i - 1]!); i--) from = sorted[i - 1]!;
  for (let i = sorted.findIndex((edge) => edge > at); i >= 0 && i < sorted.length; i++) {
    to = sorted[i]! - 1n;
    if (!inIpset(policy, selector, sorted[i]!)) break;
  }
  return { from, to };
}

/** Where membership of an ipset can change. */
export function edgesOf(policy: Policy, name: string): bigint[] {
  return policy.ipsets[name]!.flatMap((step) => {
    const target = step.split(" ").at(-1)!;
    if (target.startsWith("ipset:")) return edgesOf(policy, target);
    const { from, to } = spanOf(policy.hosts[target] ?? target);
    return [from, to + 1n];
  });
}

const NUMBERS: Readonly<Record<string, number>> = { tcp: 6, udp: 17, icmp: 1, sctp: 132, gre: 47, "ipv6-icmp": 58 };

function isPort(list: string, port: number): boolean {
  return list.split(",").some((part) => {
    if (part === "*") return true;
    const [first, last = first] = part.split("-");
    return Number(first) <= port && port <= Number(last);
  });
}

function isProtocol(name: string | undefined, protocol: number): boolean {
  if (name === undefined || name === "*") return [6, 17, 1, 58].includes(protocol);
  return (NUMBERS[name] ?? Number(name)) === protocol;
}

/** Whether the `ip` element of a grant opens this. */
export function opens(element: string, protocol: number, port: number): boolean {
  const [name, ports] = element.includes(":") ? element.split(":") : [undefined, element];
  return isProtocol(name, protocol) && isPort(ports!, port);
}

/** Whether an ACL's `target:ports` opens this; the target apart. */
export function aclTarget(text: string): { readonly selector: string; readonly ports: string } {
  const at = text.lastIndexOf(":");
  return { selector: text.slice(0, at).replace(/^\[(.*)\]/, "$1"), ports: text.slice(at + 1) };
}

export function opensAcl({ proto }: Rule, ports: string, protocol: number, port: number): boolean {
  return isProtocol(proto, protocol) && isPort(ports, port);
}
