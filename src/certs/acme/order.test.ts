import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { authorityAt, never, orderOf, startCa } from "../../../test/acme-ca/customer.ts";
import type { CaRequest } from "../../../test/acme-ca/resources.ts";
import { Shown } from "../../../test/acme-ca/shown.ts";
import type { TestCa } from "../../../test/acme-ca/test-ca.ts";
import type { CertificateStore } from "../store/certificate-store.ts";
import { memoryCertificateStore } from "../store/memory-store.ts";
import type { OrderProgress } from "./authority.ts";

const NAMES = ["a.example.com", "b.example.com"];

/** Attempts, each by a process of its own that has only what is on disk, until there is a certificate; says how many. */
async function untilIssued(
  ca: TestCa,
  store: CertificateStore,
  shown: Shown,
  names: readonly string[] = NAMES,
): Promise<number> {
  let progress: OrderProgress | undefined;
  for (let attempts = 1; attempts <= 5; attempts++) {
    const order = await orderOf(names, { solvers: [shown], ...(progress && { progress }) });
    try {
      const { key } = await authorityAt(ca, { store }).issue(order, never);
      expect(key).toBe(progress?.key ?? order.progress.key);
      return attempts;
    } catch (error) {
      expect(error).toMatchObject({ code: "CERT_ORDER_UNREACHABLE" });
      progress = order.saved.at(-1) ?? order.progress;
    }
  }
  throw new Error("not issued in five attempts");
}

describe("an order goes on where it was", () => {
  test.each(["before the CA heard it", "after the CA did it"])(
    "AC-6 the process ends at any request, %s: one account, one order, one key, nothing left in DNS",
    { timeout: 120_000 },
    async (when) => {
      const ca = await startCa();
      await untilIssued(ca, memoryCertificateStore(), new Shown("dns-01"));
      const total = ca.requests.length;
      expect(total).toBeGreaterThan(10);
      let count = Infinity;
      const isCut = (): boolean => --count === 0;
      if (when.startsWith("before")) {
        ca.instead = () => (isCut() ? { status: 200, body: (response) => response.destroy() } : undefined);
      } else ca.loses = isCut;
      for (let cut = 1; cut <= total; cut++) {
        count = cut;
        const shown = new Shown("dns-01");
        const attempts = await untilIssued(ca, memoryCertificateStore(), shown, [
          `a${cut}.example.com`,
          "b.example.com",
        ]);
        expect([cut, ca.accounts.length - 1, ca.orders.length - 1, shown.now.size]).toEqual([cut, cut, cut, 0]);
        expect(attempts, `request ${cut}`).toBe(2);
      }
    },
  );

  test("AC-6 an order whose URL was never heard is found in the list of the account, page by page", async () => {
    const ca = await startCa();
    const store = memoryCertificateStore();
    for (const name of ["x.example.com", "y.example.com", "z.example.com"]) {
      await authorityAt(ca, { store }).issue(await orderOf([name]), never);
    }
    ca.loses = ({ resource }) => resource === "newOrder" && ca.orders.length === 4;
    await untilIssued(ca, store, new Shown("dns-01"));
    expect(ca.orders).toHaveLength(4);
    expect(ca.requests.filter((request) => request === "POST orders")).toHaveLength(2);
  });

  test.each<[string, (ca: TestCa, progress: OrderProgress) => OrderProgress]>([
    ["of names that are no longer the same", (ca, progress) => ({ ...progress, url: ca.orders[1]!.url })],
    ["that the CA has lost", (_, progress) => ({ ...progress, url: `${progress.url}99` })],
    ["of another CA", (_, progress) => ({ ...progress, url: "https://other.example.com/order/1" })],
    [
      "that became invalid",
      (ca, progress) => {
        ca.orders[0]!.status = "invalid";
        return progress;
      },
    ],
  ])("an order %s is left for a new one with the same key", async (_, spoil) => {
    const ca = await startCa();
    const store = memoryCertificateStore();
    const first = await orderOf(NAMES);
    ca.isStuck = true;
    await expect(authorityAt(ca, { store }).issue(first, never)).rejects.toMatchObject({ code: "CERT_ORDER_TIMEOUT" });
    await expect(authorityAt(ca, { store }).issue(await orderOf(["c.example.com"]), never)).rejects.toThrow();
    ca.isStuck = false;
    const progress = spoil(ca, first.saved.at(-1)!);
    const { key } = await authorityAt(ca, { store }).issue(await orderOf(NAMES, { progress }), never);
    expect([key, ca.orders.length, ca.orders[2]!.status]).toEqual([first.progress.key, 3, "valid"]);
  });

  test("an order that was finished with a key that is lost is left for a new one", async () => {
    const ca = await startCa();
    const store = memoryCertificateStore();
    const first = await orderOf(NAMES);
    await authorityAt(ca, { store }).issue(first, never);
    const { url, asked } = first.saved.at(-1)!;
    const second = await orderOf(NAMES);
    const progress = { key: second.progress.key, url: url!, asked: asked! };
    const { key } = await authorityAt(ca, { store }).issue({ ...second, progress }, never);
    expect([key, ca.orders.length]).toEqual([second.progress.key, 2]);
  });

  test("AC-12 an order that stays in processing ends after 15 minutes, and goes on with the next attempt", async () => {
    const ca = await startCa();
    ca.isStuck = true;
    const store = memoryCertificateStore();
    const order = await orderOf(NAMES);
    await expect(authorityAt(ca, { store }).issue(order, never)).rejects.toMatchObject({
      code: "CERT_ORDER_TIMEOUT",
      message: 'Cannot wait for "test" any longer: not done in 15 minutes',
    });
    expect(ca.requests.filter((request) => request === "POST order").length).toBeLessThan(100);
    ca.isStuck = false;
    await authorityAt(ca, { store }).issue({ ...order, progress: order.saved.at(-1)! }, never);
    expect(ca.orders).toHaveLength(1);
  });
});

