import { describe, expect, test } from "vitest";
import { parseAddress } from "../src/base/address.ts";
import { compilePolicy } from "../src/coordination/policy/policy.ts";
import type { PolicyEngine, PolicyNode } from "../src/coordination/policy-engine.ts";
import { AddressSet, parseRanges } from "../src/wire/address-set.ts";
import { capabilitiesOf } from "../src/wire/capabilities.ts";

/**
 * Each rule that a captured answer of the hosted service taught, as a small case of its own: the suite must know it
 * also where the captured cases are not at hand (control-protocol sheet 7.2 to 7.8).
 */
const node = (id: number, user: string | undefined, tags: string[], more: Partial<PolicyNode> = {}): PolicyNode => ({
  id,
  user,
  tags,
  addresses: [`100.64.0.${id}`, `fd7a:115c:a1e0::${id}`],
  routes: [],
  ...more,
});
const ada = node(1, "ada@example.com", [], { roles: ["owner", "admin"], attributes: { "node:os": "linux" } });
const phone = node(2, "ada@example.com", [], { attributes: { "node:os": "ios", "node:tsVersion": "1.58.2-t12" } });
const bob = node(3, "bob@example.org", [], { roles: ["auditor"], attributes: { "custom:tier": 3 } });
const web = node(4, undefined, ["tag:web"], { attributes: { "node:os": "linux", "node:tsVersion": "1.100.0" } });
const router = node(5, undefined, ["tag:router"], { routes: ["10.1.0.0/16", "fd00:1::/64"] });
const second = node(6, undefined, ["tag:router", "tag:db"], { routes: ["10.1.0.0/16"] });
const exit = node(7, undefined, ["tag:exit"], { routes: ["0.0.0.0/0", "::/0"] });
const all = [ada, phone, bob, web, router, second, exit];

const DECLARED = `
  "groups": {"group:ops": ["ada@example.com"], "group:both": ["ada@example.com", "bob@example.org"], "group:none": []},
  "hosts": {"box": "100.64.0.4", "lan": "10.1.0.0/16", "six": "fd7a:115c:a1e0::4", "far": "192.0.2.1", "wide": "100.64.0.0/29"},
  "ipsets": {
    "ipset:lan": ["add lan", "remove 10.1.9.0/24"],
    "ipset:plain": ["100.64.0.4", "box", "fd7a:115c:a1e0::4"],
    "ipset:nested": ["ipset:lan", "remove 10.1.0.0/17", "add 10.1.9.9"],
    "ipset:back": ["add 10.0.0.0/8", "remove 10.1.0.0/16", "add 10.1.1.1"],
    "ipset:public": ["add autogroup:internet", "remove 8.8.8.0/24"],
  },
  "postures": {
    "posture:linux": ["node:os == 'linux'"],
    "posture:fresh": ["node:tsVersion >= '1.60'"],
    "posture:tier": ["custom:tier IN [2, 3]", "node:os NOT SET"],
  },
  "tagOwners": {"tag:web": ["ada@example.com"], "tag:router": ["group:ops"], "tag:db": ["autogroup:admin"], "tag:exit": ["autogroup:member"]},`;
const policy = (members: string): PolicyEngine => compilePolicy(`{${DECLARED} ${members}}`, { nodes: all });
const acl = (src: string, dst: string, more = ""): PolicyEngine =>
  policy(`"acls": [{"action": "accept", "src": ${src}, "dst": ${dst}${more}}]`);
const grant = (src: string, dst: string, more = '"ip": ["*"]'): PolicyEngine =>
  policy(`"grants": [{"src": ${src}, "dst": ${dst}, ${more}}]`);

function reaches(
  engine: PolicyEngine,
  from: string,
  holder: PolicyNode,
  to: string,
  port: number,
  protocol = 6,
): boolean {
  const has = (texts: readonly string[], address: string): boolean =>
    new AddressSet(texts.flatMap((text) => parseRanges(text)!)).has(parseAddress(address)!);
  return engine
    .filterFor(holder, all)
    .some(
      ({ SrcIPs, DstPorts = [], IPProto = [6, 17, 1, 58] }) =>
        IPProto.includes(protocol) &&
        has(SrcIPs, from) &&
        DstPorts.some(({ IP, Ports }) => Ports.First <= port && port <= Ports.Last && has([IP], to)),
    );
}

