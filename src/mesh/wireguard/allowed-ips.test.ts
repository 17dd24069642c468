import { expect, test } from "vitest";
import { type Prefix, parseAddress, parsePrefix, prefixContains } from "../../base/address.ts";
import { seededRandom } from "../../base/random.ts";
import { AllowedIps } from "./allowed-ips.ts";

const find = (table: AllowedIps, text: string) => {
  const bytes = parseAddress(text)!;
  return table.find(bytes, 0, bytes.length as 4 | 16);
};

test("the longest prefix wins, and families are apart", () => {
  const table = new AllowedIps();
  const prefixes = ["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "fd7a:115c:a1e0::/48"];
  for (const [peer, prefix] of prefixes.entries()) table.set(parsePrefix(prefix)!, peer);
  expect(
    ["1.1.1.1", "10.9.9.9", "10.1.9.9", "10.1.2.3", "fd7a:115c:a1e0::1", "::1", "::"].map((a) => find(table, a)),
  ).toEqual([0, 1, 2, 3, 4, -1, -1]);
});

test("WG-2: giving a prefix to another peer takes it from the first at once", () => {
  const table = new AllowedIps();
  const prefix = parsePrefix("100.64.0.7/32")!;
  table.set(prefix, 1);
  for (let i = 0; i < 10_000; i++) {
    const [from, to] = i % 2 === 0 ? [1, 2] : [2, 1];
    table.set(prefix, to!);
    expect(find(table, "100.64.0.7")).toBe(to);
    table.remove(prefix, from!); // too late: it is not the owner any more
    expect(find(table, "100.64.0.7")).toBe(to);
  }
  table.remove(prefix, 1);
  expect(find(table, "100.64.0.7")).toBe(-1);
});

test("against a list, for random prefixes", () => {
  const random = seededRandom(21);
  for (const length of [4, 16] as const) {
    const table = new AllowedIps();
    const list: { prefix: Prefix; peer: number }[] = [];
    for (let peer = 0; peer < 400; peer++) {
      const address = random(length).map((byte, i) => (i < 2 ? byte & 1 : byte & 3));
      const prefix = { address, bits: random(1)[0]! % (length * 8 + 1) };
      table.set(prefix, peer);
      const at = list.findIndex((k) => k.prefix.bits === prefix.bits && prefixContains(k.prefix, address));
      if (at >= 0) list.splice(at, 1);
      list.push({ prefix, peer });
      if (peer % 5 === 0) {
        const gone = list.splice(random(1)[0]! % list.length, 1)[0]!;
        table.remove(gone.prefix, gone.peer);
      }
    }
    list.sort((a, b) => b.prefix.bits - a.prefix.bits);
    for (let i = 0; i < 5_000; i++) {
      const address = random(length).map((byte, j) => (j < 2 ? byte & 1 : byte & 3));
      const expected = list.find(({ prefix }) => prefixContains(prefix, address))?.peer ?? -1;
      expect(table.find(address, 0, length)).toBe(expected);
    }
  }
});
