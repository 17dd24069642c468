import type { ServerResponse } from "node:http";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { authorityAt, never, orderOf, startCa } from "../../../test/acme-ca/customer.ts";
import { hastyClock } from "../../../test/acme-ca/hasty-clock.ts";
import type { CaAnswer, CaRequest } from "../../../test/acme-ca/resources.ts";
import { Shown } from "../../../test/acme-ca/shown.ts";
import { Fault } from "../../base/fault.ts";
import { newCertificateKey } from "../certificate-key.ts";

const NAME = ["a.example.com"];
const DAY_MS = 86_400_000;
const json = (body: object, headers: Record<string, string> = {}): CaAnswer => ({ status: 200, headers, body });
const at = (resource: string, answer: CaAnswer) => (request: CaRequest) =>
  request.resource === resource ? answer : undefined;
const html: CaAnswer = { status: 200, headers: { "content-type": "text/html" }, body: "<h1>It works</h1>" };
const location = { location: "http://127.0.0.1:9/order/1" };
const order = {
  status: "pending",
  identifiers: [{ type: "dns", value: "a.example.com" }],
  authorizations: [],
  finalize: "https://other.example.com/finalize",
};
const problem = (status: number, body: object, headers: Record<string, string> = {}): CaAnswer => {
  return { status, headers: { "content-type": "application/problem+json", ...headers }, body };
};

/** What a CA may say, and the code of the fault that it becomes. */
const table: readonly [string, (request: CaRequest) => CaAnswer | undefined, string][] = [
  [
    "a directory that leads to http",
    at("directory", { status: 302, headers: { location: "http://a.example/" } }),
    "CERT_ORDER_NONSENSE",
  ],
  ["HTML in place of the directory", at("directory", html), "CERT_ORDER_NONSENSE"],
  [
    "a directory that is null",
    at("directory", { status: 200, headers: { "content-type": "application/json" }, body: "null" }),
    "CERT_ORDER_NONSENSE",
  ],
  [
    "a directory that is cut off",
    at("directory", { status: 200, headers: { "content-type": "application/json" }, body: '{"new' }),
    "CERT_ORDER_NONSENSE",
  ],
  [
    "a directory with numbers for URLs",
    at("directory", json({ newNonce: 1, newAccount: 2, newOrder: 3 })),
    "CERT_ORDER_NONSENSE",
  ],
  [
    "a directory on another origin",
    at(
      "directory",
      json({ newNonce: "https://a.example/n", newAccount: "https://a.example/a", newOrder: "https://a.example/o" }),
    ),
    "CERT_ORDER_NONSENSE",
  ],
  [
    "a file for a nonce",
    at("directory", json({ newNonce: "file:///etc/passwd", newAccount: "x", newOrder: "" })),
    "CERT_ORDER_NONSENSE",
  ],
  ["no nonce", at("newNonce", { status: 200, headers: { "replay-nonce": "" } }), "CERT_ORDER_NONSENSE"],
  ["HTML in place of an account", at("newAccount", html), "CERT_ORDER_NONSENSE"],
  ["an account without Location", at("newAccount", { status: 201, body: { status: "valid" } }), "CERT_ORDER_NONSENSE"],
  ["a problem without a type", at("newAccount", problem(400, { detail: "no" })), "CERT_ORDER_REFUSED"],
  ["a problem that is a list", at("newAccount", problem(400, [1, 2])), "CERT_ORDER_REFUSED"],
  [
    "a problem with wrong members",
    at("newAccount", problem(400, { type: 1, detail: {}, subproblems: [null, 3] })),
    "CERT_ORDER_REFUSED",
  ],
  ["an error in HTML", at("newOrder", { ...html, status: 500 }), "CERT_ORDER_UNREACHABLE"],
  ["an order without Location", at("newOrder", { status: 201, body: order }), "CERT_ORDER_NONSENSE"],
  [
    "an order on another origin",
    at("newOrder", { status: 201, headers: location, body: order }),
    "CERT_ORDER_NONSENSE",
  ],
  ["an order that is text", at("newOrder", { status: 201, headers: location, body: "ok" }), "CERT_ORDER_NONSENSE"],
  [
    "an order for other names",
    at("newOrder", { status: 201, headers: location, body: { ...order, identifiers: [] } }),
    "CERT_ORDER_NONSENSE",
  ],
  [
    "an order with 5,000 proofs",
    at("newOrder", {
      status: 201,
      headers: location,
      body: { ...order, authorizations: Array(5000).fill("https://a.example/") },
    }),
    "CERT_ORDER_NONSENSE",
  ],
  [
    "a redirect after POST",
    at("newOrder", { status: 307, headers: { location: "http://a.example/" } }),
    "CERT_ORDER_NONSENSE",
  ],
  [
    "a proof on another origin",
    at("newOrder", { status: 201, headers: location, body: { ...order, authorizations: ["https://a.example/"] } }),
    "CERT_ORDER_NONSENSE",
  ],
  [
    "a proof that is a number",
    at("authz", { status: 200, headers: { "content-type": "application/json" }, body: "17" }),
    "CERT_ORDER_NONSENSE",
  ],
  ["an order in a state of its own", at("order", json({ ...order, status: "thinking" })), "CERT_ORDER_NONSENSE"],
  ["an order without a certificate", at("order", json({ ...order, status: "valid" })), "CERT_ORDER_NONSENSE"],
  ["HTML in place of a certificate", at("certificate", html), "CERT_ORDER_NONSENSE"],
  ["a certificate that is JSON", at("certificate", json({ certificate: "yes" })), "CERT_ORDER_NONSENSE"],
  [
    "a connection that breaks",
    at("newOrder", { status: 200, body: (response) => response.destroy() }),
    "CERT_ORDER_UNREACHABLE",
  ],
];

