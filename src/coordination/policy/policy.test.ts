import { describe, expect, test } from "vitest";
import { Fault } from "../../base/fault.ts";
import type { PolicyEngine, PolicyNode } from "../policy-engine.ts";
import { compilePolicy, type PolicyContext } from "./policy.ts";

const node = (id: number, user: string | undefined, tags: string[] = [], routes: string[] = []): PolicyNode => ({
  id,
  user,
  tags,
  addresses: [`100.64.0.${id}`, `fd7a:115c:a1e0::${id}`],
  routes,
});
const ada = node(1, "ada@example.com");
const bob = node(2, "bob@example.com");
const web = node(3, undefined, ["tag:web"]);
const router = node(4, undefined, ["tag:router"], ["10.1.0.0/16"]);
const exit = node(5, undefined, ["tag:exit"], ["0.0.0.0/0", "::/0"]);
const all = [ada, bob, web, router, exit];
const tagOwners = '"tagOwners": {"tag:web": ["ada@example.com"], "tag:router": ["group:ops"], "tag:exit": []}';
const groups = '"groups": {"group:ops": ["bob@example.com"]}';

const policy = (members: string, context?: PolicyContext): PolicyEngine =>
  compilePolicy(`{${groups}, ${tagOwners}, ${members}}`, context);

function faultOf(source: string, context?: PolicyContext): Fault {
  try {
    compilePolicy(source, context);
  } catch (error) {
    if (error instanceof Fault) return error;
    throw error;
  }
  throw new Error("the policy was accepted");
}

describe("who sees whom", () => {
  const sight = (engine: PolicyEngine): string[] =>
    all.flatMap((a) =>
      all.filter((b) => a.id < b.id && engine.visibleTo(a, all).has(b.id)).map((b) => `${a.id}${b.id}`),
    );

  test("an empty policy allows all, empty rules deny all", () => {
    for (const source of ["", "  \n", "{}", "// nothing\n{}"]) expect(sight(compilePolicy(source))).toHaveLength(10);
    for (const source of ['{"acls": []}', '{"grants": []}']) {
      const engine = compilePolicy(source);
      expect(sight(engine)).toEqual([]);
      expect(engine.filterFor(ada, all)).toEqual([]);
    }
  });

  test("rules, routes, capabilities and exit nodes make visible", () => {
    expect(sight(policy('"acls": [{"action": "accept", "src": ["ada@example.com"], "dst": ["tag:web:443"]}]'))).toEqual(
      ["13"],
    );
    expect(
      sight(policy('"acls": [{"action": "accept", "src": ["bob@example.com"], "dst": ["10.1.2.0/24:*"]}]')),
    ).toEqual(["24"]);
    expect(sight(policy('"acls": [{"action": "accept", "src": ["10.1.2.0/24"], "dst": ["tag:web:*"]}]'))).toEqual([
      "34",
    ]);
    expect(sight(policy('"grants": [{"src": ["tag:web"], "dst": ["group:ops"], "app": {"a.test/b": [{}]}}]'))).toEqual([
      "23",
    ]);
    expect(
      sight(policy('"acls": [{"action": "accept", "src": ["group:ops"], "dst": ["autogroup:internet:*"]}]')),
    ).toEqual(["25"]);
  });

  test("autogroup:self stays with its user, and tagged nodes are nobody's", () => {
    const own = node(6, "ada@example.com");
    const tagged = node(7, "ada@example.com", ["tag:web"]);
    const nodes = [...all, own, tagged];
    const engine = policy('"acls": [{"action": "accept", "src": ["autogroup:member"], "dst": ["autogroup:self:22"]}]');
    expect(engine.filterFor(own, nodes)).toEqual([
      {
        SrcIPs: [...ada.addresses, ...own.addresses],
        DstPorts: own.addresses.map((IP) => ({ IP, Ports: { First: 22, Last: 22 } })),
      },
    ]);
    expect(engine.filterFor(tagged, nodes)).toEqual([]);
    expect(engine.visibleTo(ada, nodes).has(bob.id)).toBe(false);
  });
});

test("names of members do not mind their case, as old files have them", () => {
  const engine = compilePolicy('{"ACLs": [{"Action": "accept", "Users": ["*"], "Ports": ["*:*"]}]}');
  expect(engine.filterFor(ada, all)).toHaveLength(1);
});

