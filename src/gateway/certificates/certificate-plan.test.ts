import { describe, expect, test } from "vitest";
import { PUBLIC_NAMES } from "../../wire/funnel.ts";
import type { CapMap } from "../../wire/tailcfg.ts";
import { certDomainsOf, certificatePlan, type PlanFacts, visitedNames } from "./certificate-plan.ts";

const OWN = "gw.tail.test";

function facts(members: Partial<PlanFacts> = {}): PlanFacts {
  return {
    settings: {},
    ownName: OWN,
    certDomains: [],
    ownWildcard: false,
    visited: [],
    served: [OWN],
    hasFile: () => false,
    ...members,
  };
}

const DNS = { type: "exec", command: ["hook"] } as const;

const table: readonly [what: string, given: Partial<PlanFacts>, wanted: unknown, internal: readonly string[]][] = [
  ["no server that answers challenges: the local CA", {}, [], [OWN]],
  ["before the first map", { ownName: "", served: [] }, [], []],
  ["a server that does", { certDomains: [OWN] }, [{ names: [OWN], when: "ahead" }], []],
  ["not served, but it may be asked for", { certDomains: [OWN], served: [] }, [{ names: [OWN], when: "needed" }], []],
  ["told to stay inside", { certDomains: [OWN], settings: { authority: "internal" } }, [], [OWN]],
  [
    "one name is to stay inside",
    { certDomains: [OWN], settings: { names: { [OWN]: { authority: "internal" } } } },
    [],
    [OWN],
  ],
  [
    "a domain of the operator's with a way to prove it",
    { served: ["app.example.com"], settings: { challenges: [DNS] } },
    [{ names: ["app.example.com"], when: "ahead" }],
    [],
  ],
  [
    "a domain that visitors reach here: by TLS through the ingress",
    { served: ["app.example.com"], visited: ["app.example.com"] },
    [{ names: ["app.example.com"], when: "ahead" }],
    [],
  ],
  [
    "which neither wildcards nor names of the mesh are proved by",
    { served: ["*.example.com", OWN], visited: ["*.example.com", OWN] },
    [],
    ["*.example.com", OWN],
  ],
  ["a domain without", { served: ["app.example.com"] }, [], ["app.example.com"]],
  [
    "what is no name keeps no other from its certificate",
    { served: ["gw", "{name}.x", "100.64.0.1", "ok.example.com"], settings: { challenges: [DNS] } },
    [{ names: ["ok.example.com"], when: "ahead" }],
    ["gw", "{name}.x", "100.64.0.1"],
  ],
  [
    "a way that is for another domain",
    { served: ["app.example.com"], settings: { challenges: [{ ...DNS, for: ["example.org", "ample.com"] }] } },
    [],
    ["app.example.com"],
  ],
  ["a way for everything is not for names of the mesh", { settings: { challenges: [DNS] } }, [], [OWN]],
  [
    "unless it says so",
    { settings: { challenges: [{ ...DNS, for: ["Tail.test"] }] } },
    [{ names: [OWN], when: "ahead" }],
    [],
  ],
  [
    "another node's name",
    { served: ["other.tail.test"], certDomains: [OWN] },
    [{ names: [OWN], when: "needed" }],
    ["other.tail.test"],
  ],
  [
    "a wildcard below our name, allowed",
    { served: [`*.${OWN}`], certDomains: [OWN], ownWildcard: true },
    [
      { names: [`*.${OWN}`], when: "ahead" },
      { names: [OWN], when: "needed" },
    ],
    [],
  ],
  [
    "a wildcard below our name that nothing serves may be asked for, as upstream has it",
    { certDomains: [OWN], ownWildcard: true },
    [
      { names: [OWN], when: "ahead" },
      { names: [`*.${OWN}`, OWN], when: "needed" },
    ],
    [],
  ],
  [
    "a wildcard below our name, not allowed",
    { served: [`*.${OWN}`], certDomains: [OWN] },
    [{ names: [OWN], when: "needed" }],
    [`*.${OWN}`],
  ],
  [
    "a wildcard of the whole mesh",
    { served: ["*.tail.test"], certDomains: [OWN], ownWildcard: true, settings: { challenges: [DNS] } },
    [
      { names: [OWN], when: "needed" },
      { names: [`*.${OWN}`, OWN], when: "needed" },
    ],
    ["*.tail.test"],
  ],
  [
    "a wildcard needs DNS",
    { served: ["*.example.com"], settings: { challenges: [{ type: "http-01" }, { type: "tls-alpn-01" }] } },
    [],
    ["*.example.com"],
  ],
  [
    "wildcard first: names below it do not become public",
    {
      served: ["a.example.com", "b.example.com", "example.com", "c.d.example.com"],
      settings: { challenges: [DNS], wildcards: ["example.com"] },
    },
    [
      { names: ["*.example.com", "example.com"], when: "ahead" },
      { names: ["c.d.example.com"], when: "ahead" },
    ],
    [],
  ],
  [
    "several names in one certificate, with its own key type",
    {
      served: ["www.example.com", "example.com"],
      settings: {
        challenges: [DNS],
        names: { "Example.com": { with: ["WWW.example.com"], keyType: "rsa", profile: "shortlived" } },
      },
    },
    [{ names: ["example.com", "www.example.com"], when: "ahead", keyType: "rsa", profile: "shortlived" }],
    [],
  ],
  [
    "a certificate for others to present",
    { served: [], settings: { challenges: [DNS], names: { "mail.example.com": { when: "ahead" } }, keyType: "rsa" } },
    [{ names: ["mail.example.com"], when: "ahead", keyType: "rsa" }],
    [],
  ],
  [
    "the operator's own file comes first",
    { served: ["app.example.com"], settings: { challenges: [DNS] }, hasFile: (name) => name === "app.example.com" },
    [],
    [],
  ],
];

