import { describe, expect, test } from "vitest";
import { authorityAt, never, orderOf, startCa } from "../../../test/acme-ca/customer.ts";
import { memoryCertificateStore } from "../store/memory-store.ts";
import type { AccountRecord } from "./account-record.ts";
import type { AuthorityOptions } from "./acme-authority.ts";
import type { OrderProgress } from "./authority.ts";

const PATH = "accounts/test/account.json";
const NAME = ["a.example.com"];

function storeWithRecord() {
  const store = memoryCertificateStore();
  const bytesOf = async (): Promise<Uint8Array> => (await store.read(PATH)) ?? Buffer.from("{}");
  return {
    store,
    record: async () => JSON.parse(Buffer.from(await bytesOf()).toString()) as AccountRecord,
    write: (record: object) => store.write(PATH, Buffer.from(JSON.stringify(record))),
  };
}

describe("an account is made", () => {
  test("once for all who share a store, with its contact, and its key is on disk before the CA hears of it", async () => {
    const ca = await startCa();
    const { store, record } = storeWithRecord();
    let keyAtFirst: string | undefined;
    ca.instead = async ({ resource }) => {
      if (resource === "newAccount") keyAtFirst = (await record()).key;
      return undefined;
    };
    const gateways = Array.from({ length: 5 }, () => authorityAt(ca, { store, contact: ["ops@example.com"] }));
    const orders = gateways.map(async (gateway, index) =>
      gateway.issue(await orderOf([`n${index}.example.com`]), never),
    );
    await Promise.all(orders);
    expect(ca.accounts).toMatchObject([{ contact: ["mailto:ops@example.com"] }]);
    expect(await record()).toMatchObject({ key: keyAtFirst, url: ca.accounts[0]!.url });
    expect(await gateways[0]!.accountUrl(never)).toBe(ca.accounts[0]!.url);
  });

  test("only with terms agreed to and, where the CA wants one, an account elsewhere", async () => {
    const secret = Buffer.from("a secret that the CA's pages show").toString("base64url");
    const ca = await startCa({ externalAccounts: { "kid-1": secret } });
    const outcome = async (options: Partial<AuthorityOptions>): Promise<unknown> => {
      try {
        await authorityAt(ca, options).issue(await orderOf(NAME), never);
        return "issued";
      } catch (error) {
        return [(error as { code: string }).code, (error as { hint: string }).hint];
      }
    };
    expect(await outcome({ agreeToTerms: false })).toEqual([
      "CERT_ACCOUNT_TERMS",
      "Read https://ca.test/terms and agree in the configuration.",
    ]);
    expect(await outcome({})).toMatchObject(["CERT_ACCOUNT_EXTERNAL", expect.stringContaining("key id")]);
    const wrong = { keyId: "kid-1", hmacKey: "AAAA" };
    expect(await outcome({ externalAccount: wrong })).toMatchObject(["CERT_ORDER_REFUSED", undefined]);
    expect(ca.requests.filter((request) => request === "POST newAccount")).toHaveLength(1);
    expect(await outcome({ externalAccount: { keyId: "kid-1", hmacKey: secret } })).toBe("issued");
  });

  test("anew where the configuration names another directory under the same name", async () => {
    const [one, two] = [await startCa(), await startCa()];
    const { store } = storeWithRecord();
    for (const ca of [one, two]) await authorityAt(ca, { store }).issue(await orderOf(NAME), never);
    expect([one.accounts.length, two.accounts.length]).toEqual([1, 1]);
  });

  test("a changed contact is told to the CA, once", async () => {
    const ca = await startCa();
    const { store } = storeWithRecord();
    for (const contact of [["a@example.com"], ["b@example.com"], ["b@example.com"]]) {
      await authorityAt(ca, { store, contact }).accountUrl(never);
    }
    expect(ca.accounts).toMatchObject([{ contact: ["mailto:b@example.com"] }]);
    expect(ca.requests.filter((request) => request === "POST account")).toHaveLength(1);
  });

  test("never from a record that cannot be read: the key in it may still be good", async () => {
    const ca = await startCa();
    const { store, write } = storeWithRecord();
    await write({ key: 7 });
    await expect(authorityAt(ca, { store }).accountUrl(never)).rejects.toMatchObject({
      code: "CERT_ACCOUNT_UNREADABLE",
    });
    expect(ca.accounts).toHaveLength(0);
  });
});

