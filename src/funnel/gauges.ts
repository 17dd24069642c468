import { formatAddress, maskedPrefix, parseAddress } from "../base/address.ts";

/** How many may be begun each second; twice as many at once after a quiet time. */
export class Rate {
  #left = Number.POSITIVE_INFINITY;
  #at = 0;

  /** Takes one, if there is one left. `now` in monotonic ms. */
  take(perSecond: number, now: number): boolean {
    const most = Math.max(1, 2 * perSecond);
    this.#left = Math.min(most, this.#left + ((now - this.#at) * perSecond) / 1000);
    this.#at = now;
    if (this.#left < 1) return false;
    this.#left--;
    return true;
  }
}

/** What is counted of one visitor, or of one name. */
export interface Gauge {
  readonly key: string;
  open: number;
  readonly rate: Rate;
}

const FORGOTTEN_AT_ONCE = 16;

/** Gauges by key. Those at rest are forgotten, oldest first, when there are more than `most`. */
export class Gauges {
  readonly #byKey: Map<string, Gauge> = new Map();
  readonly #most: number;

  constructor(most: number) {
    this.#most = most;
  }

  of(key: string): Gauge {
    let gauge = this.#byKey.get(key);
    if (gauge === undefined) {
      if (this.#byKey.size >= this.#most) this.#forget();
      gauge = { key, open: 0, rate: new Rate() };
      this.#byKey.set(key, gauge);
    }
    return gauge;
  }

  get size(): number {
    return this.#byKey.size;
  }

  #forget(): void {
    let looked = 0;
    for (const [key, gauge] of this.#byKey) {
      if (++looked > FORGOTTEN_AT_ONCE) return;
      this.#byKey.delete(key);
      if (gauge.open > 0) this.#byKey.set(key, gauge); // in use: to the end of the line
    }
  }
}

/** Who counts as one visitor: an IPv4 address, or an IPv6 /64, which is what one customer is given. */
export function visitorKey(address: string): string {
  if (!address.includes(":")) return address; // most are, and it need not be read twice
  const bytes = parseAddress(address);
  if (bytes === undefined || bytes.length === 4) return address;
  return formatAddress(maskedPrefix({ address: bytes, bits: 64 }).address);
}
