import type { Member, Policy, Rule } from "./policy-naive.ts";

/** mulberry32: small, seeded, good enough to choose with. */
export function chooser(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

const USERS = ["ada@example.com", "bob@example.com", "eve@example.org"];
const TAGS = ["tag:web", "tag:db", "tag:router"];
const ROUTES = ["10.1.0.0/16", "10.1.2.0/24", "10.2.0.0/16", "fd00:1::/64", "0.0.0.0/0", "::/0"];
const LITERALS = [
  ["100.64.0.1", "100.64.0.3", "100.64.0.0/30", "100.64.0.0/10", "10.1.0.0/16", "10.1.2.128/25", "10.0.0.0/8"],
  ["10.3.0.0/16", "192.168.7.7", "fd7a:115c:a1e0::2", "fd7a:115c:a1e0::/48", "fd00:1::/64", "fd00::/16"],
].flat();
const PLACES = ["box", "net", "six", "mesh"];
const IPSETS = ["ipset:a", "ipset:b"];
const POSTURES = ["posture:linux", "posture:mac"];
const PEOPLE = [...USERS, "group:ops", "group:none", "autogroup:member", "autogroup:admin", "user:*@example.com"];
const NODES = [...TAGS, "autogroup:tagged"];
const PORTS = ["*", "22", "80", "443", "20-25", "80-443"];
const IPS = [...PORTS, "tcp:22", "udp:53", "icmp:*", "sctp:80-443", "47:*", "*:443", "tcp:*"];
const PROTOCOLS = ["tcp", "udp", "icmp", "ipv6-icmp", "sctp", "gre", "132"];

export interface Sample {
  readonly policy: Policy;
  readonly members: readonly Member[];
}

/** A policy and the nodes that it is about. The same number gives the same. */
export function randomSample(seed: number): Sample {
  const below = chooser(seed);
  const pick = <T>(list: readonly T[]): T => list[below(list.length)]!;
  const some = <T>(list: readonly T[], most: number): T[] =>
    Array.from({ length: 1 + below(most) }, () => pick(list)).filter((item, i, all) => all.indexOf(item) === i);
  const often = (outOf: number): boolean => below(outOf) > 0;

  const members = Array.from({ length: 3 + below(5) }, (_, i): Member => {
    const isTagged = below(2) === 0;
    const user = isTagged ? undefined : pick(USERS);
    return {
      id: i + 1,
      user,
      tags: isTagged ? some(TAGS, 2) : [],
      addresses: [`100.64.0.${i + 1}`, `fd7a:115c:a1e0::${i + 1}`],
      routes: below(3) === 0 ? some(ROUTES, 3) : [],
      roles: user === "ada@example.com" ? ["admin"] : [],
      attributes: often(4) ? { "node:os": pick(["linux", "macos"]) } : {},
      services: isTagged && below(4) === 0 ? { "svc:app": ["100.99.0.9", "fd7a:115c:a1e0::9:9"] } : {},
    };
  });

  const step = (from: readonly string[]): string => pick(["add ", "add ", "remove ", ""]) + pick(from);
  const literals = [...LITERALS, ...PLACES];
  const anySource = [...PEOPLE, ...NODES, ...literals, ...IPSETS, "*", "autogroup:danger-all"];
  const anyTarget = [...PEOPLE, ...NODES, ...literals, ...IPSETS, "*", "autogroup:internet", "svc:app"];
  const posture = (): Pick<Rule, "srcPosture"> => (below(6) === 0 ? { srcPosture: some(POSTURES, 2) } : {});

  const grant = (): Rule => {
    const isSelf = below(8) === 0;
    const dst = isSelf ? ["autogroup:self", ...(often(2) ? [] : [pick(NODES)])] : some(anyTarget, 3);
    const app =
      below(4) === 0 && !dst.includes("autogroup:internet") ? { app: { "example.com/cap/x": [{ n: below(3) }] } } : {};
    const via = below(8) === 0 && !isSelf ? { via: some(TAGS, 2) } : {};
    const ip = Object.keys(app).length > 0 && below(2) === 0 ? {} : { ip: some(IPS, 3) };
    return { src: some(isSelf ? PEOPLE : anySource, 3), dst, ...ip, ...app, ...via, ...posture() };
  };
  const acl = (): Rule => {
    const isSelf = below(8) === 0;
    const ports = (): string => some(PORTS, 2).join(",");
    const target = (text: string): string => `${text.includes("::") && below(2) === 0 ? `[${text}]` : text}:${ports()}`;
    return {
      action: "accept",
      src: some(isSelf ? [...PEOPLE, "*"] : anySource, 3),
      dst: isSelf ? [target("autogroup:self")] : some(anyTarget, 3).map(target),
      ...(below(4) === 0 ? { proto: pick(PROTOCOLS) } : {}),
      ...posture(),
    };
  };
  const rules = (make: () => Rule): Rule[] => Array.from({ length: below(4) }, make);

  const policy: Policy = {
    groups: { "group:ops": some(USERS, 2), "group:none": [] },
    hosts: { box: "100.64.0.2", net: "10.1.0.0/16", six: "fd7a:115c:a1e0::3", mesh: "100.64.0.0/24" },
    ipsets: {
      "ipset:a": Array.from({ length: 1 + below(3) }, () => step(literals)),
      "ipset:b": ["ipset:a", ...Array.from({ length: below(3) }, () => step(literals))],
    },
    postures: { "posture:linux": ["node:os == 'linux'"], "posture:mac": ["node:os == 'macos'"] },
    tagOwners: Object.fromEntries(TAGS.map((tag) => [tag, ["autogroup:admin"]])),
    acls: rules(acl),
    ...(often(3) ? { grants: rules(grant) } : {}),
  };
  return { policy, members };
}