describe("proofs", () => {
  test("the first solver in order that fits the name is taken, and a wildcard is proved by DNS", async () => {
    const ca = await startCa();
    const solvers = [new Shown("tls-alpn-01"), new Shown("http-01"), new Shown("dns-01")];
    await authorityAt(ca).issue(await orderOf(["a.example.com", "*.a.example.com"], { solvers }), never);
    const shown = solvers.map(({ type, ever }) => [type, ever.map(({ name }) => name)]);
    expect(shown).toEqual([
      ["tls-alpn-01", ["a.example.com"]],
      ["http-01", []],
      ["dns-01", ["a.example.com"]],
    ]);
    expect(solvers[2]!.ever[0]).toMatchObject({ record: "_acme-challenge.a.example.com" });
  });

  test("what the CA sees is what RFC 8555 and RFC 8737 ask for", async () => {
    const solvers = [new Shown("http-01"), new Shown("dns-01")];
    const seen: string[] = [];
    const validate = ({ type, keyAuthorization }: { type: string; keyAuthorization: string }): boolean => {
      const [challenge] = solvers.find((solver) => solver.type === type)!.now;
      seen.push(type);
      if (challenge?.type === "dns-01") return challenge.value === dnsValue(keyAuthorization);
      return challenge?.keyAuthorization === keyAuthorization;
    };
    const ca = await startCa({ validate });
    await authorityAt(ca).issue(await orderOf(["a.example.com"], { solvers }), never);
    await authorityAt(ca).issue(await orderOf(["*.a.example.com"], { solvers }), never);
    expect(seen).toEqual(["http-01", "dns-01"]);
  });

  test("a solver that cannot show anything gives way to the next in the same order", async () => {
    const ca = await startCa();
    const solvers = [new Shown("http-01"), new Shown("dns-01")];
    solvers[0]!.failure = new Error("port 80 is taken");
    await authorityAt(ca).issue(await orderOf(["a.example.com"], { solvers }), never);
    expect([ca.orders.length, solvers[1]!.ever.length]).toEqual([1, 1]);
  });

  test("a proof that the CA does not believe is followed by another kind in a new order", async () => {
    const ca = await startCa({ validate: ({ type }) => type === "dns-01" });
    const solvers = [new Shown("tls-alpn-01"), new Shown("http-01"), new Shown("dns-01")];
    const order = await orderOf(["a.example.com"], { solvers });
    await authorityAt(ca).issue(order, never);
    expect(ca.orders.map(({ status }) => status)).toEqual(["invalid", "invalid", "valid"]);
    expect(order.saved.at(-1)!.url).toBe(ca.orders[2]!.url);
    expect(solvers.map(({ now }) => now.size)).toEqual([0, 0, 0]);
  });

  test("of two solvers of one kind the second is tried too, and what the CA said last is what the operator reads", async () => {
    const ca = await startCa({ validate: () => false });
    const solvers = [new Shown("dns-01"), new Shown("dns-01")];
    await expect(authorityAt(ca).issue(await orderOf(["a.example.com"], { solvers }), never)).rejects.toMatchObject({
      code: "CERT_ORDER_UNPROVED",
    });
    expect(solvers.map(({ ever }) => ever.length)).toEqual([1, 1]);
    expect(ca.orders).toHaveLength(2);
  });

  test("AC-11 a name that is not proved ends the order, says why, and leaves nothing behind for any name", async () => {
    const names = Array.from({ length: 20 }, (_, index) => `n${index}.example.com`);
    const ca = await startCa({ validate: ({ name }) => name !== "n7.example.com" });
    const shown = new Shown("dns-01");
    const order = await orderOf(names, { solvers: [shown] });
    await expect(authorityAt(ca).issue(order, never)).rejects.toMatchObject({
      code: "CERT_ORDER_UNPROVED",
      message: 'Cannot prove "n7.example.com" to the CA: saw nothing at n7.example.com',
      problem: "unauthorized",
    });
    expect([ca.orders.length, ca.accounts.length, shown.now.size]).toEqual([1, 1, 0]);
  });

  test("at most eight names are proved at once", async () => {
    const ca = await startCa();
    const shown = new Shown("dns-01");
    const names = Array.from({ length: 30 }, (_, index) => `n${index}.example.com`);
    await authorityAt(ca).issue(await orderOf(names, { solvers: [shown] }), never);
    expect([shown.ever.length, shown.now.size]).toEqual([30, 0]);
    expect(shown.most).toBeLessThanOrEqual(8);
    expect(shown.most).toBeGreaterThan(1);
  });

  test("a wildcard without DNS is not even tried", async () => {
    const ca = await startCa();
    const order = await orderOf(["*.example.com"], { solvers: [new Shown("http-01")] });
    await expect(authorityAt(ca).issue(order, never)).rejects.toMatchObject({
      code: "CERT_ORDER_UNPROVABLE",
      message: 'Cannot prove "*.example.com": the CA takes dns-01, we could show nothing',
    });
  });

  test.each<[string, object]>([
    ["another name", { identifier: { type: "dns", value: "bank.example.com" } }],
    ["a token that climbs", { challenges: [{ type: "dns-01", url: "http://127.0.0.1/", token: "../../secret" }] }],
  ])("AC-12 nothing is shown for %s", async (_, spoiled) => {
    const ca = await startCa();
    const right = { status: "pending", identifier: { type: "dns", value: "a.example.com" } };
    const challenges = [{ type: "dns-01", url: ca.directory, token: "token" }];
    ca.instead = ({ resource }: CaRequest) =>
      resource === "authz" ? { status: 200, body: { ...right, challenges, ...spoiled } } : undefined;
    const shown = new Shown("dns-01");
    await expect(
      authorityAt(ca).issue(await orderOf(["a.example.com"], { solvers: [shown] }), never),
    ).rejects.toThrow();
    expect(shown.ever).toEqual([]);
  });

  test("whoever ends the attempt gets their own reason, and what was shown is taken away", async () => {
    const end = new AbortController();
    const ca = await startCa({ validate: () => (end.abort(new Error("shutting down")) as undefined) ?? true });
    const shown = new Shown("dns-01");
    await expect(
      authorityAt(ca).issue(await orderOf(["a.example.com"], { solvers: [shown] }), end.signal),
    ).rejects.toThrow("shutting down");
    expect([shown.ever.length, shown.now.size]).toEqual([1, 0]);
  });
});

/** RFC 8555 section 8.4. */
function dnsValue(keyAuthorization: string): string {
  return createHash("sha256").update(keyAuthorization).digest("base64url");
}
