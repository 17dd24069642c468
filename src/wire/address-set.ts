import {
  type AddressBytes,
  formatAddress,
  maskedPrefix,
  type Prefix,
  parseAddress,
  parsePrefix,
} from "../base/address.ts";

/** Addresses from `low` to `high`, both included, of one family. */
export interface AddressRange {
  readonly bits: 32 | 128;
  readonly low: bigint;
  readonly high: bigint;
}

export function addressNumber(address: AddressBytes): bigint {
  let value = 0n;
  for (const byte of address) value = (value << 8n) | BigInt(byte);
  return value;
}

export function addressText(value: bigint, bits: 32 | 128): string {
  const bytes = new Uint8Array(bits / 8);
  for (let i = bytes.length - 1, rest = value; i >= 0; i--, rest >>= 8n) bytes[i] = Number(rest & 0xffn);
  return formatAddress(bytes);
}

/** As text: one address, or `low-high`. */
export function formatRange({ bits, low, high }: AddressRange): string {
  return low === high ? addressText(low, bits) : `${addressText(low, bits)}-${addressText(high, bits)}`;
}

const EVERY_V4: AddressRange = { bits: 32, low: 0n, high: (1n << 32n) - 1n };
const EVERY_V6: AddressRange = { bits: 128, low: 0n, high: (1n << 128n) - 1n };

export function rangeOfPrefix(prefix: Prefix): AddressRange {
  const bits = prefix.address.length === 4 ? 32 : 128;
  const low = addressNumber(maskedPrefix(prefix).address);
  return { bits, low, high: low | ((1n << BigInt(bits - prefix.bits)) - 1n) };
}

/**
 * The forms an address takes in filter rules: `*`, one address, a CIDR without host bits, an inclusive range `a-b`
 * (upstream `wgengine/filter/tailcfg.go:parseIPSet`). `undefined`: not one of them.
 */
export function parseRanges(text: string): readonly AddressRange[] | undefined {
  if (text === "*") return [EVERY_V4, EVERY_V6];
  const [from = "", to, more] = text.split("-");
  if (to !== undefined) {
    const first = parseAddress(from);
    const last = parseAddress(to);
    if (more !== undefined || first === undefined || last === undefined || first.length !== last.length)
      return undefined;
    const [low, high] = [addressNumber(first), addressNumber(last)];
    return low > high ? undefined : [{ bits: first.length === 4 ? 32 : 128, low, high }];
  }
  const prefix = parsePrefix(text);
  if (prefix === undefined) return undefined;
  const range = rangeOfPrefix(prefix);
  return addressNumber(prefix.address) === range.low ? [range] : undefined;
}

/** Sorted, overlapping and touching ranges joined. */
export function joinedRanges(ranges: readonly AddressRange[]): readonly AddressRange[] {
  const sorted = ranges.toSorted((a, b) => a.bits - b.bits || (a.low < b.low ? -1 : a.low > b.low ? 1 : 0));
  const joined: AddressRange[] = [];
  for (const range of sorted) {
    const last = joined.at(-1);
    if (last !== undefined && last.bits === range.bits && range.low <= last.high + 1n) {
      if (range.high > last.high) joined[joined.length - 1] = { ...last, high: range.high };
    } else joined.push(range);
  }
  return joined;
}

/** A set of addresses that is asked about packets: sorted tables of 32-bit words, searched without allocating. */
export class AddressSet {
  /** Pairs low, high. */
  readonly #v4: Uint32Array;
  /** Eight words a range: low, then high. */
  readonly #v6: Uint32Array;

  constructor(ranges: readonly AddressRange[]) {
    const joined = joinedRanges(ranges);
    this.#v4 = Uint32Array.from(
      joined.filter((range) => range.bits === 32).flatMap(({ low, high }) => [Number(low), Number(high)]),
    );
    this.#v6 = Uint32Array.from(
      joined.filter((range) => range.bits === 128).flatMap(({ low, high }) => [...words(low), ...words(high)]),
    );
  }

  hasV4(address: number): boolean {
    const table = this.#v4;
    let low = 0;
    let high = table.length >> 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (table[2 * middle + 1]! < address) low = middle + 1;
      else high = middle;
    }
    return 2 * low < table.length && table[2 * low]! <= address;
  }

  hasV6(a: number, b: number, c: number, d: number): boolean {
    const table = this.#v6;
    let low = 0;
    let high = table.length >> 3;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (compared(table, 8 * middle + 4, a, b, c, d) < 0) low = middle + 1;
      else high = middle;
    }
    return 8 * low < table.length && compared(table, 8 * low, a, b, c, d) <= 0;
  }

  has(address: AddressBytes): boolean {
    const view = new DataView(address.buffer, address.byteOffset, address.length);
    if (address.length === 4) return this.hasV4(view.getUint32(0));
    return this.hasV6(view.getUint32(0), view.getUint32(4), view.getUint32(8), view.getUint32(12));
  }

  get isEmpty(): boolean {
    return this.#v4.length === 0 && this.#v6.length === 0;
  }
}

function words(value: bigint): number[] {
  return [96n, 64n, 32n, 0n].map((shift) => Number((value >> shift) & 0xffffffffn));
}

/** Negative: the table's address at `at` is below a:b:c:d. */
function compared(table: Uint32Array, at: number, a: number, b: number, c: number, d: number): number {
  return table[at]! - a || table[at + 1]! - b || table[at + 2]! - c || table[at + 3]! - d;
}