test("mayTag: owners, members of owning groups, nobody else", () => {
  const engine = policy('"acls": []');
  const may = (tag: string): string[] =>
    ["ada@example.com", "bob@example.com"].filter((user) => engine.mayTag(user, tag));
  expect(["tag:web", "tag:router", "tag:exit", "tag:other"].map(may)).toEqual([
    ["ada@example.com"],
    ["bob@example.com"],
    [],
    [],
  ]);
});

test("autoApproves: routes inside a listed one, default routes by `exitNode` alone", () => {
  const engine = policy(
    '"autoApprovers": {"routes": {"10.0.0.0/8": ["tag:router"], "0.0.0.0/0": ["tag:router"]}, "exitNode": ["tag:exit"]}',
  );
  expect(
    ["10.1.0.0/16", "10.0.0.0/8", "0.0.0.0/0", "11.0.0.0/8", "::/0", "x"].map((route) =>
      engine.autoApproves(router, route),
    ),
  ).toEqual([true, true, false, false, false, false]);
  expect([engine.autoApproves(exit, "::/0"), engine.autoApproves(web, "10.1.0.0/16")]).toEqual([true, false]);
});

test("attributesFor: flags are null, applications keep their values", () => {
  const engine = policy(`"nodeAttrs": [
    {"target": ["tag:web"], "attr": ["funnel"]},
    {"target": ["*"], "app": {"tailscale.com/app-connectors": [{"name": "a"}]}}
  ]`);
  expect({ ...engine.attributesFor(web, all) }).toEqual({
    funnel: null,
    "tailscale.com/app-connectors": [{ name: "a" }],
  });
  expect(Object.keys(engine.attributesFor(ada, all))).toEqual(["tailscale.com/app-connectors"]);
});