/** Who may reach whom over TCP: `14` says that node 1 may reach node 4. Where the families differ, the IPv4 one is meant. */
const pairs = (engine: PolicyEngine, port = 22, family = 0): string =>
  all
    .flatMap((from) =>
      all
        .filter((to) => reaches(engine, from.addresses[family]!, to, to.addresses[family]!, port))
        .map((to) => `${from.id}${to.id}`),
    )
    .join(" ");
const EVERYBODY = "1234567";
const into = (sources: string, targets: string): string =>
  [...sources].flatMap((from) => [...targets].map((to) => from + to)).join(" ");

describe("CS-9: whom a selector names", () => {
  test.each([
    ["a user: the untagged nodes", '["ada@example.com"]', '["tag:web:22"]', into("12", "4")],
    ["a group: its users", '["group:both"]', '["tag:web:22"]', into("123", "4")],
    ["an empty group: nobody", '["group:none"]', '["tag:web:22"]', ""],
    ["a tag", '["tag:router"]', '["tag:web:22"]', into("56", "4")],
    ["member", '["autogroup:member"]', '["tag:web:22"]', into("123", "4")],
    ["tagged", '["autogroup:tagged"]', '["tag:web:22"]', into("4567", "4")],
    ["admin", '["autogroup:admin"]', '["tag:web:22"]', into("1", "4")],
    ["owner", '["autogroup:owner"]', '["tag:web:22"]', into("1", "4")],
    ["auditor", '["autogroup:auditor"]', '["tag:web:22"]', into("3", "4")],
    ["shared: nobody is", '["autogroup:shared"]', '["tag:web:22"]', ""],
    ["a domain", '["user:*@example.org"]', '["tag:web:22"]', into("3", "4")],
    ["danger-all", '["autogroup:danger-all"]', '["tag:web:22"]', into(EVERYBODY, "4")],
    ["everybody", '["*"]', '["*:22"]', into(EVERYBODY, EVERYBODY)],
    ["an address", '["100.64.0.3"]', '["100.64.0.4:22"]', into("3", "4")],
    ["a CIDR", '["100.64.0.0/30"]', '["wide:22"]', into("123", EVERYBODY)],
    ["a CIDR with host bits", '["100.64.0.3/30"]', '["box:22"]', into("123", "4")],
    ["a host", '["box"]', '["tag:db:22"]', into("4", "6")],
    ["a host of the other family", '["six"]', '["tag:db:22"]', ""],
    ["an ipset", '["ipset:plain"]', '["ipset:plain:22"]', into("4", "4")],
    ["own nodes", '["autogroup:member"]', '["autogroup:self:22"]', "11 12 21 22 33"],
    ["own nodes of everybody", '["*"]', '["autogroup:self:22"]', "11 12 21 22 33"],
    ["own nodes of a group", '["group:ops"]', '["autogroup:self:22"]', into("12", "12")],
    ["the internet is no node", '["*"]', '["autogroup:internet:*"]', ""],
    [
      "several of each",
      '["tag:web", "bob@example.org"]',
      '["tag:db:22", "ada@example.com:22"]',
      `${into("3", "126")} ${into("4", "126")}`,
    ],
  ])("%s", (_what, src, dst, expected) => {
    expect(pairs(acl(src, dst))).toBe(expected);
  });

  test("names carry both families, literals only their own", () => {
    expect(pairs(acl('["ada@example.com"]', '["tag:web:22"]'), 22, 1)).toBe(into("12", "4"));
    expect(pairs(acl('["box"]', '["tag:db:22"]'), 22, 1)).toBe("");
    expect(pairs(acl('["six"]', '["[fd7a:115c:a1e0::6]:22"]'), 22, 1)).toBe(into("4", "6"));
    expect(pairs(acl('["six"]', '["fd7a:115c:a1e0::6:22"]'), 22, 1)).toBe(into("4", "6"));
  });

  test("everybody is the mesh and its approved subnets, not the ChromeOS range; danger-all is the world", () => {
    const who = (engine: PolicyEngine): string[] =>
      ["100.64.0.99", "100.115.92.5", "10.1.2.3", "10.9.0.1", "fd7a:115c:a1e0::99", "fd00:1::1", "8.8.8.8"].filter(
        (from) => reaches(engine, from, web, from.includes(":") ? web.addresses[1]! : web.addresses[0]!, 22),
      );
    expect(who(acl('["*"]', '["*:*"]'))).toEqual(["100.64.0.99", "10.1.2.3", "fd7a:115c:a1e0::99", "fd00:1::1"]);
    expect(who(acl('["autogroup:danger-all"]', '["*:*"]'))).toHaveLength(7);
  });

  test("an ipset's steps count in their order", () => {
    const at = (name: string): string[] =>
      ["10.1.1.1", "10.1.9.1", "10.1.9.9", "10.1.200.1", "10.2.0.1"].filter((to) =>
        reaches(grant('["*"]', `["${name}"]`), "100.64.0.1", router, to, 22),
      );
    expect(at("ipset:lan")).toEqual(["10.1.1.1", "10.1.200.1"]);
    expect(at("ipset:nested")).toEqual(["10.1.9.9", "10.1.200.1"]);
    expect(at("ipset:back")).toEqual(["10.1.1.1"]);
  });

  test("a service is reached at its own addresses, on its hosts", () => {
    const services = { "svc:app": ["100.99.0.9", "fd7a:115c:a1e0::9:9"] };
    const host = { ...web, services };
    const engine = grant('["ada@example.com"]', '["svc:app"]', '"ip": ["tcp:443"], "app": {"example.com/cap/x": [1]}');
    const nodes = all.map((other) => (other === web ? host : other));
    expect(engine.filterFor(host, nodes)).toEqual([
      {
        SrcIPs: [...ada.addresses, ...phone.addresses],
        DstPorts: services["svc:app"].map((IP) => ({ IP, Ports: { First: 443, Last: 443 } })),
        IPProto: [6],
      },
      {
        SrcIPs: [...ada.addresses, ...phone.addresses],
        CapGrant: [{ Dsts: ["100.99.0.9/32", "fd7a:115c:a1e0::9:9/128"], CapMap: { "example.com/cap/x": [1] } }],
      },
    ]);
    expect(engine.filterFor(router, nodes)).toEqual([]);
  });
});

