import { describe, expect, test } from "vitest";
import { CLASS, CODE, type DnsRecord, encodeName, RECORD } from "../../wire/dns.ts";
import { caaData } from "../../wire/dns-data.ts";
import { caaAdvice } from "./caa.ts";
import type { DnsLookup } from "./dns-lookup.ts";

const never = new AbortController().signal;
const ACCOUNT = "https://acme-v02.api.letsencrypt.org/acme/acct/1";
const OURS = `letsencrypt.org; accounturi=${ACCOUNT}; validationmethods=dns-01`;

/** `0 issue "ca.example"`, as zone files have it; `SERVFAIL` and `SILENT` for a name that is not answered. */
type Zone = Readonly<Record<string, readonly string[] | "SERVFAIL" | "SILENT">>;

function lookupOf(zone: Zone): DnsLookup & { readonly asked: string[] } {
  const asked: string[] = [];
  return {
    asked,
    async ask(name, type) {
      asked.push(name);
      const found = zone[name] ?? [];
      if (found === "SILENT") throw new Error("no answer");
      const code = found === "SERVFAIL" ? CODE.SERVER_FAILURE : name in zone ? CODE.OK : CODE.NAME;
      const answers: DnsRecord[] = (found === "SERVFAIL" ? [] : found).map((text) => {
        const [, flags, tag, value] = /^(\d+) (\w+) "(.*)"$/.exec(text)!;
        const data = caaData({ isCritical: flags === "128", tag: tag!, value: value! });
        return { name, type, class: CLASS.IN, ttl: 60, data };
      });
      return { id: 1, flags: 0x8000 | code, questions: [], answers, authority: [], additional: [] };
    },
  };
}

const ask = (zone: Zone, name = "www.example.com", more: object = {}) =>
  caaAdvice(
    lookupOf(zone),
    { name, issuers: ["letsencrypt.org"], accountUri: ACCOUNT, methods: ["dns-01"], ...more },
    never,
  );

