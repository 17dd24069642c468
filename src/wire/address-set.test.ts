import { expect, test } from "vitest";
import { formatAddress, parseAddress } from "../base/address.ts";
import { seededRandom } from "../base/random.ts";
import { AddressSet, addressNumber, formatRange, joinedRanges, parseRanges } from "./address-set.ts";

test.each([
  ["1.2.3.4", "1.2.3.4"],
  ["10.0.0.0/8", "10.0.0.0-10.255.255.255"],
  ["1.2.3.4-1.2.3.9", "1.2.3.4-1.2.3.9"],
  ["fd7a::/16", "fd7a::-fd7a:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
  ["0.0.0.0/0", "0.0.0.0-255.255.255.255"],
  ["10.0.0.1/8", undefined], // host bits
  ["1.2.3.9-1.2.3.4", undefined],
  ["1.2.3.4-::1", undefined],
  ["1.2.3.4-1.2.3.5-1.2.3.6", undefined],
  ["127.1", undefined],
  ["", undefined],
])("%s is %s", (text, wanted) => {
  expect(parseRanges(text)?.map(formatRange)[0]).toBe(wanted);
});

test("a set holds what its ranges hold", () => {
  const random = seededRandom(3);
  for (const bytes of [4, 16]) {
    const bits = bytes === 4 ? 32 : 128;
    for (let round = 0; round < 200; round++) {
      const ranges = Array.from({ length: random(1)[0]! % 8 }, () => {
        const [a, b] = [addressNumber(random(bytes)), addressNumber(random(bytes))];
        return { bits, low: a < b ? a : b, high: a < b ? b : a } as const;
      });
      const set = new AddressSet(ranges);
      const probes = [...Array.from({ length: 10 }, () => random(bytes)), ...ranges.flatMap(ends)];
      for (const probe of probes) {
        const value = addressNumber(probe);
        expect(set.has(probe), formatAddress(probe)).toBe(
          ranges.some(({ low, high }) => low <= value && value <= high),
        );
      }
    }
  }
});

function ends(range: { bits: 32 | 128; low: bigint; high: bigint }): Uint8Array[] {
  return [range.low, range.high, range.low - 1n, range.high + 1n]
    .filter((value) => value >= 0n && value < 1n << BigInt(range.bits))
    .map((value) => Uint8Array.from(Buffer.from(value.toString(16).padStart(range.bits / 4, "0"), "hex")));
}

test("touching ranges become one, families stay apart", () => {
  const ranges = ["1.2.3.4", "1.2.3.5-1.2.3.9", "1.2.3.11", "::1", "1.2.3.0/30"].flatMap(
    (text) => parseRanges(text) ?? [],
  );
  expect(joinedRanges(ranges).map(formatRange)).toEqual(["1.2.3.0-1.2.3.9", "1.2.3.11", "::1"]);
  expect(new AddressSet([]).has(parseAddress("1.2.3.4")!)).toBe(false);
});