describe("CS-9: what is open", () => {
  const probe = (engine: PolicyEngine): string[] =>
    [6, 17, 1, 58, 47, 132].flatMap((protocol) =>
      [22, 79, 80, 443, 444]
        .filter((port) => reaches(engine, "100.64.0.1", web, "100.64.0.4", port, protocol))
        .map((port) => `${protocol}:${port}`),
    );
  const each = (protocols: number[], ports: number[]): string[] =>
    protocols.flatMap((protocol) => ports.map((port) => `${protocol}:${port}`));
  const EVERY = [22, 79, 80, 443, 444];
  test.each<[string, string[]]>([
    ['"*"', each([6, 17, 1, 58], EVERY)],
    ['"443"', each([6, 17, 1, 58], [443])],
    ['"80-443"', each([6, 17, 1, 58], [80, 443])],
    ['"tcp:443"', ["6:443"]],
    ['"TCP:0443"', ["6:443"]],
    ['"udp:*"', each([17], EVERY)],
    ['"icmp:*"', each([1], EVERY)],
    ['"ipv6-icmp:*"', each([58], EVERY)],
    ['"47:*"', each([47], EVERY)],
    ['"*:80"', each([6, 17, 1, 58], [80])],
    ['"sctp:22-80", "tcp:22"', ["6:22", ...each([132], [22, 79, 80])]],
  ])("a grant's ip %s", (ip, expected) => {
    expect(probe(grant('["ada@example.com"]', '["tag:web"]', `"ip": [${ip}]`))).toEqual(expected);
  });
  test.each<[string, string, string[]]>([
    ["22,80-443", "", each([6, 17, 1, 58], [22, 80, 443])],
    ["*", "", each([6, 17, 1, 58], EVERY)],
    ["22", "tcp", ["6:22"]],
    ["*", "icmp", each([1], EVERY)],
    ["*", "47", each([47], EVERY)],
    ["22", "UDP", ["17:22"]],
    ["22", "0", each([6, 17, 1, 58], [22])],
  ])("an ACL's ports %s with proto %j", (ports, proto, expected) => {
    const more = proto === "" ? "" : `, "proto": "${proto}"`;
    expect(probe(acl('["ada@example.com"]', `["tag:web:${ports}"]`, more))).toEqual(expected);
  });
  test("acls and grants are added up; old names of members are understood", () => {
    const both = policy(
      '"acls": [{"action": "accept", "users": ["*"], "ports": ["tag:web:22"]}], "grants": [{"src": ["*"], "dst": ["tag:web"], "ip": ["tcp:80"]}]',
    );
    expect(probe(both)).toEqual(["6:22", "6:80", "17:22", "1:22", "58:22"]);
  });
});

