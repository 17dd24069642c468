import { describe, expect, test } from "vitest";
import type { Authority } from "../../certs/acme/authority.ts";
import type { ChallengeSolver } from "../../certs/challenges/challenge.ts";
import type { DnsLookup } from "../../certs/challenges/dns-lookup.ts";
import { adviceText, certificateAdvice } from "./certificate-advice.ts";

const ACCOUNT = "https://acme-v02.api.letsencrypt.org/acme/acct/1";
const never = new AbortController().signal;
const solver = { type: "dns-01", canProve: (name: string) => name.endsWith("example.com") } as ChallengeSolver;
const authority = (id: string): Authority => ({ id, accountUrl: async () => ACCOUNT }) as unknown as Authority;
const silent: DnsLookup = { ask: () => Promise.reject(new Error("no answer")) };

describe("AC-15 advice on CAA", () => {
  test("nothing keeps others away: that is said, with the record that would", () => {
    const wanted = [`a.example.com. CAA 0 issue "letsencrypt.org; accounturi=${ACCOUNT}; validationmethods=dns-01"`];
    expect(adviceText("letsencrypt.org", { verdict: "allowed", foundAt: undefined, isBound: false, wanted })).toBe(
      `letsencrypt.org: may issue, there is no CAA record.
Whoever can answer for this name on the way, such as a relay, could get a certificate too.
Records that bind it to this gateway's account:
  ${wanted[0]}
`,
    );
  });

  test("bound to the account, there is nothing to do", () => {
    const advice = { verdict: "allowed", foundAt: "example.com", isBound: true, wanted: [] } as const;
    expect(adviceText("letsencrypt.org", advice)).toBe(
      "letsencrypt.org: may issue, by the CAA records of example.com.\nOnly the accounts and the kinds of proof that are named get a certificate.\n",
    );
  });

  test("records that forbid our CA", () => {
    const advice = { verdict: "forbidden", foundAt: "example.com", isBound: false, wanted: [] } as const;
    expect(adviceText("letsencrypt.org", advice)).toBe(
      "letsencrypt.org: must not issue, by the CAA records of example.com.\n",
    );
  });

  test("of every CA that is configured, and for names that can be proved", async () => {
    const options = { lookup: silent, authorities: [authority("letsencrypt"), authority("own")], solvers: [solver] };
    const text = await certificateAdvice("a.example.com", options, never);
    expect(text).toMatch(/^letsencrypt\.org: DNS does not answer for CAA, and then no CA issues\.\n/);
    expect(text).toContain(`issue "letsencrypt.org; accounturi=${ACCOUNT}; validationmethods=dns-01"`);
    expect(text).toMatch(/own: its documentation says what it is called in CAA records\.\n$/);
    expect(await certificateAdvice("a.example.org", options, never)).toMatch(/^No configured challenge can prove/);
  });
});