describe("AC-12 a hostile CA gets a fault out of us and nothing else", () => {
  test.each(table)("%s", async (_, instead, code) => {
    const ca = await startCa();
    ca.instead = instead;
    const shown = new Shown("dns-01");
    const failure = authorityAt(ca).issue(await orderOf(NAME, { solvers: [shown] }), never);
    const fault = await failure.then(
      () => undefined,
      (error: unknown) => error,
    );
    expect(fault).toBeInstanceOf(Fault);
    expect(fault).toMatchObject({ code });
    expect(shown.now.size).toBe(0);
  });

  test("an order flips from valid to invalid between two looks", async () => {
    const ca = await startCa();
    let looks = 0;
    ca.instead = ({ resource }) => {
      if (resource === "certificate") return problem(404, { detail: "gone" });
      return resource === "order" && ++looks > 2
        ? json({ ...order, status: "invalid", finalize: ca.directory, error: { detail: "changed our mind" } })
        : undefined;
    };
    const [first, clock] = [await orderOf(NAME), hastyClock()];
    await expect(authorityAt(ca, { clock }).issue(first, never)).rejects.toBeInstanceOf(Fault);
    await expect(
      authorityAt(ca, { clock }).issue({ ...first, progress: first.saved.at(-1)! }, never),
    ).rejects.toMatchObject({ code: "CERT_ORDER_INVALID" });
  });

  test.each([
    ["a gigabyte", "CERT_ORDER_UNREACHABLE"],
    ["a gigabyte of JSON", "CERT_ORDER_UNREACHABLE"],
  ])("%s is not read", async (form, code) => {
    const ca = await startCa();
    let written = 0;
    const closed = Promise.withResolvers<void>();
    ca.instead = at("directory", {
      status: 200,
      headers: form.endsWith("JSON") ? { "content-type": "application/json" } : {},
      body: (response) => {
        response.on("close", closed.resolve);
        pour(response, (bytes) => {
          written += bytes;
        });
      },
    });
    await expect(authorityAt(ca).accountUrl(never)).rejects.toMatchObject({ code });
    await closed.promise;
    expect(written).toBeLessThan(64 * 1024 * 1024); // what fits into the buffers of two sockets, not more
  });

  test("an answer that drips is not waited for", async () => {
    const ca = await startCa();
    ca.instead = at("directory", { status: 200, body: (response) => response.write("{") });
    await expect(authorityAt(ca, { requestLimit: 200 }).accountUrl(never)).rejects.toMatchObject({
      code: "CERT_ORDER_UNREACHABLE",
      message: expect.stringContaining("no answer in 0.2 s"),
    });
  });

  test("what is no HTTP at all", async () => {
    const ca = await startCa();
    ca.instead = at("directory", { status: 200, body: ({ socket }) => socket?.end("SSH-2.0-OpenSSH_10.0\r\n") });
    await expect(authorityAt(ca).accountUrl(never)).rejects.toMatchObject({ code: "CERT_ORDER_UNREACHABLE" });
  });

  test("words that paint the terminal stand as plain words on one line", async () => {
    const ca = await startCa();
    ca.instead = at("newOrder", problem(400, { detail: `\u001b[2J\r\nlevel=error ${"x".repeat(5000)}` }));
    const failure = authorityAt(ca).issue(await orderOf(NAME), never);
    const { message } = await failure.then(
      () => new Error("issued"),
      (error: Error) => error,
    );
    expect(message).toMatch(/^Cannot go on at "127\.0\.0\.1:\d+": 400: \[2J level=error x+ …$/);
    expect(message.length).toBeLessThan(400);
  });

  test("a chain with a private key in it, or one for another key, is not taken", async () => {
    const key = await newCertificateKey();
    for (const spoil of [(chain: string) => chain + key, (chain: string) => chain.repeat(6)]) {
      const ca = await startCa();
      ca.instead = ({ resource }) => {
        const chain = ca.orders[0]?.issued?.chain;
        return resource === "certificate" && chain !== undefined ? { status: 200, body: spoil(chain) } : undefined;
      };
      await expect(authorityAt(ca).issue(await orderOf(NAME), never)).rejects.toMatchObject({
        code: "CERT_ORDER_NONSENSE",
      });
    }
  });
});

describe("AC-12 whatever a CA answers", () => {
  const resources = "directory newNonce newAccount newOrder order authz challenge finalize certificate".split(" ");
  const answer = fc.record({
    status: fc.constantFrom(200, 200, 201, 204, 302, 400, 403, 404, 409, 429, 500, 503),
    headers: fc.record(
      {
        "content-type": fc.constantFrom("application/json", "application/problem+json", "text/html"),
        location: fc.constantFrom("", "/", "http://127.0.0.1/", "https://a.example/", "file:///etc/passwd"),
        "retry-after": fc.constantFrom("0", "-1", "1e9", "9999999999", "Fri, 31 Dec 9999 23:59:59 GMT"),
        "replay-nonce": fc.constantFrom("", "a", "@@@", "a".repeat(1000)),
        link: fc.constantFrom("<>;rel=alternate", '<https://a.example/>;rel="alternate"', ",,,;;;", "<".repeat(500)),
      },
      { requiredKeys: [] },
    ),
    body: fc.oneof(
      fc.json(),
      fc
        .record({ status: fc.constantFrom("valid", "pending", "ready", "invalid", "x"), url: fc.string() })
        .map((body) => JSON.stringify(body)),
      fc.constantFrom("", "null", "[]", "{}", '{"__proto__":{"status":"valid"}}', "-----BEGIN CERTIFICATE-----\n"),
    ),
  });

  test("it ends in a certificate or in a fault", { timeout: 120_000 }, async () => {
    const ca = await startCa();
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...resources),
        fc.array(answer, { minLength: 1, maxLength: 3 }),
        async (resource, answers) => {
          const left = [...answers];
          ca.instead = (request) => (request.resource === resource ? left.shift() : undefined);
          const shown = new Shown("dns-01");
          const outcome = authorityAt(ca).issue(await orderOf(NAME, { solvers: [shown] }), never);
          const found = await outcome.catch((error: unknown) => error);
          if (found instanceof Error) expect(found).toBeInstanceOf(Fault);
          expect(shown.now.size).toBe(0);
        },
      ),
      { numRuns: 50 },
    );
  });
});