describe("CS-9: routes and exit nodes", () => {
  test("a subnet's rule goes, whole, to every router that it overlaps, and to nobody else", () => {
    for (const dst of ["10.1.0.0/16", "10.1.2.0/24", "10.0.0.0/8"]) {
      const engine = acl('["ada@example.com"]', `["${dst}:443"]`);
      expect(all.filter((holder) => engine.filterFor(holder, all).length > 0)).toEqual([router, second]);
      expect(reaches(engine, "100.64.0.1", router, "10.1.2.9", 443)).toBe(true);
      expect([...engine.visibleTo(ada, all)]).toEqual([5, 6]);
      expect(engine.routesFor(ada, router, all)).toEqual(["10.1.0.0/16"]);
      expect(engine.routesFor(bob, router, all)).toEqual([]);
    }
    const nowhere = acl('["*"]', '["10.9.0.0/16:*"]');
    expect(all.flatMap((holder) => nowhere.filterFor(holder, all))).toEqual([]);
  });

  test("a rule for the router itself opens nothing behind it", () => {
    const engine = acl('["ada@example.com"]', '["tag:router:*"]');
    expect(reaches(engine, "100.64.0.1", router, "10.1.2.9", 443)).toBe(false);
    expect(engine.routesFor(ada, router, all)).toEqual([]);
    expect(engine.visibleTo(ada, all).has(router.id)).toBe(true);
  });

  test("a subnet as source makes its routers visible, with the route", () => {
    const engine = acl('["10.1.2.0/24"]', '["tag:web:80"]');
    expect([...engine.visibleTo(web, all)]).toEqual([5, 6]);
    expect(engine.routesFor(web, router, all)).toEqual(["10.1.0.0/16"]);
    expect(engine.filterFor(router, all)).toEqual([]);
  });

  test("routers of one route tell each other of it", () => {
    const engine = acl('["tag:router"]', '["tag:router:22"]');
    expect(engine.routesFor(second, router, all)).toEqual(["10.1.0.0/16"]);
  });

  test("the internet makes exit nodes visible, without a filter rule; all that is reached is no way out for others", () => {
    const engine = acl('["ada@example.com"]', '["autogroup:internet:*"]');
    expect(engine.filterFor(exit, all)).toEqual([]);
    expect([[...engine.visibleTo(ada, all)], [...engine.visibleTo(bob, all)]]).toEqual([[7], []]);
    expect([engine.routesFor(ada, exit, all), engine.routesFor(bob, exit, all)]).toEqual([["0.0.0.0/0", "::/0"], []]);
    const closed = all.map((other) => (other === exit ? { ...exit, routes: [] } : other));
    expect([...engine.visibleTo(ada, closed)]).toEqual([]);
    expect(acl('["ada@example.com"]', '["tag:exit:*"]').routesFor(ada, exit, all)).toEqual([]);
    expect(acl('["*"]', '["*:*"]').routesFor(ada, exit, all)).toEqual(["0.0.0.0/0", "::/0"]);
  });

  test("via steers: only routers with the tag get the rule, and the way", () => {
    const engine = grant('["ada@example.com"]', '["lan"]', '"ip": ["*"], "via": ["tag:db"]');
    expect(all.filter((holder) => engine.filterFor(holder, all).length > 0)).toEqual([second]);
    expect([engine.routesFor(ada, router, all), engine.routesFor(ada, second, all)]).toEqual([[], ["10.1.0.0/16"]]);
    const out = grant('["ada@example.com"]', '["autogroup:internet"]', '"ip": ["*"], "via": ["tag:web"]');
    expect([...out.visibleTo(ada, all)]).toEqual([]);
    const way = grant('["ada@example.com"]', '["autogroup:internet"]', '"ip": ["*"], "via": ["tag:exit"]');
    expect([[...way.visibleTo(ada, all)], [...way.visibleTo(bob, all)]]).toEqual([[7], []]);
  });

  test("via opens nothing but routes, and carries no capability", () => {
    const app = '"ip": ["*"], "app": {"example.com/cap/x": [{}]}, "via": ["tag:db"]';
    expect(grant('["*"]', '["tag:db", "*", "100.64.0.6"]', app).filterFor(second, all)).toEqual([]);
    const rules = grant('["*"]', '["lan"]', app).filterFor(second, all);
    expect(rules.map(({ CapGrant }) => CapGrant)).toEqual([undefined]);
  });

  test("a capability that via steers makes no rule, but shows the router and its route", () => {
    const engine = grant('["ada@example.com"]', '["lan"]', '"app": {"example.com/cap/x": [{}]}, "via": ["tag:db"]');
    expect(all.flatMap((holder) => engine.filterFor(holder, all))).toEqual([]);
    expect([[...engine.visibleTo(ada, all)], [...engine.visibleTo(bob, all)]]).toEqual([[6], []]);
    expect([...engine.visibleTo(second, all)]).toEqual([1, 2]);
    expect([engine.routesFor(ada, second, all), engine.routesFor(bob, second, all)]).toEqual([["10.1.0.0/16"], []]);
  });
});