describe("which certificate a name gets", () => {
  test.each(table)("%s", (_, given, wanted, internal) => {
    const plan = certificatePlan(facts(given));
    expect(plan.wanted).toEqual(wanted);
    expect([...plan.internal]).toEqual(internal);
  });
});

test("what becomes public is what is ordered without being asked, and nothing else", () => {
  const settings = { challenges: [DNS], wildcards: ["example.com"] };
  const plan = certificatePlan(facts({ settings, served: [OWN, "a.example.com"], certDomains: [OWN] }));
  expect(plan.published).toEqual(["*.example.com", "example.com", OWN]);
  expect(certificatePlan(facts({ settings: { authority: "internal" } })).published).toEqual([]);
});

test("a domain that cannot be proved is said to be so; the mesh's own name needs no word", () => {
  expect(certificatePlan(facts({ served: [OWN, "app.example.com"] })).unprovable).toEqual(["app.example.com"]);
  const internal = facts({ served: ["app.example.com"], settings: { authority: "internal" } });
  expect(certificatePlan(internal).unprovable).toEqual([]);
});

test("visitors reach what is public on 443 here, and what the server leads here too", () => {
  const AllowFunnel = {
    ...{
      "app.example.com:443": true,
      "App.Example.org:443": true,
      "a.example.net:443": true,
      "*.example.net:443": true,
    },
    ...{ "off.example.com:443": false, "odd.example.com:8443": true, "elsewhere.example.com:443": true },
  };
  const claim = (name: string, ...ports: number[]): unknown => ({ name, ports });
  const led = ["app.example.com", "app.example.org", "*.example.net", "off.example.com", "odd.example.com"];
  const claims = [...led.map((name) => claim(name, 443, 8443)), claim("elsewhere.example.com", 8443)];
  const names = visitedNames({ AllowFunnel }, { [PUBLIC_NAMES]: claims } as CapMap);
  expect(names).toEqual(["app.example.com", "app.example.org", "a.example.net"]);
  expect(visitedNames({ AllowFunnel }, undefined)).toEqual([]);
});

test("whatever the server lists, only names come of it, and not too many", () => {
  expect(certDomainsOf(undefined)).toEqual([]);
  expect(certDomainsOf(["GW.tail.test.", "", "gw", "../x", "*", "*.gw.tail.test", "a b.test", "1.2.3.4"])).toEqual([
    OWN,
    `*.${OWN}`,
  ]);
  expect(certDomainsOf(Array.from({ length: 10_000 }, (_, i) => `n${i}.tail.test`))).toHaveLength(100);
});