describe("an account that is gone", () => {
  test.each([
    ["revoked", (ca: Awaited<ReturnType<typeof startCa>>) => ca.revokeAccounts()],
    ["forgotten", (ca: Awaited<ReturnType<typeof startCa>>) => ca.forgetAccounts()],
  ])("was %s by the CA: one new account, however many orders meet it, and the old key is kept", async (_, lose) => {
    const ca = await startCa();
    const { store, record } = storeWithRecord();
    const authority = authorityAt(ca, { store });
    await authority.issue(await orderOf(NAME), never);
    const before = await record();
    lose(ca);
    const known = ca.accounts.length;
    const names = Array.from({ length: 5 }, (_none, index) => `n${index}.example.com`);
    await Promise.all(names.map(async (name) => authority.issue(await orderOf([name]), never)));
    expect(ca.accounts).toHaveLength(known + 1);
    expect((await record()).key).not.toBe(before.key);
    expect(await authority.accountUrl(never)).toBe(ca.accounts.at(-1)!.url);
  });

  test("a CA that revokes every account gets no storm of new ones", async () => {
    const ca = await startCa();
    const authority = authorityAt(ca);
    ca.instead = ({ resource }) => {
      if (resource === "newOrder") ca.revokeAccounts();
      return undefined;
    };
    for (let attempt = 0; attempt < 10; attempt++) {
      await expect(authority.issue(await orderOf(NAME), never)).rejects.toThrow(/revoked|knows none of those/);
    }
    expect(ca.accounts.length).toBeLessThanOrEqual(4);
  });

  test("a refusal that is not about the account leaves the account alone", async () => {
    const ca = await startCa();
    const authority = authorityAt(ca);
    await authority.accountUrl(never);
    const type = "urn:ietf:params:acme:error:unauthorized";
    ca.instead = ({ resource }) =>
      resource === "newOrder" ? { status: 403, body: { type, detail: "not for this name" } } : undefined;
    await expect(authority.issue(await orderOf(NAME), never)).rejects.toMatchObject({
      code: "CERT_ORDER_REFUSED",
      problem: "unauthorized",
    });
    expect(ca.accounts).toHaveLength(1);
  });
});

describe("the key of the account is rolled over", () => {
  test("the account stays, the old key is of no use, and orders go on", async () => {
    const ca = await startCa();
    const { store, record } = storeWithRecord();
    const authority = authorityAt(ca, { store });
    const url = await authority.accountUrl(never);
    const { key } = await record();
    await authority.rollAccountKey(never);
    expect(await record()).toMatchObject({ url, key: expect.not.stringContaining(key) });
    await authority.issue(await orderOf(NAME), never);
    await authorityAt(ca, { store }).issue(await orderOf(NAME), never);
    expect(ca.accounts).toHaveLength(1);
  });

  test("by another process that shares the store: this one takes up the new key", async () => {
    const ca = await startCa();
    const { store } = storeWithRecord();
    const [one, two] = [authorityAt(ca, { store }), authorityAt(ca, { store })];
    await one.issue(await orderOf(NAME), never);
    await two.rollAccountKey(never);
    await one.issue(await orderOf(NAME), never);
    expect(ca.accounts).toHaveLength(1);
  });

  test("by another process while an order is under way: the order goes on", async () => {
    const ca = await startCa();
    const { store } = storeWithRecord();
    const one = authorityAt(ca, { store });
    const [order, ended] = [await orderOf(NAME), new AbortController()];
    const save = async (next: OrderProgress): Promise<void> => {
      if (next.url !== undefined) ended.abort(new Error("power cut"));
      await order.save(next);
    };
    await expect(one.issue({ ...order, save }, ended.signal)).rejects.toThrow("power cut");
    await authorityAt(ca, { store }).rollAccountKey(never);
    await one.issue({ ...order, progress: order.saved.at(-1)! }, never);
    expect([ca.orders.length, ca.accounts.length]).toEqual([1, 1]);
  });

  test.each(["before the CA heard it", "after the CA did it"])("and the process ends %s", async (when) => {
    const ca = await startCa();
    const { store, record } = storeWithRecord();
    await authorityAt(ca, { store }).accountUrl(never);
    const before = await record();
    const isRoll = ({ resource }: { resource: string }): boolean => resource === "keyChange";
    if (when.startsWith("before")) {
      ca.instead = (request) => (isRoll(request) ? { status: 200, body: (response) => response.destroy() } : undefined);
    } else ca.loses = isRoll;
    await expect(authorityAt(ca, { store }).rollAccountKey(never)).rejects.toMatchObject({
      code: "CERT_ORDER_UNREACHABLE",
    });
    expect((await record()).nextKey).toBeDefined();
    await authorityAt(ca, { store }).issue(await orderOf(NAME), never);
    const after = await record();
    expect([after.key === before.key, after.nextKey, ca.accounts.length]).toEqual([
      when.startsWith("before"),
      undefined,
      1,
    ]);
  });
});