describe("CS-9: capabilities", () => {
  const held = (engine: PolicyEngine, from: string, holder: PolicyNode, to: string): unknown => ({
    ...capabilitiesOf(engine.filterFor(holder, all), from, to),
  });
  const app = '"app": {"example.com/cap/x": [{"role": "admin"}, 7]}';

  test("values arrive as they stand, at the node's own addresses of both families", () => {
    const engine = grant('["ada@example.com"]', '["tag:web"]', app);
    const expected = { "example.com/cap/x": [{ role: "admin" }, 7] };
    expect(held(engine, "100.64.0.1", web, "100.64.0.4")).toEqual(expected);
    expect(held(engine, "fd7a:115c:a1e0::2", web, "fd7a:115c:a1e0::4")).toEqual(expected);
    expect(held(engine, "100.64.0.3", web, "100.64.0.4")).toEqual({});
    expect(pairs(engine)).toBe("");
    expect([...engine.visibleTo(web, all)]).toEqual([1, 2]);
  });

  test("several grants add up, in their order", () => {
    const engine = policy(`"grants": [
      {"src": ["group:both"], "dst": ["tag:web"], "app": {"a.test/b": [1]}},
      {"src": ["ada@example.com"], "dst": ["*"], "app": {"a.test/b": [2], "c.test/d": []}}]`);
    expect(held(engine, "100.64.0.1", web, "100.64.0.4")).toEqual({ "a.test/b": [1, 2], "c.test/d": null });
    expect(held(engine, "100.64.0.3", web, "100.64.0.4")).toEqual({ "a.test/b": [1] });
  });

  test("a capability with a subnet is one with what the router routes, also where the subnet is no single prefix", () => {
    expect(held(grant('["*"]', '["lan"]', app), "100.64.0.1", router, "10.1.2.3")).not.toEqual({});
    const set = grant('["*"]', '["ipset:lan"]', app);
    expect(held(set, "100.64.0.1", router, "10.1.2.3")).not.toEqual({});
    expect(held(set, "100.64.0.1", router, "10.1.9.3")).toEqual({});
    expect(held(grant('["*"]', '["*"]', app), "100.64.0.1", router, "10.1.2.3")).toEqual({});
  });

  test("who may use a drive or a relay learns of it the other way round", () => {
    for (const [name, back] of [
      ["drive", "drive-sharer"],
      ["relay", "relay-target"],
    ]) {
      const engine = grant('["ada@example.com"]', '["tag:web"]', `"app": {"tailscale.com/cap/${name}": [{}]}`);
      expect(engine.filterFor(ada, all)).toEqual([
        {
          SrcIPs: web.addresses,
          CapGrant: [
            { Dsts: ["100.64.0.1/32", "fd7a:115c:a1e0::1/128"], CapMap: { [`tailscale.com/cap/${back}`]: null } },
          ],
        },
      ]);
      expect(engine.filterFor(bob, all)).toEqual([]);
    }
  });
});

