import { expect, test } from "vitest";
import { parsePrefix } from "../../base/address.ts";
import { memoryStore } from "../../base/store.ts";
import type { ServeConfig } from "../../wire/serve-config.ts";
import { VisitorRulebook } from "./visitor-rulebook.ts";

const SITE = "web.tail.test:443";
const WEB = { name: "web.tail.test", port: 443 };
const prefix = (text: string) => parsePrefix(text)!;
const open = (...sites: readonly string[]): ServeConfig => ({
  AllowFunnel: Object.fromEntries(sites.map((site) => [site, true])),
});

test("what commands say holds over restarts, beside what the file says", async () => {
  const store = memoryStore();
  const book = await VisitorRulebook.open(store);
  let changes = 0;
  book.onChange = () => void changes++;
  await book.set("Web.Tail.Test:443", ["203.0.113.0/24"], []);
  await book.set("*.apps.test:8443", [], ["2001:db8::1"]);
  expect(changes).toBe(2);
  const again = await VisitorRulebook.open(store, ({ port }) =>
    port === 443 ? { deny: [prefix("203.0.113.9")], connections: 5 } : undefined,
  );
  const both = { allow: [prefix("203.0.113.0/24")], deny: [prefix("203.0.113.9")], connections: 5 };
  expect(again.at(WEB)).toEqual(both);
  expect(again.at({ name: "shop.apps.test", port: 8443 })).toEqual({ deny: [prefix("2001:db8::1")] });
  expect(again.at({ name: "web.tail.test", port: 8443 })).toBeUndefined();
  await again.set(SITE, [], []);
  expect(again.at(WEB)).toEqual({ deny: [prefix("203.0.113.9")], connections: 5 });
  expect((await VisitorRulebook.open(store)).at(WEB)).toBeUndefined();
});

test.each<readonly [string, string, readonly string[]]>([
  ["a place without port", "web.tail.test", ["203.0.113.9"]],
  ["a port that is none", "web.tail.test:70000", ["203.0.113.9"]],
  ["a name that is none", "we b:443", ["203.0.113.9"]],
  ["every place", "*:443", ["203.0.113.9"]],
  ["an address that is none", SITE, ["everybody"]],
  ["too many", SITE, Array.from({ length: 257 }, (_, i) => `10.0.${i >> 8}.${i & 255}`)],
])("%s is refused, and nothing changes", async (_, site, allow) => {
  const store = memoryStore();
  const book = await VisitorRulebook.open(store);
  await expect(book.set(site, allow, [])).rejects.toThrow(/^Cannot keep visitors of /);
  expect(await store.get("visitor-rules.json")).toBeUndefined();
});

test("64 places have rules, and no more", async () => {
  const book = await VisitorRulebook.open(memoryStore());
  for (let i = 1; i <= 64; i++) await book.set(`web.tail.test:${i}`, [], ["203.0.113.9"]);
  await expect(book.set(SITE, [], ["203.0.113.9"])).rejects.toThrow(/64 places/);
  await book.set("web.tail.test:1", ["203.0.113.9"], []);
});

test("rules go with what they are about, and not before", async () => {
  const book = await VisitorRulebook.open(memoryStore());
  await book.set(SITE, ["203.0.113.9"], []);
  await book.settle({}, {}); // said before it is public
  await book.settle({}, open(SITE));
  await book.settle(open(SITE), open(SITE, "other.test:443"));
  expect(book.at(WEB)).toBeDefined();
  await book.settle(open(SITE), {});
  expect(book.at(WEB)).toBeUndefined();
  await book.set("web.tail.test:2222", ["203.0.113.9"], []);
  await book.settle(open("*:2222"), open("*:2222"));
  expect(book.at({ name: "web.tail.test", port: 2222 })).toBeDefined();
  await book.settle(open("*:2222"), open(SITE));
  expect(book.at({ name: "web.tail.test", port: 2222 })).toBeUndefined();
});

test("a file that cannot be read keeps the gateway from starting, rather than everybody in", async () => {
  for (const damage of ["", "{}", "null", '[{"sites":["a.test:443"],"allow":["everybody"]}]']) {
    const store = memoryStore();
    await store.set("visitor-rules.json", Buffer.from(damage));
    await expect(VisitorRulebook.open(store), damage).rejects.toMatchObject({ code: "STATE_DAMAGED" });
  }
});