describe("a CA that asks for patience", () => {
  test.each([
    ["seconds", 429, "120", 120_000],
    ["a date", 503, new Date(Date.now() + 3_600_000).toUTCString(), 3_600_000],
    ["years", 429, String(10 * 365 * 86_400), 7 * DAY_MS],
    ["more than numbers hold", 503, "9".repeat(400), undefined],
    ["the past", 429, "Thu, 01 Jan 1970 00:00:00 GMT", 0],
    ["words", 503, "soon", undefined],
    ["nothing", 429, "", undefined],
  ])("AC-5 Retry-After in %s stands on the fault", async (_, status, value, expected) => {
    const ca = await startCa();
    const type = "urn:ietf:params:acme:error:rateLimited";
    const body = status === 429 ? { type, detail: "too many" } : { detail: "busy" };
    ca.instead = at("newOrder", problem(status, body, value === "" ? {} : { "retry-after": value }));
    const failure = authorityAt(ca).issue(await orderOf(NAME), never);
    const fault = (await failure.catch((error: unknown) => error)) as { code: string; retryAfter: number | undefined };
    expect(fault.code).toBe(status === 429 ? "CERT_ORDER_RATE_LIMITED" : "CERT_ORDER_UNREACHABLE");
    if (expected === undefined) expect(fault.retryAfter).toBeUndefined();
    else expect(Math.abs(fault.retryAfter! - expected)).toBeLessThan(60_000);
  });

  test("AC-12 for years between two looks at an order is looked at again soon", async () => {
    const ca = await startCa();
    let looks = 0;
    ca.instead = ({ resource }) => {
      if (resource !== "order" || ++looks > 5) return undefined;
      return json({ ...order, status: "processing", finalize: ca.directory }, { "retry-after": "999999999" });
    };
    const clock = hastyClock();
    await authorityAt(ca, { clock }).issue(await orderOf(NAME), never);
    expect(clock.now()).toBeLessThan(2 * 60_000);
  });
});

