import { parseAddress, parsePrefix } from "../../base/address.ts";
import { type AddressRange, addressNumber, addressText, rangeOfPrefix } from "../../wire/address-set.ts";

export function overlap(a: AddressRange, b: AddressRange): boolean {
  return a.bits === b.bits && a.low <= b.high && b.low <= a.high;
}

export function covers(outer: AddressRange, inner: AddressRange): boolean {
  return outer.bits === inner.bits && outer.low <= inner.low && inner.high <= outer.high;
}

export function rangeOfAddress(text: string): AddressRange | undefined {
  const address = parseAddress(text.split("/")[0] ?? "");
  if (address === undefined) return undefined;
  const value = addressNumber(address);
  return { bits: address.length === 4 ? 32 : 128, low: value, high: value };
}

/** `range` but for what of it lies in `hole`. */
export function without(range: AddressRange, hole: AddressRange): readonly AddressRange[] {
  if (!overlap(range, hole)) return [range];
  const rest: AddressRange[] = [];
  if (range.low < hole.low) rest.push({ ...range, high: hole.low - 1n });
  if (hole.high < range.high) rest.push({ ...range, low: hole.high + 1n });
  return rest;
}

/** The fewest prefixes that make up `range`, as text: capability rules know no ranges (control-protocol sheet 5.3). */
export function prefixesOf({ bits, low, high }: AddressRange): readonly string[] {
  const texts: string[] = [];
  for (let at = low; at <= high; ) {
    let free = 0n; // host bits
    while (free < BigInt(bits)) {
      const size = 1n << (free + 1n);
      if (at % size !== 0n || at + size - 1n > high) break;
      free++;
    }
    texts.push(`${addressText(at, bits)}/${bits - Number(free)}`);
    at += 1n << free;
  }
  return texts;
}

const range = (text: string): AddressRange => rangeOfPrefix(parsePrefix(text)!);

const PRIVATE = ["0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"]
  .concat(["192.168.0.0/16", "224.0.0.0/3"])
  .map(range);

/** What `autogroup:internet` stands for where addresses are wanted: all that is public. */
export const INTERNET: readonly AddressRange[] = PRIVATE.reduce<readonly AddressRange[]>(
  (rest, hole) => rest.flatMap((part) => without(part, hole)),
  [range("0.0.0.0/0"), range("2000::/3")],
);
