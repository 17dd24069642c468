import { describe, expect, test } from "vitest";
import { compilePolicy } from "../src/coordination/policy/policy.ts";
import type { PolicyNode } from "../src/coordination/policy-engine.ts";
import type { FilterRule } from "../src/wire/tailcfg.ts";
import {
  aclTarget,
  edgesOf,
  isDestination,
  isSource,
  type Member,
  numberOf,
  opens,
  opensAcl,
  type Policy,
  type Span,
  spanOf,
} from "./policy-naive.ts";
import { randomSample } from "./policy-samples.ts";

/** How many policies; the suite runs few, `SALLYPORT_POLICY_SAMPLES=10000` as many as one wants. */
const SAMPLES = Number(process.env["SALLYPORT_POLICY_SAMPLES"] ?? 300);
const FIRST_SEED = Number(process.env["SALLYPORT_POLICY_SEED"] ?? 1);

/** Ports and protocols of which each stands for all others that no generated policy tells apart: one bit each. */
const DOORS = [6, 17, 1, 58, 132, 47].flatMap((protocol) =>
  [1, 19, 20, 22, 25, 53, 80, 443, 444].map((port) => ({ protocol, port })),
);
const bits = (isOpen: (protocol: number, port: number) => boolean): bigint =>
  DOORS.reduce((mask, { protocol, port }, i) => (isOpen(protocol, port) ? mask | (1n << BigInt(i)) : mask), 0n);

/** Every address at which an answer can change, and those beside it. */
function points({ hosts, ipsets, acls = [], grants = [] }: Policy, members: readonly Member[]): bigint[] {
  const texts = [...acls, ...grants].flatMap(({ src, dst, action }) => [
    ...src,
    ...(action === undefined ? dst : dst.map((text) => aclTarget(text).selector)),
  ]);
  const literals = texts.map((text) => hosts[text] ?? text).filter((text) => /^[0-9a-f.:]+(\/\d+)?$/.test(text));
  const own = members.flatMap(({ addresses, routes, services }) => [
    ...addresses,
    ...routes,
    ...Object.values(services).flat(),
  ]);
  const outside = ["8.8.8.8", "2001:db8::1", "100.115.92.1", "192.168.7.8"];
  const spans = [...literals, ...own, ...outside].map(spanOf);
  const edges = Object.keys(ipsets).flatMap((name) => edgesOf({ hosts, ipsets } as Policy, name));
  return [...new Set([...spans.flatMap(({ from, to }) => [from, to, to + 1n]), ...edges])];
}

interface Read {
  readonly sources: readonly Span[];
  readonly destinations: readonly { readonly span: Span | undefined; readonly mask: bigint }[];
  readonly grants: readonly { readonly spans: readonly Span[]; readonly values: readonly string[] }[];
}

const EVERYTHING: Span = { from: 0n, to: 1n << 131n };
const spanOrAll = (text: string): Span => (text === "*" ? EVERYTHING : spanOf(text));

/** A filter rule as sheet 5.2 reads it. */
function readRule({ SrcIPs, DstPorts = [], IPProto = [], CapGrant = [] }: FilterRule): Read {
  const protocols = IPProto.length === 0 ? [6, 17, 1, 58] : IPProto;
  return {
    sources: SrcIPs.map(spanOrAll),
    destinations: DstPorts.map(({ IP, Ports }) => ({
      span: spanOrAll(IP),
      mask: bits((protocol, port) => protocols.includes(protocol) && Ports.First <= port && port <= Ports.Last),
    })),
    grants: CapGrant.map(({ Dsts, CapMap }) => ({
      spans: Dsts.map(spanOf),
      values: Object.entries(CapMap ?? {}).flatMap(([name, held]) =>
        (held ?? []).map((value) => `${name} ${JSON.stringify(value)}`),
      ),
    })),
  };
}

const within = (at: bigint, span: Span | undefined): boolean => span !== undefined && span.from <= at && at <= span.to;

interface Answer {
  readonly open: bigint;
  readonly capabilities: string;
}

const NOTHING: Answer = { open: 0n, capabilities: "" };
const joined = (answers: readonly Answer[]): Answer => ({
  open: answers.reduce((mask, { open }) => mask | open, 0n),
  capabilities: answers
    .flatMap(({ capabilities }) => (capabilities === "" ? [] : capabilities.split("\n")))
    .sort()
    .join("\n"),
});

/** What each of several rules says by itself: who may come, and what is open at an address to those who may. */
interface Reading {
  mayCome(rule: number, from: bigint): boolean;
  openAt(rule: number, to: bigint, from: bigint): Answer;
  /** Rules of which what is open depends on who comes. */
  readonly isPersonal: readonly boolean[];
}