describe("CS-9: a policy that is wrong is refused, with its place", () => {
  test.each<[string, string, string, number, number]>([
    [
      '{\n  "acls": [\n    {"action": "deny", "src": ["*"], "dst": ["*:*"]}]}',
      "POLICY_RULE",
      'action="deny" is not supported',
      3,
      16,
    ],
    [
      '{"acls": [{"action": "accept", "src": ["tag:x"], "dst": ["*:*"]}]}',
      "POLICY_RULE",
      'src=tag not found: "tag:x"',
      1,
      40,
    ],
    [
      '{"acls": [{"action": "accept", "src": ["*"], "dst": ["tag:x:22"]}]}',
      "POLICY_RULE",
      'dst="tag:x": tag not found: "tag:x"',
      1,
      54,
    ],
    ...[
      ['"attr": ["sallyport.dev/door-require"]', '"sallyport.dev/door-require": unknown attribute, wanted one of', 43],
      ['"attr": ["sallyport.dev/domains"]', '"sallyport.dev/domains": wanted {"names": ["demo.example.org"', 43],
      ['"app": {"sallyport.dev/domain": []}', '"sallyport.dev/domain": unknown attribute', 66],
      ['"app": {"sallyport.dev/domains": ["a.example.org"]}', 'wanted {"names": ["demo.example.org"', 67],
      ['"app": {"sallyport.dev/domains": [{"names": ["a b"]}]}', 'found "a b", wanted such as', 67],
      ['"app": {"sallyport.dev/ports": [{"ports": ["7010-7000"]}]}', 'found "7010-7000", wanted such as', 65],
    ].map(([text, problem, column]): [string, string, string, number, number] => [
      `{"nodeAttrs": [{"target": ["*"], ${text}}]}`,
      "POLICY_RULE",
      String(problem),
      1,
      Number(column),
    ]),
    ['{"acls": [{"action": "accept", "src": ["*"], "dst": ["*:90-80"]}]}', "POLICY_RULE", "port range", 1, 54],
    ['{"acls": [{"action": "accept", "src": ["*"], "dst": ["*"]}]}', "POLICY_RULE", "", 1, 54],
    [
      '{"groups": {"group:a": ["group:b"]}}',
      "POLICY_RULE",
      'groups["group:a"]: "group:b": group members cannot be recursive',
      1,
      25,
    ],
    ['{"tagOwners": {"tag:1": []}}', "POLICY_RULE", "tag names must start with a letter, after 'tag:'", 1, 25],
    [
      '{"grants": [{"src": ["*"], "dst": ["autogroup:danger-all"], "ip": ["*"]}]}',
      "POLICY_RULE",
      "cannot use autogroup:danger-all as a dst",
      1,
      36,
    ],
    [
      '{"grants": [{"src": ["*"], "dst": ["*"], "ip": ["*"], "via": ["*"]}]}',
      "POLICY_RULE",
      "via can only be a tag",
      1,
      63,
    ],
    [
      '{"grants": [{"src": ["*"], "dst": ["*"], "ip": ["*"], "srcPosture": ["posture:a"]}]}',
      "POLICY_RULE",
      'posture not found: "posture:a"',
      1,
      70,
    ],
    ['{"aclz": []}', "POLICY_UNKNOWN_MEMBER", 'unknown member "aclz"', 1, 10],
    [
      '{"acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"], "ports2": []}]}',
      "POLICY_UNKNOWN_MEMBER",
      "ports2",
      1,
      72,
    ],
    ['{"acls": 5}', "POLICY_SHAPE", "a list is wanted", 1, 10],
    ['{"acls": [5]}', "POLICY_SHAPE", "an object is wanted", 1, 11],
    ['{"groups": {"group:a": "x"}}', "POLICY_SHAPE", "a list is wanted", 1, 24],
    ["[]", "POLICY_SHAPE", "an object is wanted", 1, 1],
    ['{"acls": [}', "HUJSON_SYNTAX", "", 1, 11],
    ['{"acls": [], "acls": []}', "HUJSON_SYNTAX", "twice", 1, 14],
    [
      '{"ssh": [{"action": "accept", "src": ["*"], "dst": ["autogroup:self"], "users": ["root"], "checkPeriod": "200h"}]}',
      "POLICY_RULE",
      "checkPeriod 200h0m0s is above the max (168h)",
      1,
      106,
    ],
    [
      '{"ssh": [{"action": "accept", "src": ["*"], "dst": ["autogroup:self"], "users": ["root"], "checkPeriod": "-1m"}]}',
      "POLICY_RULE",
      "checkPeriod -1m0s must be a positive duration",
      1,
      106,
    ],
  ])("%s", (source, code, words, line, column) => {
    const fault = faultOf(source);
    expect(fault).toMatchObject({ code, line, column });
    expect(fault.message).toContain(words);
  });

  test("an unknown user, when the users are known", () => {
    const source = '{"acls": [{"action": "accept", "src": ["eve@example.com"], "dst": ["*:*"]}]}';
    expect(faultOf(source, { users: ["ada@example.com"] })).toMatchObject({
      code: "POLICY_UNKNOWN_USER",
      line: 1,
      column: 40,
    });
    expect(() => compilePolicy(source)).not.toThrow();
  });

  test("a failing self-test, also where no node exists yet", () => {
    const acls = '"acls": [{"action": "accept", "src": ["ada@example.com"], "dst": ["tag:web:443"]}]';
    const tests = (entry: string): string => `${acls}, "tests": [{"src": "ada@example.com", ${entry}}]`;
    for (const nodes of [undefined, all]) {
      const context = nodes === undefined ? {} : { nodes };
      expect(() => policy(tests('"accept": ["tag:web:443"], "deny": ["tag:web:80"]'), context)).not.toThrow();
      expect(() => policy(tests('"accept": ["tag:web:80"]'), context)).toThrow("test(s) failed");
      expect(() => policy(tests('"deny": ["tag:web:443"]'), context)).toThrow("test(s) failed");
    }
  });
});

test("CS-10: 1,000 nodes and 100 rules compile in well under a second", () => {
  const nodes = Array.from(
    { length: 1000 },
    (_, i): PolicyNode => ({
      id: i,
      user: i % 2 === 0 ? `u${i % 50}@example.com` : undefined,
      tags: i % 2 === 0 ? [] : [`tag:t${i % 25}`],
      addresses: [`100.64.${i >> 8}.${i & 255}`, `fd7a:115c:a1e0::${i.toString(16)}`],
      routes: [],
    }),
  );
  const owners = Array.from({ length: 25 }, (_, i) => `"tag:t${i}": []`).join();
  const acls = Array.from(
    { length: 100 },
    (_, i) => `{"action": "accept", "src": ["u${(2 * i) % 50}@example.com"], "dst": ["tag:t${i % 25}:${i + 1}"]}`,
  );
  const engine = compilePolicy(`{"tagOwners": {${owners}}, "acls": [${acls}]}`);
  const start = performance.now();
  let pairs = 0;
  for (const a of nodes) {
    engine.filterFor(a, nodes);
    pairs += engine.visibleTo(a, nodes).size;
  }
  expect(pairs).toBeGreaterThan(0);
  expect(performance.now() - start).toBeLessThan(5000);
});