describe("nonces", () => {
  test("AC-1 a refused nonce is replaced by the fresh one of the same answer, ten times", async () => {
    const ca = await startCa();
    const authority = authorityAt(ca);
    await authority.accountUrl(never);
    ca.badNonces = 10;
    ca.requests.length = 0;
    await authority.issue(await orderOf(NAME), never);
    expect(ca.requests.filter((request) => request === "POST newOrder")).toHaveLength(11);
    expect(ca.requests.filter((request) => request === "HEAD newNonce")).toHaveLength(0);
    expect(ca.orders).toHaveLength(1);
  });

  test("AC-1 a CA that refuses every nonce is given up", async () => {
    const ca = await startCa();
    ca.badNonces = Infinity;
    await expect(authorityAt(ca).issue(await orderOf(NAME), never)).rejects.toMatchObject({
      code: "CERT_ORDER_UNREACHABLE",
      problem: "badNonce",
    });
    expect(ca.requests.length).toBeLessThan(150);
  });
});

function pour(response: ServerResponse, count: (bytes: number) => void): void {
  const chunk = Buffer.alloc(256 * 1024, "x");
  let left = 1024 ** 3;
  const more = (): void => {
    while (left > 0 && !response.destroyed) {
      left -= chunk.length;
      count(chunk.length);
      if (!response.write(chunk)) return void response.once("drain", more);
    }
    response.end();
  };
  more();
}