function compiledReading(rules: readonly Read[]): Reading {
  return {
    isPersonal: rules.map(() => false),
    mayCome: (rule, from) => rules[rule]!.sources.some((span) => within(from, span)),
    openAt: (rule, to) => {
      const { destinations, grants } = rules[rule]!;
      const held = grants.flatMap(({ spans, values }) => (spans.some((span) => within(to, span)) ? values : []));
      const open = destinations.reduce((mask, door) => (within(to, door.span) ? mask | door.mask : mask), 0n);
      return { open, capabilities: held.join("\n") };
    },
  };
}

/** The sheet's answer: every rule by itself, for one packet alone. */
function naiveReading(policy: Policy, members: readonly Member[], holder: Member): Reading {
  const acls = (policy.acls ?? []).flatMap((rule) =>
    rule.dst.map((text) => {
      const { selector, ports } = aclTarget(text);
      const mask = bits((protocol, port) => opensAcl(rule, ports, protocol, port));
      return { rule, selectors: [selector], mask };
    }),
  );
  const grants = (policy.grants ?? []).map((rule) => ({
    rule,
    selectors: rule.dst,
    mask: bits((protocol, port) => (rule.ip ?? []).some((element) => opens(element, protocol, port))),
  }));
  const rules = [...acls, ...grants];
  const addresses = [...holder.addresses, ...Object.values(holder.services).flat()].map(numberOf);
  return {
    isPersonal: rules.map(({ selectors }) => selectors.includes("autogroup:self")),
    mayCome: (index, from) => isSource(policy, members, rules[index]!.rule, from),
    openAt: (index, to, from) => {
      const { rule, selectors, mask } = rules[index]!;
      const hit = selectors.filter((text) => isDestination(policy, members, rule, text, holder, to, from));
      if (hit.length === 0) return NOTHING;
      // A capability with everybody is one with this node, not with what it routes; steered traffic carries none.
      const isHeld = hit.some((text) => text !== "*" || addresses.includes(to)) && (rule.via?.length ?? 0) === 0;
      const values = Object.entries(isHeld ? (rule.app ?? {}) : {}).flatMap(([name, list]) =>
        list.map((value) => `${name} ${JSON.stringify(value)}`),
      );
      return { open: mask, capabilities: values.join("\n") };
    },
  };
}

/** All that the rules let through, for every pair of points. */
function* answers({ isPersonal, mayCome, openAt }: Reading, all: readonly bigint[]): Generator<Answer> {
  const comers = all.map((from) => isPersonal.flatMap((_, rule) => (mayCome(rule, from) ? [rule] : [])));
  for (const to of all) {
    const known = isPersonal.map((isDifferent, rule) => (isDifferent ? undefined : openAt(rule, to, to)));
    const same = new Map<string, Answer>();
    for (const [i, from] of all.entries()) {
      const rules = comers[i]!;
      const key = rules.some((rule) => isPersonal[rule]) ? `${rules} ${from}` : String(rules);
      let answer = same.get(key);
      if (answer === undefined) {
        answer = joined(rules.map((rule) => known[rule] ?? openAt(rule, to, from)));
        same.set(key, answer);
      }
      yield answer;
    }
  }
}

