import { chmodSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import {
  type AskedRequest,
  acmeDns,
  cloudflare,
  openStandIn,
  route53,
  type StandIn,
  type Texts,
} from "../../../../test/suites/provider-stand-ins.ts";
import { scratchFolder } from "../../../../test/suites/scratch.ts";
import { FakeClock, systemClock } from "../../../base/clock.ts";
import { Fault } from "../../../base/fault.ts";
import { seededRandom } from "../../../base/random.ts";
import type { DnsLookup } from "../dns-lookup.ts";
import { awsHeaders } from "./aws-signature.ts";
import { type DnsProviderSettings, dnsProvider, type ProviderSurroundings } from "./provider.ts";
import { secretOf } from "./secret.ts";

const SECRETS = { CF: "cf-token-8d1f", AWS_ID: "AKIDEXAMPLE", AWS_KEY: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY" };
const RECORD = "_acme-challenge.www.example.com";
const VALUE = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0";
const OTHER = "9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI";
const never = new AbortController().signal;

const lookup: DnsLookup = {
  ask: () => Promise.reject(new Fault("CERT_DNS_SILENT", "nobody is asked here")),
};
const around = (more: Partial<ProviderSurroundings> = {}): ProviderSurroundings => ({
  ...{ lookup, clock: new FakeClock(), random: seededRandom(1), fetch, env: SECRETS },
  writeFile: async (file, text) => writeFileSync(file, text, { mode: 0o600 }),
  ...more,
});

const opened: StandIn[] = [];
const scratch = scratchFolder();
afterEach(async () => {
  for (const standIn of opened.splice(0)) await standIn.close();
});
async function serve(answer: Parameters<typeof openStandIn>[0]): Promise<StandIn> {
  const standIn = await openStandIn(answer);
  opened.push(standIn);
  return standIn;
}

const zones = { "example.com": "Z1", "other.example": "Z2" };
const services: Readonly<Record<string, (texts: Texts) => Promise<[StandIn, DnsProviderSettings]>>> = {
  async Cloudflare(texts) {
    const standIn = await serve(cloudflare(SECRETS.CF, zones, texts));
    return [standIn, { type: "cloudflare", token: "env:CF", api: standIn.url }];
  },
  async "Route 53"(texts) {
    const standIn = await serve(route53(SECRETS.AWS_ID, zones, texts));
    return [standIn, { type: "route53", accessKeyId: "env:AWS_ID", secretAccessKey: "env:AWS_KEY", api: standIn.url }];
  },
};

describe.each(Object.keys(services))("%s", (name) => {
  const open = async (texts: Texts) => {
    const [standIn, settings] = await services[name]!(texts);
    return { standIn, provider: dnsProvider(settings, around()) };
  };
  /** Also where a value never stood. */
  const shown = (texts: Texts): readonly string[] => texts.get(RECORD) ?? [];

  test("AC-11 two values stand side by side and go one by one; what others wrote stays", async () => {
    const texts: Texts = new Map([["zzz.example.com", ["foreign"]]]);
    const { provider } = await open(texts);
    await provider.set(RECORD, VALUE, never);
    await provider.set(RECORD, OTHER, never);
    expect(shown(texts).toSorted()).toEqual([OTHER, VALUE]);
    await provider.remove(RECORD, VALUE, never);
    expect(shown(texts)).toEqual([OTHER]);
    await provider.remove(RECORD, OTHER, never);
    expect(shown(texts)).toEqual([]);
    expect(texts.get("zzz.example.com")).toEqual(["foreign"]);
  });

  test("setting what is there, and removing what is not, are no errors", async () => {
    const texts: Texts = new Map();
    const { provider } = await open(texts);
    await provider.remove(RECORD, VALUE, never);
    await provider.set(RECORD, VALUE, never);
    await provider.set(RECORD, VALUE, never);
    expect(shown(texts)).toEqual([VALUE]);
  });

  test("a zone that the key does not see is said so", async () => {
    const { provider } = await open(new Map());
    const set = provider.set("_acme-challenge.www.elsewhere.test", VALUE, never);
    await expect(set).rejects.toMatchObject({ code: "CERT_CHALLENGE_ZONE" });
  });

  test.each<[string, (request: AskedRequest) => { status: number; body: string; headers?: Record<string, string> }]>([
    ["a refusal", () => ({ status: 403, body: '{"success":false,"errors":[{"code":1,"message":"no"}]}' })],
    ["nonsense", () => ({ status: 200, body: "<html>captive portal</html>" })],
    ["an empty answer", () => ({ status: 500, body: "" })],
    ["JSON that is none of its", () => ({ status: 200, body: "null" })],
    ["a redirect", () => ({ status: 302, body: "", headers: { location: "http://127.0.0.1:1/" } })],
    ["two megabytes", () => ({ status: 200, body: "x".repeat(2 << 20) })],
  ])("%s: a fault that says no secret", async (_name, instead) => {
    const { standIn, provider } = await open(new Map());
    standIn.instead = instead;
    const fault = await provider.set(RECORD, VALUE, never).catch((error: unknown) => error as Fault);
    expect(fault).toBeInstanceOf(Fault);
    expect((fault as Fault).code).toMatch(/^CERT_CHALLENGE_(PROVIDER|ZONE)$/);
    const text = `${(fault as Fault).message} ${(fault as Fault).hint}`;
    for (const secret of Object.values(SECRETS)) expect(text).not.toContain(secret);
    expect(text.length).toBeLessThan(600);
  });

  test("the secret is in a header and nowhere else", async () => {
    const { standIn, provider } = await open(new Map());
    await provider.set(RECORD, VALUE, never);
    for (const { path: asked, body } of standIn.requests) {
      for (const secret of Object.values(SECRETS)) expect(asked + body).not.toContain(secret);
    }
  });

  test("nobody there: a fault; a stop: at once", async () => {
    const { standIn, provider } = await open(new Map());
    await standIn.close();
    opened.length = 0;
    await expect(provider.set(RECORD, VALUE, never)).rejects.toMatchObject({ code: "CERT_CHALLENGE_PROVIDER" });
    const stopped = AbortSignal.abort(new Error("stop"));
    await expect(provider.set(RECORD, VALUE, stopped)).rejects.toThrow("stop");
  });
});

test("Route 53: a set that changed between reading and writing is read again", async () => {
  const texts: Texts = new Map();
  const [standIn, settings] = await services["Route 53"]!(texts);
  const provider = dnsProvider(settings, around());
  let isFirst = true;
  standIn.instead = ({ method }) => {
    if (method === "POST" && isFirst) {
      isFirst = false;
      texts.set(RECORD, [OTHER]); // another gateway was quicker
    }
    return undefined;
  };
  await provider.set(RECORD, VALUE, never);
  expect(texts.get(RECORD)).toEqual([OTHER, VALUE]);
});

describe("AWS Signature Version 4", () => {
  // Of AWS's test suite (aws-sig-v4-test-suite).
  const credentials = { accessKeyId: "AKIDEXAMPLE", secretAccessKey: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY" };
  const at = { region: "us-east-1", service: "service", body: "", wall: Date.UTC(2015, 7, 30, 12, 36) };
  test.each([
    ["get-vanilla", "GET", "/", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"],
    ["post-vanilla", "POST", "/", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"],
    [
      "get-vanilla-query-order-key-case",
      "GET",
      "/?Param2=value2&Param1=value1",
      "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    ],
  ])("%s", (_name, method, target, signature) => {
    const url = `https://example.amazonaws.com${target}`;
    expect(awsHeaders({ ...at, method, url }, credentials)).toEqual({
      "x-amz-date": "20150830T123600Z",
      authorization: `AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, Signature=${signature}`,
    });
  });

  test("a session's token is signed too", () => {
    const url = "https://example.amazonaws.com/";
    const headers = awsHeaders({ ...at, method: "GET", url }, { ...credentials, sessionToken: "token" });
    expect(headers["x-amz-security-token"]).toBe("token");
    expect(headers["authorization"]).toContain("SignedHeaders=host;x-amz-date;x-amz-security-token,");
  });
});

describe("acme-dns", () => {
  const open = async () => {
    const texts: Texts = new Map();
    const standIn = await serve(acmeDns(texts));
    const folder = mkdtempSync(`${scratch}/acme-dns-`);
    const registrations = path.join(folder, "acme-dns.json");
    const provider = dnsProvider({ type: "acme-dns", api: `${standIn.url}/`, registrations }, around());
    return { texts, standIn, registrations, provider };
  };

  test("a name is registered once, and the operator is told the CNAME to write; then it is proved", async () => {
    const { texts, standIn, registrations, provider } = await open();
    for (let i = 0; i < 2; i++) {
      await expect(provider.set(RECORD, VALUE, never)).rejects.toMatchObject({
        code: "CERT_CHALLENGE_ALIAS",
        hint: "Add this record and leave it there: _acme-challenge.www.example.com. CNAME sub-1.auth.example.org.",
      });
    }
    expect(standIn.requests.length).toBe(1);
    expect(Object.keys(JSON.parse(readFileSync(registrations, "utf8")) as object)).toEqual(["www.example.com"]);
    await provider.set("sub-1.auth.example.org", VALUE, never);
    await provider.set("sub-1.auth.example.org", OTHER, never);
    await provider.remove("sub-1.auth.example.org", VALUE, never);
    expect(texts.get("sub-1.auth.example.org")).toEqual([VALUE, OTHER]);
  });

  test("two names at once are both kept", async () => {
    const { registrations, provider } = await open();
    const records = [RECORD, "_acme-challenge.example.com"];
    await Promise.allSettled(records.map((record) => provider.set(record, VALUE, never)));
    const kept = Object.keys(JSON.parse(readFileSync(registrations, "utf8")) as object);
    expect(kept.toSorted()).toEqual(["example.com", "www.example.com"]);
  });

  test.each(["[]", "null", "{", '{"a":5}', '{"a":{"username":"u"}}'])(
    "a file of %s is not overwritten",
    async (text) => {
      const { registrations, provider } = await open();
      writeFileSync(registrations, text);
      await expect(provider.set(RECORD, VALUE, never)).rejects.toMatchObject({ code: "CERT_CHALLENGE_SECRET" });
      expect(readFileSync(registrations, "utf8")).toBe(text);
    },
  );
});

describe("exec", () => {
  const hook = (script: string): [string, ...string[]] => {
    const file = path.join(mkdtempSync(`${scratch}/hook-`), "hook");
    writeFileSync(file, `#!/bin/sh\n${script}\n`);
    chmodSync(file, 0o755);
    return [file, "$(touch /tmp/never) ; a b"];
  };
  const run = (script: string, more: Partial<ProviderSurroundings> = {}, timeoutMs = 30_000) =>
    dnsProvider({ type: "exec", command: hook(script), timeoutMs }, around({ clock: systemClock, ...more }));

  test("is told by its environment; no shell reads its arguments", async () => {
    const out = path.join(mkdtempSync(`${scratch}/hook-`), "out");
    const line = `echo "$# $1|$SALLYPORT_DNS_ACTION|$SALLYPORT_DNS_RECORD|$SALLYPORT_DNS_VALUE|$OWN" >> ${out}`;
    const provider = run(line, { env: { PATH: process.env["PATH"], OWN: "its own secret" } });
    await provider.set(RECORD, VALUE, never);
    await provider.remove(RECORD, VALUE, never);
    const start = "1 $(touch /tmp/never) ; a b";
    expect(readFileSync(out, "utf8").split("\n")).toEqual([
      `${start}|present|${RECORD}|${VALUE}|its own secret`,
      `${start}|remove|${RECORD}|${VALUE}|its own secret`,
      "",
    ]);
  });

  test("another status is a fault with the end of what it said", async () => {
    const fault = await run("echo zone is locked >&2; exit 3")
      .set(RECORD, VALUE, never)
      .catch((error: unknown) => error);
    expect(fault).toMatchObject({ code: "CERT_CHALLENGE_HOOK", message: expect.stringContaining("zone is locked") });
  });

  test("one that talks without end, or hangs, is ended, with what it started", { timeout: 60_000 }, async () => {
    const clock = new FakeClock();
    const loud = run("while :; do echo aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; done", { clock });
    const set = loud.set(RECORD, VALUE, never);
    clock.advance(30_000);
    await expect(set).rejects.toMatchObject({ code: "CERT_CHALLENGE_HOOK", message: expect.stringContaining("30 s") });
    const stop = new AbortController();
    const hanging = run("sleep 1000 & wait", { clock }).set(RECORD, VALUE, stop.signal);
    stop.abort(new Error("closed"));
    await expect(hanging).rejects.toThrow("closed");
  });

  test("a program that is not there", async () => {
    const provider = dnsProvider({ type: "exec", command: ["/nonexistent/hook"] }, around());
    await expect(provider.set(RECORD, VALUE, never)).rejects.toMatchObject({ code: "CERT_CHALLENGE_HOOK" });
  });
});

describe("secrets", () => {
  test("come from a file or the environment, read when used", async () => {
    const file = path.join(mkdtempSync(`${scratch}/secret-`), "token");
    const secret = secretOf(`file:${file}`);
    await expect(secret()).rejects.toMatchObject({ code: "CERT_CHALLENGE_SECRET" });
    for (const text of ["first", "second"]) {
      writeFileSync(file, `${text}\n`);
      expect(await secret()).toBe(text);
    }
    expect(await secretOf("env:X", { X: " y " })()).toBe("y");
    await expect(secretOf("env:X", {})()).rejects.toMatchObject({ code: "CERT_CHALLENGE_SECRET" });
  });

  test("a secret in place of its place is refused and not repeated", () => {
    for (const text of ["hunter2-in-the-file", "file:", "http://x", ""]) {
      const make = () => secretOf(text);
      expect(make).toThrow(expect.objectContaining({ code: "CERT_CHALLENGE_SECRET" }));
      expect(make).not.toThrow(/hunter2/);
    }
  });
});
