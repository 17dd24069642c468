import { readFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { Fault } from "../src/base/fault.ts";
import { compilePolicy } from "../src/coordination/policy/policy.ts";
import type { PolicyEngine, PolicyNode } from "../src/coordination/policy-engine.ts";
import type { SshRule } from "../src/wire/tailcfg.ts";

/**
 * What the hosted service says of a wrong policy, word for word (control-protocol sheet 7.5, upstream
 * `tailcfg/proto_port_range.go` and `types/ipproto`), what it takes without complaint, and how it runs tests and SSH.
 */
const node = (id: number, user: string | undefined, tags: string[] = []): PolicyNode => ({
  id,
  user,
  tags,
  addresses: [`100.64.0.${id}`, `fd7a:115c:a1e0::${id}`],
  routes: [],
});
const ada = node(1, "ada@example.com");
const phone = node(2, "ada@example.com");
const bob = node(3, "bob@example.org");
const web = node(4, undefined, ["tag:web"]);
const db = node(5, undefined, ["tag:db"]);
const all = [ada, phone, bob, web, db];

const DECLARED = `"groups": {"group:ops": ["ada@example.com"], "group:none": []},
  "hosts": {"box": "100.64.0.4", "wide": "10.0.0.0/8", "far": "192.0.2.1", "six": "fd7a:115c:a1e0::4"},
  "tagOwners": {"tag:web": ["ada@example.com"], "tag:db": []}`;
const policy = (members: string): PolicyEngine =>
  compilePolicy(`{${DECLARED},\n${members}}`, {
    nodes: all,
    users: ["ada@example.com", "bob@example.org"],
    domains: ["example.com"],
  });

function refusal(members: string): Fault {
  try {
    policy(members);
  } catch (thrown) {
    if (thrown instanceof Fault) return thrown;
    throw thrown;
  }
  throw new Error("it was accepted");
}

const acl = (src: string, dst: string, more = ""): string =>
  `"acls": [{"action": "accept", "src": ["${src}"], "dst": ["${dst}"]${more}}]`;
const grant = (src: string, dst: string, more = '"ip": ["*"]'): string =>
  `"grants": [{"src": ["${src}"], "dst": ["${dst}"], ${more}}]`;
const ssh = (more: string): string =>
  `"ssh": [{"action": "check", "src": ["autogroup:member"], "dst": ["tag:web"], ${more}}]`;
const SELF = "autogroup:self can only be used with users, groups, or supported autogroups";

describe("CS-9: refused in the hosted service's words", () => {
  test.each([
    // Tags, groups, hosts.
    [acl("tag:x", "*:*"), 'src=tag not found: "tag:x"'],
    [grant("tag:x", "*"), 'src=tag not found: "tag:x"'],
    [acl("*", "tag:x:22"), 'dst="tag:x": tag not found: "tag:x"'],
    [grant("*", "tag:x"), 'dst="tag:x": tag not found: "tag:x"'],
    [grant("*", "wide", '"ip": ["*"], "via": ["tag:x"]'), 'tag "tag:x" not found'],
    [grant("*", "wide", '"ip": ["*"], "via": ["group:ops"]'), "via can only be a tag"],
    ['"nodeAttrs": [{"target": ["tag:x"], "attr": ["a"]}]', 'tag not found: "tag:x"'],
    ['"nodeAttrs": [{"target": ["%bogus%"], "attr": ["a"]}]', '"%bogus%": invalid address'],
    // Ports and protocols.
    [acl("*", "tag:web:ssh"), 'dst="tag:web:ssh": port range "ssh": invalid first integer'],
    [acl("*", "tag:web:22,x"), 'dst="tag:web:22,x": port range "x": invalid first integer'],
    [acl("*", "autogroup:self"), 'dst="autogroup:self": port range "self": invalid first integer'],
    [acl("*", "tag:web:0"), `dst="tag:web:0": port range "0": first port must be >0, or use '*' for wildcard`],
    [acl("*", "tag:web:70000"), 'dst="tag:web:70000": port range "70000": invalid first integer'],
    [acl("*", "tag:web:22-x"), 'dst="tag:web:22-x": port range "22-x": invalid last integer'],
    [acl("*", "tag:web:1-2-3"), 'dst="tag:web:1-2-3": port range "1-2-3": too many dashes(-)'],
    [acl("*", "tag:web:"), 'dst="tag:web:": invalid port list: ""'],
    [acl("*", "box"), 'dst="box": hostport must contain a colon (":")'],
    [grant("*", "tag:web", '"ip": ["tcp:0"]'), `port range "0": first port must be >0, or use '*' for wildcard`],
    [grant("*", "tag:web", '"ip": ["icmp"]'), 'port range "icmp": invalid first integer'],
    [grant("*", "tag:web", '"ip": ["22,80"]'), 'port range "22,80": invalid first integer'],
    [grant("*", "tag:web", '"ip": ["90-80"]'), 'port range "90-80": first port must be >= last port'],
    [grant("*", "tag:web", '"ip": [":80"]'), "empty protocol"],
    [grant("*", "tag:web", '"ip": [""]'), "empty string"],
    [
      grant("*", "tag:web", '"ip": ["http:80"]'),
      'proto name "http" not known; use protocol number 0-255 or protocol name (icmp, tcp, udp, etc.)',
    ],
    [
      acl("*", "tag:web:80", ', "proto": "*"'),
      'proto name "*" not known; use protocol number 0-255 or protocol name (icmp, tcp, udp, etc.)',
    ],
    // Autogroups.
    [acl("tag:web", "autogroup:self:22"), SELF],
    [acl("autogroup:tagged", "autogroup:self:22"), SELF],
    [acl("box", "autogroup:self:22"), SELF],
    [acl("100.64.0.1", "autogroup:self:22"), SELF],
    [grant("*", "autogroup:self"), SELF],
    [acl("autogroup:self", "tag:web:22"), '"autogroup:self" not valid on the src side of a rule'],
    [acl("autogroup:internet", "*:*"), '"autogroup:internet" not valid on the src side of a rule'],
    [grant("autogroup:nonroot", "*"), '"autogroup:nonroot" not valid on the src side of a rule'],
    [grant("*", "autogroup:nonroot"), '"autogroup:nonroot" not valid on the dst side of a rule'],
    [grant("*", "autogroup:danger-all"), "cannot use autogroup:danger-all as a dst"],
    [acl("*", "autogroup:danger-all:*"), "cannot use autogroup:danger-all as a dst"],
    // The whole internet, capabilities.
    [grant("*", "0.0.0.0/0"), 'dst "0.0.0.0/0": to allow all IP addresses, use "*" or "autogroup:internet"'],
    [
      grant("*", "::/0", '"ip": ["*"], "via": ["tag:web"]'),
      'dst "::/0": to allow all IP addresses, use "*" or "autogroup:internet"',
    ],
    [grant("*", "tag:web", '"ip": []'), "ip and app can not both be empty"],
    [grant("*", "tag:web", '"app": {}'), "ip and app can not both be empty"],
    [grant("*", "autogroup:internet", '"app": {"a.test/b": [{}]}'), "cannot use app grants with autogroup:internet"],
    [grant("*", "tag:web", '"app": {"https://a.test/b": []}'), "capability name must have the form {domain}/{path}"],
    [grant("*", "tag:web", '"app": {"nodomain": []}'), "capability name must have the form {domain}/{path}"],
    [
      grant("*", "tag:web", '"app": {"tailscale.com/cap/funnel": []}'),
      "capability name must not be in the tailscale.com domain",
    ],
    // Actions, groups, tags, pools.
    ['"acls": [{"action": "deny", "src": ["*"], "dst": ["*:*"]}]', 'action="deny" is not supported'],
    ['"acls": [{"src": ["*"], "dst": ["*:*"]}]', 'action="" is not supported'],
    ['"acls": [{"action": "ACCEPT", "src": ["*"], "dst": ["*:*"]}]', 'action="ACCEPT" is not supported'],
    [
      '"nodeAttrs": [{"target": ["*"], "ipPool": ["100.100.100.0/24"]}]',
      "IPPool(100.100.100.0/24): network within reserved range",
    ],
    [
      '"nodeAttrs": [{"target": ["*"], "ipPool": ["100.115.93.0/24"]}]',
      "IPPool(100.115.93.0/24): network within reserved range",
    ],
    // SSH.
    [
      '"ssh": [{"action": "deny", "src": ["*"], "dst": ["tag:web"], "users": ["root"]}]',
      '"deny" is not a valid action',
    ],
    [
      '"ssh": [{"action": "ACCEPT", "src": ["*"], "dst": ["tag:web"], "users": ["root"]}]',
      '"ACCEPT" is not a valid action',
    ],
    ['"ssh": [{"src": ["*"], "dst": ["tag:web"], "users": ["root"]}]', "action must be specified"],
    [ssh('"users": []'), "users must be specified"],
    [ssh('"acceptEnv": []'), "users must be specified"],
    [ssh('"users": ["*"]'), 'user "*" is not valid'],
    [ssh('"users": ["root", ""]'), 'user "" is not valid'],
    [ssh('"users": ["root"], "acceptEnv": ["X", ""]'), "acceptEnv values cannot be empty"],
    [ssh('"users": ["root"], "checkPeriod": "abc"'), 'time: invalid duration "abc"'],
    [ssh('"users": ["root"], "checkPeriod": "1d"'), 'time: unknown unit "d" in duration "1d"'],
    [ssh('"users": ["root"], "checkPeriod": "12"'), 'time: missing unit in duration "12"'],
    [ssh('"users": ["root"], "checkPeriod": "168h1s"'), "checkPeriod 168h0m1s is above the max (168h)"],
    [ssh('"users": ["root"], "checkPeriod": "-1m"'), "checkPeriod -1m0s must be a positive duration"],
    ['"ssh": [{"action": "accept", "src": ["*"], "dst": ["box"], "users": ["root"]}]', 'invalid dst "box"'],
    [
      ssh('"users": ["localpart:*@example.org"]'),
      "example.org is not associated with this Tailnet and cannot be used in user:*@<domain> expressions",
    ],
    [
      '"ssh": [{"action": "accept", "src": ["user:*@example.org"], "dst": ["tag:web"], "users": ["root"]}]',
      "[ssh] example.org is not associated with this Tailnet and cannot be used in user:*@<domain> expressions",
    ],
    [
      '"sshTests": [{"src": "ada@example.com", "dst": ["10.0.0.0/8"], "accept": ["root"]}]',
      'SSH tests dst contains disallowed element "10.0.0.0/8"',
    ],
    [
      '"sshTests": [{"src": "ada@example.com", "dst": ["autogroup:internet"], "accept": ["root"]}]',
      'SSH tests dst contains disallowed element "autogroup:internet"',
    ],
    [
      '"sshTests": [{"src": "ada@example.com", "dst": ["tag:web:22"], "accept": ["root"]}]',
      'SSH tests dst contains unknown tag "tag:web:22"',
    ],
    // Of our own wording.
    ['"derpMap": {"Regions": {}}', '"derpMap" is not supported'],
    ['"disableIPv4": "yes"', "true or false is wanted"],
    ['"oneCGNATRoute": "always"', 'oneCGNATRoute "always" is not valid: wanted "mac-always" or "mac-never"'],
    [
      '"ipsets": {"ipset:a": ["add ipset:b"], "ipset:b": ["ipset:a"]}',
      'ipsets["ipset:a"]: an ipset cannot include itself',
    ],
    ['"ipsets": {"ipset:a": ["remove nowhere"]}', '"nowhere": invalid address'],
    ['"ipsets": {"a": []}', 'ipsets["a"]: ipset names must start with "ipset:"'],
    [acl("ipset:a", "*:*"), 'src=ipset not found: "ipset:a"'],
    [
      '"postures": {"posture:a": ["node:os is linux"]}',
      'postures["posture:a"]: "node:os is linux": wanted ATTRIBUTE OPERATOR VALUE',
    ],
    [
      '"postures": {"posture:a": ["node:os == linux"]}',
      `postures["posture:a"]: "node:os == linux": 'text', a number, true or false is wanted`,
    ],
    [grant("svc:app", "*"), '"svc:app" not valid on the src side of a rule'],
    ['"autoApprovers": {"services": {"app": ["tag:web"]}}', '"app": invalid address'],
  ])("%s", (members, message) => {
    const fault = refusal(members);
    expect(fault.message).toBe(message);
    expect([fault.code.startsWith("POLICY_"), fault.line! > 1, fault.column! > 0]).toEqual([true, true, true]);
  });

  test("group members and names of tags, which come first", () => {
    const of =
      (source: string): (() => PolicyEngine) =>
      () =>
        compilePolicy(source);
    expect(of('{"groups": {"group:a": ["group:b"]}}')).toThrow(
      'groups["group:a"]: "group:b": group members cannot be recursive',
    );
    // The innermost first, also where they go round in a circle.
    expect(of('{"groups": {"group:a": ["group:b"], "group:b": ["group:c"], "group:c": []}}')).toThrow(
      'groups["group:b"]: "group:c": group members cannot be recursive',
    );
    expect(of('{"groups": {"group:a": ["group:b"], "group:b": ["group:a"]}}')).toThrow(
      'groups["group:b"]: "group:a": group members cannot be recursive',
    );
    expect(of('{"tagOwners": {"tag:1x": []}}')).toThrow(
      `tagOwners["tag:1x"]: tag names must start with a letter, after 'tag:'`,
    );
  });

  test("what the hosted service stumbles over is refused, in our words", () => {
    expect(refusal('"nodeAttrs": [{"target": ["autogroup:self"], "attr": ["a"]}]').message).toBe(
      '"autogroup:self" is not valid as a target',
    );
  });
});

test("the example of docs/policy.md is sound", () => {
  const text = readFileSync(path.join(import.meta.dirname, "../docs/policy.md"), "utf8");
  const example = /```jsonc\n(.*?)```/s.exec(text)![1]!;
  expect(() => compilePolicy(example)).not.toThrow();
});

test.each([
  grant("group:none", "tag:web"),
  '"grants": [{"src": ["*"], "dst": [], "ip": ["*"]}]',
  '"ssh": [{"action": "accept", "src": [], "dst": ["tag:web"], "users": ["root"]}]',
  ssh('"users": ["autogroup:internet", "tag:foo", "localpart:", "localpart:foo", "localpart:*@", "مستخدم"]'),
  ssh('"users": ["root"], "acceptEnv": ["**", "*X*", "X*Y"], "checkPeriod": "always"'),
  ssh('"users": ["root"], "checkPeriod": "1h30m0.5s"'),
  ssh('"users": ["root"], "checkPeriod": "0s"'),
  '"nodeAttrs": [{"target": ["*"]}]',
  '"nodeAttrs": [{"target": ["autogroup:admin"], "ipPool": ["100.81.0.0/16"], "app": {"tailscale.com/app-connectors": [{"name": "a"}]}}]',
  '"autoApprovers": {"routes": {"0.0.0.0/0": ["tag:web"]}, "exitNode": [], "services": {"svc:app": ["tag:web"], "tag:web": []}}',
  '"attrConfig": {"custom:tier": {"type": "number", "allowSetByNode": true}}, "derpMap": {}, "oneCGNATRoute": ""',
  '/* a comment */ "acls": [], // and one more\n',
])("CS-9: taken without complaint: %s", (members) => {
  expect(() => policy(members)).not.toThrow();
});

describe("CS-9: a policy's own tests", () => {
  const RULES = `"acls": [
    {"action": "accept", "src": ["group:ops"], "dst": ["tag:web:22,443", "far:53"]},
    {"action": "accept", "src": ["bob@example.org"], "dst": ["box:80"], "proto": "tcp"},
    {"action": "accept", "src": ["autogroup:member"], "dst": ["autogroup:self:22", "10.0.0.0/8:443"]}]`;
  const hold = (entry: string): boolean => {
    try {
      policy(`${RULES}, "tests": [${entry}]`);
      return true;
    } catch (thrown) {
      if (!(thrown instanceof Fault)) throw thrown;
      expect([thrown.message, thrown.code]).toEqual(["test(s) failed", "POLICY_TEST_FAILED"]);
      return false;
    }
  };
  test.each([
    ['{"src": "ada@example.com", "accept": ["tag:web:22"], "deny": ["tag:web:80", "tag:db:22"]}', true],
    ['{"src": "group:ops", "accept": ["tag:web:443"]}', true],
    ['{"src": "ada@example.com", "accept": ["far:53"]}', true], // a host outside the tailnet
    ['{"src": "bob@example.org", "accept": ["box:80"]}', true], // without proto, TCP alone will do
    ['{"src": "bob@example.org", "accept": ["box:80"], "proto": "udp"}', false],
    ['{"src": "bob@example.org", "accept": ["box:80"], "proto": "6"}', true],
    ['{"src": "bob@example.org", "accept": ["box:80"], "proto": "icmp"}', false],
    ['{"src": "bob@example.org", "deny": ["box:80"]}', false],
    ['{"src": "ada@example.com", "accept": ["autogroup:self:22"]}', true],
    ['{"src": "ada@example.com", "deny": ["autogroup:self:22"]}', false],
    ['{"src": "autogroup:member", "accept": ["tag:web:22"]}', false], // not all of them may
    ['{"src": "autogroup:member", "deny": ["tag:web:22"]}', false], // one of them may
    ['{"src": "bob@example.org", "accept": ["tag:web:80"]}', true], // by one of its addresses
    ['{"src": "bob@example.org", "deny": ["tag:web:80"]}', false],
    ['{"src": "ada@example.com"}', false],
    ['{"src": "ada@example.com", "accept": [], "deny": []}', false],
    ['{"src": "ada@example.com", "accept": ["tag:web:22,443"]}', false],
    ['{"src": "ada@example.com", "accept": ["tag:web:22-23"]}', false],
    ['{"src": "ada@example.com", "accept": ["tag:web:*"]}', false],
    ['{"src": "ada@example.com", "deny": ["tag:web:99999"]}', false],
    ['{"src": "ada@example.com", "deny": ["tag:web:-1"]}', false],
    ['{"src": "ada@example.com", "accept": ["10.0.0.0/8:443"]}', false],
    ['{"src": "ada@example.com", "accept": ["100.64.0.4/32:22"]}', false],
    ['{"src": "ada@example.com", "accept": ["wide:443"]}', false],
    ['{"src": "ada@example.com", "deny": ["autogroup:internet:443"]}', false],
    ['{"src": "ada@example.com", "deny": ["tag:none:22"]}', false],
    ['{"src": "ada@example.com", "deny": ["group:nobody:22"]}', false],
    ['{"src": "ghost@nowhere.invalid", "deny": ["tag:web:22"]}', false],
    [
      '{"src": "ada@example.com", "accept": ["tag:web:22"]}, {"src": "ada@example.com", "accept": ["tag:web:22"]}',
      true,
    ],
  ])("%s: %s", (entry, isHeld) => {
    expect(hold(entry)).toBe(isHeld);
  });
});

describe("CS-9: SSH", () => {
  const rule = (src: string, dst: string, users: string, action = "accept"): string =>
    `{"action": "${action}", "src": ["${src}"], "dst": ["${dst}"], "users": [${users}]}`;
  const wire = (rules: string, to: PolicyNode): readonly SshRule[] | undefined =>
    policy(`"ssh": [${rules}]`).sshFor(to, all);
  const from = (rules: readonly SshRule[] | undefined): string[] =>
    (rules ?? []).map(({ principals }) =>
      principals
        .map(({ nodeIP }) => nodeIP)
        .filter((ip) => !ip!.includes(":"))
        .join(),
    );

  test("a host is told of the sources that may log in there, and of no other", () => {
    expect(from(wire(rule("autogroup:member", "tag:web", '"root"'), web))).toEqual([
      "100.64.0.1,100.64.0.2,100.64.0.3",
    ]);
    expect(from(wire(rule("tag:db", "tag:web", '"root"'), web))).toEqual(["100.64.0.5"]);
    expect(from(wire(rule("tag:db", "tag:web", '"root"'), db))).toEqual([]);
    expect(from(wire(rule("autogroup:member", "autogroup:self", '"root"'), ada))).toEqual(["100.64.0.1,100.64.0.2"]);
    expect(from(wire(rule("autogroup:member", "autogroup:self", '"root"'), web))).toEqual([]);
    expect(from(wire(rule("autogroup:member", "ada@example.com", '"root"'), phone))).toEqual(["100.64.0.1,100.64.0.2"]);
    expect(from(wire(rule("tag:db", "autogroup:member", '"root"'), ada))).toEqual([]);
    expect(policy('"acls": []').sshFor(web, all)).toBeUndefined();
    expect(wire(rule("tag:db", "tag:web", '"root"'), ada)).toEqual([]);
  });

  test("as whom: root is refused unless it is named, nonroot is everybody else", () => {
    const users = (text: string): unknown =>
      wire(rule("bob@example.org", "tag:web", text), web)!.map(({ sshUsers }) => sshUsers);
    expect(users('"root"')).toEqual([{ root: "root" }]);
    expect(users('"ubuntu", "root"')).toEqual([{ root: "root", ubuntu: "ubuntu" }]);
    expect(users('"ubuntu"')).toEqual([{ root: "", ubuntu: "ubuntu" }]);
    expect(users('"autogroup:nonroot"')).toEqual([{ root: "", "*": "=" }]);
    expect(users('"tag:foo", "localpart:*@"')).toEqual([
      { root: "", "tag:foo": "tag:foo", "localpart:*@": "localpart:*@" },
    ]);
    expect(users('"localpart:*@example.com"')).toEqual([]); // of another domain
    const both = wire(rule("autogroup:member", "tag:web", '"localpart:*@example.com"'), web)!;
    expect(both.map(({ sshUsers }) => sshUsers)).toEqual([{ ada: "ada" }]);
  });

  test("with one's own name among others, each person has rules of their own: the others', then theirs", () => {
    const rules = wire(rule("autogroup:member", "tag:web", '"localpart:*@example.com", "ubuntu"'), web)!;
    const others = { root: "", ubuntu: "ubuntu" };
    expect(rules.map(({ sshUsers }) => sshUsers)).toEqual([others, { ada: "ada" }, others]);
    expect(from(rules)).toEqual(["100.64.0.1,100.64.0.2", "100.64.0.1,100.64.0.2", "100.64.0.3"]);
  });

  test("blanks around a name are none of it", () => {
    expect(wire(rule(" bob@example.org", "tag:web ", '" root", "\\tubuntu"', " accept"), web)).toEqual(
      wire(rule("bob@example.org", "tag:web", '"root", "ubuntu"'), web),
    );
  });

  test("check rules come first, and leave the verdict to the server", () => {
    const rules = wire(
      `${rule("bob@example.org", "tag:web", '"root"')}, ${rule("bob@example.org", "tag:web", '"root"', "check")}`,
      web,
    )!;
    expect(rules.map(({ action }) => Object.keys(action ?? {})[0])).toEqual(["holdAndDelegate", "accept"]);
    expect(rules[1]!.action).toEqual({
      accept: true,
      allowAgentForwarding: true,
      allowLocalPortForwarding: true,
      allowRemotePortForwarding: true,
    });
  });

  const RULES = `"ssh": [${rule("bob@example.org", "tag:web", '"root", "ubuntu"')}, ${rule("autogroup:member", "autogroup:self", '"autogroup:nonroot"')},
    ${rule("ada@example.com", "tag:db", '"root"', "check")}, ${rule("autogroup:member", "tag:db", '"localpart:*@example.com"')}]`;
  test.each([
    ['"src": "bob@example.org", "dst": ["tag:web"], "accept": ["root", "ubuntu"], "deny": ["admin"]', true],
    ['"src": "bob@example.org", "dst": ["100.64.0.4"], "accept": ["root"]', true],
    ['"src": "bob@example.org", "dst": ["box"], "accept": ["root"]', true],
    ['"src": "bob@example.org", "dst": ["six"], "accept": ["root"]', false],
    ['"src": "bob@example.org", "dst": ["tag:web"], "accept": ["admin"]', false],
    ['"src": "bob@example.org", "dst": ["tag:web"], "deny": ["root"]', false],
    ['"src": "bob@example.org", "dst": ["tag:db"], "deny": ["root"]', true],
    ['"src": "bob@example.org", "dst": ["tag:web"]', false],
    ['"src": "bob@example.org", "dst": ["tag:web"], "accept": [""]', false],
    ['"src": "bob@example.org", "dst": [], "deny": ["root"]', false],
    ['"src": "nobody@example.com", "dst": ["tag:web"], "deny": ["root"]', false],
    ['"src": "ada@example.com", "dst": ["ada@example.com"], "accept": ["alice"], "deny": ["root"]', true],
    ['"src": "ada@example.com", "dst": ["autogroup:self"], "accept": ["alice"]', true],
    ['"src": "ada@example.com", "dst": ["tag:db"], "check": ["root"]', true],
    ['"src": "ada@example.com", "dst": ["tag:db"], "accept": ["ada"], "deny": ["bob"]', true],
    ['"src": "bob@example.org", "dst": ["tag:db"], "accept": ["bob"]', false],
  ])("sshTests: %s: %s", (entry, isHeld) => {
    const run = (): PolicyEngine => policy(`${RULES}, "sshTests": [{${entry}}]`);
    if (isHeld) expect(run).not.toThrow();
    else expect(run).toThrow("test(s) failed");
  });
});