/** Sheet 7.3 and 7.4: who sees whom, and which of whose routes. */
function naiveSight(policy: Policy, members: readonly Member[], all: readonly bigint[]) {
  const rules = [...(policy.acls ?? []), ...(policy.grants ?? [])];
  const ownOf = ({ addresses }: Member): bigint[] => addresses.map(numberOf);
  const subnets = ({ routes }: Member): Span[] => routes.filter((route) => !route.endsWith("/0")).map(spanOf);
  const selectorsOf = (rule: (typeof rules)[number]): readonly string[] =>
    rule.action === undefined ? rule.dst : rule.dst.map((text) => aclTarget(text).selector);
  const isExit = (member: Member): boolean => member.routes.some((route) => route.endsWith("/0"));
  const exits = (from: Member, to: Member): boolean =>
    isExit(to) &&
    rules.some(
      (rule) =>
        selectorsOf(rule).includes("autogroup:internet") &&
        (rule.via === undefined || rule.via.some((tag) => to.tags.includes(tag))) &&
        ownOf(from).some((at) => isSource(policy, members, rule, at)),
    );
  // Sets of points as bits: every pair of nodes is asked about.
  const bitsOf = (test: (at: bigint) => boolean): bigint =>
    all.reduce((set, at, i) => (test(at) ? set | (1n << BigInt(i)) : set), 0n);
  const readings = new Map(members.map((member) => [member, naiveReading(policy, members, member)]));
  const { isPersonal, mayCome } = readings.get(members[0]!)!;
  const comers = isPersonal.map((_, rule) => bitsOf((at) => mayCome(rule, at)));
  const doors = new Map<string, bigint>();
  const doorsOf = (to: Member, rule: number, start: bigint, isTraffic: boolean): bigint => {
    const key = `${to.id} ${rule} ${isPersonal[rule] ? start : ""} ${isTraffic}`;
    const known = doors.get(key);
    if (known !== undefined) return known;
    const set = bitsOf((at) => {
      const { open, capabilities } = readings.get(to)!.openAt(rule, at, start);
      return open !== 0n || (!isTraffic && capabilities !== "");
    });
    doors.set(key, set);
    return set;
  };
  /** Addresses of `to` and behind it that are open to one of `starts`. */
  const reached = (starts: bigint, to: Member, isTraffic: boolean): bigint =>
    isPersonal.reduce((sum, isDifferent, rule) => {
      const coming = starts & comers[rule]!;
      if (coming === 0n) return sum;
      if (!isDifferent) return sum | doorsOf(to, rule, 0n, isTraffic);
      const single = all.filter((_, i) => (coming >> BigInt(i)) & 1n);
      return single.reduce((set, start) => set | doorsOf(to, rule, start, isTraffic), sum);
    }, 0n);
  const starts = new Map(
    members.map((member) => {
      const own = ownOf(member);
      return [member, bitsOf((at) => own.includes(at) || subnets(member).some((span) => within(at, span)))];
    }),
  );
  const sees = (from: Member, to: Member): boolean => reached(starts.get(from)!, to, false) !== 0n || exits(from, to);
  const everything = bitsOf(() => true);
  return {
    visible: (viewer: Member): number[] =>
      members.filter((other) => other !== viewer && (sees(viewer, other) || sees(other, viewer))).map(({ id }) => id),
    routes: (viewer: Member, router: Member): string[] => {
      const there = reached(starts.get(viewer)!, router, true);
      return router.routes.filter((text) => {
        // Nothing but `*` opens all.
        if (text.endsWith("/0")) return there === everything || exits(viewer, router);
        const route = bitsOf((at) => within(at, spanOf(text)));
        return (there & route) !== 0n || viewer.routes.includes(text) || reached(route, viewer, false) !== 0n;
      });
    },
  };
}

function told(seed: number, what: string): string {
  const { policy, members } = randomSample(seed);
  return `seed ${seed}: ${what}\n${JSON.stringify(policy)}\n${JSON.stringify(members)}`;
}

/** What differs, in words; nothing when all agree. */
function difference(seed: number): string | undefined {
  const { policy, members } = randomSample(seed);
  const nodes: readonly PolicyNode[] = members;
  const engine = compilePolicy(JSON.stringify(policy));
  const all = points(policy, members);
  const sight = naiveSight(policy, members, all);
  for (const viewer of members) {
    const seen = [...engine.visibleTo(viewer, nodes)].toSorted((a, b) => a - b);
    const wanted = sight.visible(viewer);
    if (String(seen) !== String(wanted)) return told(seed, `node ${viewer.id} sees ${seen}, not ${wanted}`);
    for (const router of members) {
      if (router === viewer || router.routes.length === 0) continue;
      const routes = engine.routesFor(viewer, router, nodes);
      const expected = sight.routes(viewer, router);
      if (String(routes) !== String(expected))
        return told(seed, `node ${viewer.id} knows ${routes} of ${router.id}, not ${expected}`);
    }
  }
  for (const [i, holder] of members.entries()) {
    const rules = engine.filterFor(nodes[i]!, nodes).map(readRule);
    const sheet = answers(naiveReading(policy, members, holder), all);
    let at = 0;
    for (const ours of answers(compiledReading(rules), all)) {
      const theirs = sheet.next().value as Answer;
      if (ours.open !== theirs.open || ours.capabilities !== theirs.capabilities) {
        const [to, from] = [all[Math.floor(at / all.length)]!, all[at % all.length]!];
        const doors = DOORS.filter((_, bit) => ((ours.open ^ theirs.open) >> BigInt(bit)) & 1n);
        const held = `capabilities ${ours.capabilities} / ${theirs.capabilities}`;
        return told(seed, `node ${holder.id}, from ${from} to ${to}: ${JSON.stringify(doors)}, ${held}`);
      }
      at++;
    }
  }
  return undefined;
}

describe("CS-9: the compiled filter says what the sheet says", () => {
  const BATCH = 100;
  const batches = Array.from({ length: Math.ceil(SAMPLES / BATCH) }, (_, i) => FIRST_SEED + i * BATCH);
  test.each(batches)("policies from seed %i on", { timeout: 120_000 }, (first) => {
    const last = Math.min(first + BATCH, FIRST_SEED + SAMPLES);
    for (let seed = first; seed < last; seed++) expect(difference(seed)).toBeUndefined();
  });
});