describe("CS-9: postures narrow the sources", () => {
  test.each([
    ['["posture:linux"]', '["*"]', into("14", "4")],
    ['["posture:linux"]', '["autogroup:member"]', into("1", "4")],
    ['["posture:linux"]', '["wide"]', into("14", "4")],
    ['["posture:linux"]', '["autogroup:danger-all"]', into("14", "4")],
    ['["posture:fresh"]', '["*"]', into("4", "4")],
    ['["posture:tier"]', '["*"]', into("3", "4")],
    ['["posture:linux", "posture:tier"]', '["*"]', into("134", "4")],
  ])("%s of %s", (postures, src, expected) => {
    expect(pairs(acl(src, '["tag:web:22"]', `, "srcPosture": ${postures}`))).toBe(expected);
    expect(pairs(grant(src, '["tag:web"]', `"ip": ["22"], "srcPosture": ${postures}`))).toBe(expected);
  });

  test("of a range, only the addresses that are in it; subnets have no posture", () => {
    const engine = acl('["100.64.0.1", "lan"]', '["tag:web:22"]', ', "srcPosture": ["posture:linux"]');
    expect(engine.filterFor(web, all).flatMap(({ SrcIPs }) => SrcIPs)).toEqual(["100.64.0.1"]);
  });

  test("own nodes, exit nodes and SSH ask too; the default is asked where a rule asks nothing", () => {
    expect(pairs(acl('["autogroup:member"]', '["autogroup:self:22"]', ', "srcPosture": ["posture:linux"]'))).toBe(
      "11 12",
    );
    const out = acl('["*"]', '["autogroup:internet:*"]', ', "srcPosture": ["posture:linux"]');
    expect([...out.visibleTo(exit, all)]).toEqual([1, 4]);
    const engine = policy(`"defaultSrcPosture": ["posture:linux"],
      "acls": [{"action": "accept", "src": ["*"], "dst": ["tag:web:22"]},
               {"action": "accept", "src": ["*"], "dst": ["tag:db:22"], "srcPosture": ["posture:tier"]}],
      "ssh": [{"action": "accept", "src": ["autogroup:member"], "dst": ["tag:web"], "users": ["root"]}]`);
    expect(pairs(engine)).toBe("14 36 44");
    expect(engine.sshFor(web, all)!.flatMap(({ principals }) => principals.map(({ nodeIP }) => nodeIP))).toEqual(
      ada.addresses,
    );
  });

  test("tests say what their source is like", () => {
    const rule =
      '"acls": [{"action": "accept", "src": ["bob@example.org"], "dst": ["tag:web:22"], "srcPosture": ["posture:linux"]}]';
    const tested = (entry: string): PolicyEngine => policy(`${rule}, "tests": [{"src": "bob@example.org", ${entry}}]`);
    expect(() => tested('"deny": ["tag:web:22"]')).not.toThrow();
    expect(() => tested('"accept": ["tag:web:22"]')).toThrow("test(s) failed");
    expect(() => tested('"accept": ["tag:web:22"], "srcPostureAttrs": {"node:os": "linux"}')).not.toThrow();
    expect(() => tested('"accept": ["tag:web:22"], "srcPostureAttrs": {"node:os": "windows"}')).toThrow(
      "test(s) failed",
    );
  });
});