describe("AC-15", () => {
  test.each<[string, Zone, string, "allowed" | "forbidden" | "unknown", boolean, string | undefined]>([
    ["no record: everybody may", {}, "www.example.com", "allowed", false, undefined],
    ["our CA", { "example.com": ['0 issue "letsencrypt.org"'] }, "www.example.com", "allowed", false, "example.com"],
    ["any case", { "example.com": ['0 ISSUE "LetsEncrypt.org"'] }, "example.com", "allowed", false, "example.com"],
    ["bound", { "www.example.com": [`0 issue "${OURS}"`] }, "www.example.com", "allowed", true, "www.example.com"],
    [
      "bound, and others not at all",
      { "example.com": [`0 issue "${OURS}"`, '0 issue ";"'] },
      "example.com",
      "allowed",
      true,
      "example.com",
    ],
    [
      "bound, but another CA is not",
      { "example.com": [`0 issue "${OURS}"`, '0 issue "ca.example"'] },
      "example.com",
      "allowed",
      false,
      "example.com",
    ],
    [
      "the nearest counts",
      { "example.com": ['0 issue "ca.example"'], "www.example.com": [`0 issue "${OURS}"`] },
      "www.example.com",
      "allowed",
      true,
      "www.example.com",
    ],
    [
      "another CA only",
      { "example.com": ['0 issue "ca.example"'] },
      "www.example.com",
      "forbidden",
      false,
      "example.com",
    ],
    ["nobody", { com: ['0 issue ";"'] }, "www.example.com", "forbidden", true, "com"],
    [
      "another account",
      { "example.com": ['0 issue "letsencrypt.org; accounturi=https://x.example/1"'] },
      "example.com",
      "forbidden",
      false,
      "example.com",
    ],
    [
      "another method",
      { "example.com": ['0 issue "letsencrypt.org;validationmethods=http-01"'] },
      "example.com",
      "forbidden",
      false,
      "example.com",
    ],
    [
      "one of our methods",
      { "example.com": ['0 issue "letsencrypt.org;validationmethods=http-01,dns-01"'] },
      "example.com",
      "allowed",
      false,
      "example.com",
    ],
    [
      "an account twice",
      { "example.com": [`0 issue "letsencrypt.org;accounturi=${ACCOUNT};accounturi=${ACCOUNT}"`] },
      "example.com",
      "forbidden",
      true,
      "example.com",
    ],
    [
      "parameters that are none",
      { "example.com": ['0 issue "letsencrypt.org; %%%"'] },
      "example.com",
      "forbidden",
      true,
      "example.com",
    ],
    [
      "only where to complain",
      { "example.com": ['0 iodef "mailto:a@example.com"'] },
      "example.com",
      "allowed",
      false,
      "example.com",
    ],
    [
      "a critical tag nobody knows",
      { "example.com": ['128 tbs "Unknown"', '0 issue "letsencrypt.org"'] },
      "example.com",
      "forbidden",
      false,
      "example.com",
    ],
    [
      "an unknown tag",
      { "example.com": ['0 tbs "Unknown"', '0 issue "letsencrypt.org"'] },
      "example.com",
      "allowed",
      false,
      "example.com",
    ],
    ["a wildcard by issue", { "example.com": [`0 issue "${OURS}"`] }, "*.example.com", "allowed", true, "example.com"],
    [
      "a wildcard by issuewild",
      { "example.com": [`0 issue "${OURS}"`, '0 issuewild ";"'] },
      "*.example.com",
      "forbidden",
      true,
      "example.com",
    ],
    [
      "issuewild is nothing to a plain name",
      { "example.com": ['0 issuewild "letsencrypt.org"'] },
      "example.com",
      "allowed",
      false,
      "example.com",
    ],
    ["SERVFAIL stops issuance", { "www.example.com": "SERVFAIL" }, "www.example.com", "unknown", false, undefined],
    ["SERVFAIL above too", { "example.com": "SERVFAIL" }, "www.example.com", "unknown", false, undefined],
    ["silence", { "www.example.com": "SILENT" }, "www.example.com", "unknown", false, undefined],
  ])("%s", async (_name, zone, name, verdict, isBound, foundAt) => {
    const advice = await ask(zone, name);
    expect(advice).toMatchObject({ verdict, isBound, foundAt });
    expect(advice.wanted.length > 0).toBe(!(verdict === "allowed" && isBound));
  });

  test("the record to add binds the name to our account and our challenges", async () => {
    expect((await ask({})).wanted).toEqual([`www.example.com. CAA 0 issue "${OURS}"`]);
    expect((await ask({}, "*.example.com")).wanted).toEqual([
      `example.com. CAA 0 issue "${OURS}"`,
      `example.com. CAA 0 issuewild "${OURS}"`,
    ]);
    const early = await ask({}, "example.com", { accountUri: undefined, methods: ["dns-01", "tls-alpn-01"] });
    expect(early.wanted[0]).toMatch(/accounturi=<the account's URL, .*>; validationmethods=dns-01,tls-alpn-01"$/);
  });

  test("what was advised is found to be right when it is there", async () => {
    const { wanted } = await ask({}, "*.example.com");
    const records = wanted.map((line) => line.replace("example.com. CAA ", ""));
    expect(await ask({ "example.com": records }, "*.example.com")).toMatchObject({ isBound: true, wanted: [] });
  });

  test("climbs one label at a time, and not to the root", async () => {
    const lookup = lookupOf({});
    await caaAdvice(lookup, { name: "*.a.b.example.com", issuers: ["x"], methods: [] }, never);
    expect(lookup.asked).toEqual(["a.b.example.com", "b.example.com", "example.com", "com"]);
  });

  test("records behind a CNAME are the name's own", async () => {
    const cname = { name: "www.example.com", type: RECORD.CNAME, class: CLASS.IN, ttl: 1, data: encodeName("x.test")! };
    const caa = {
      ...cname,
      name: "x.test",
      type: RECORD.CAA,
      data: caaData({ isCritical: false, tag: "issue", value: ";" }),
    };
    const lookup: DnsLookup = {
      ask: async () => ({ id: 1, flags: 0x8000, questions: [], answers: [cname, caa], authority: [], additional: [] }),
    };
    const advice = await caaAdvice(
      lookup,
      { name: "www.example.com", issuers: ["letsencrypt.org"], methods: [] },
      never,
    );
    expect(advice.verdict).toBe("forbidden");
  });

  test("a record that does not parse forbids: it may be one that does", async () => {
    const bad = { name: "example.com", type: RECORD.CAA, class: CLASS.IN, ttl: 1, data: Uint8Array.of(0, 200, 65) };
    const lookup: DnsLookup = {
      ask: async () => ({ id: 1, flags: 0x8000, questions: [], answers: [bad], authority: [], additional: [] }),
    };
    const advice = await caaAdvice(lookup, { name: "example.com", issuers: ["letsencrypt.org"], methods: [] }, never);
    expect(advice.verdict).toBe("forbidden");
  });
});