describe("CS-9: attributes, approvals, owners", () => {
  const given = (members: string, to: PolicyNode): string[] =>
    Object.keys(policy(members).attributesFor(to, all)).toSorted();
  test.each([
    ['["*"]', EVERYBODY],
    ['["ada@example.com"]', "12"],
    ['["group:both"]', "123"],
    ['["tag:router"]', "56"],
    ['["autogroup:member"]', "123"],
    ['["autogroup:tagged"]', "4567"],
    ['["autogroup:admin"]', "1"],
    ['["box"]', "4"],
    ['["100.64.0.0/30"]', "123"],
    ['["fd7a:115c:a1e0::4"]', "4"],
    ['["ipset:plain"]', "4"],
    ["[]", ""],
  ])("nodeAttrs for %s", (target, expected) => {
    const members = `"nodeAttrs": [{"target": ${target}, "attr": ["x?v=1"]}]`;
    expect(
      all
        .filter((to) => given(members, to).length > 0)
        .map(({ id }) => id)
        .join(""),
    ).toBe(expected);
  });

  test("an entry may be without attr; what it says of addresses leaves attributes alone", () => {
    expect(given('"nodeAttrs": [{"target": ["*"]}]', ada)).toEqual([]);
    const engine = policy('"nodeAttrs": [{"target": ["group:ops"], "attr": ["x"], "ipPool": ["100.81.0.0/16"]}]');
    expect([engine.poolsFor(ada), engine.poolsFor(bob)]).toEqual([["100.81.0.0/16"], []]);
    expect(Object.keys(engine.attributesFor(ada, all))).toEqual(["x"]);
  });

  test("what the file says of the whole network", () => {
    expect(given('"disableIPv4": true, "randomizeClientPort": true', bob)).toEqual([
      "disable-ipv4",
      "randomize-client-port",
    ]);
    const mac = { ...bob, attributes: { "node:os": "macos" } };
    expect(given('"oneCGNATRoute": "mac-always"', mac)).toEqual(["one-cgnat?v=true"]);
    expect(given('"oneCGNATRoute": "mac-never"', mac)).toEqual(["one-cgnat?v=false"]);
    expect(given('"oneCGNATRoute": "mac-always"', bob)).toEqual([]);
  });

  test("approvals: routes inside a listed one, default routes by exitNode alone, services by name", () => {
    const engine = policy(`"autoApprovers": {
      "routes": {"10.0.0.0/8": ["tag:router"], "0.0.0.0/0": ["tag:router"], "fd00::/16": ["group:ops"]},
      "exitNode": ["autogroup:admin"], "services": {"svc:app": ["tag:web"]}}`);
    expect(["10.1.0.0/16", "11.0.0.0/8", "0.0.0.0/0"].map((route) => engine.autoApproves(router, route))).toEqual([
      true,
      false,
      false,
    ]);
    expect([engine.autoApproves(ada, "fd00:1::/64"), engine.autoApproves(bob, "fd00:1::/64")]).toEqual([true, false]);
    expect([engine.autoApproves(ada, "::/0"), engine.autoApproves(phone, "::/0")]).toEqual([true, false]);
    expect([web, router].map((host) => engine.autoApprovesService(host, "svc:app"))).toEqual([true, false]);
    expect(engine.autoApprovesService(web, "svc:other")).toBe(false);
  });

  test("owners of tags: users, groups, members, roles", () => {
    const engine = policy('"acls": []');
    expect(engine.mayTag("ada@example.com", "tag:web")).toBe(true);
    expect(engine.mayTag("bob@example.org", "tag:web")).toBe(false);
    expect(engine.mayTag("ada@example.com", "tag:router")).toBe(true);
    expect(engine.mayTag("bob@example.org", "tag:exit")).toBe(true);
    expect([engine.mayTag("ada@example.com", "tag:db"), engine.mayTag("ada@example.com", "tag:db", ["admin"])]).toEqual(
      [false, true],
    );
    expect(engine.mayTag("ada@example.com", "tag:none", ["admin"])).toBe(false);
  });
});
