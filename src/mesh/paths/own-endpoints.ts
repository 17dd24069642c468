import { type AddressPort, formatAddressPort, parseAddress, parseAddressPort } from "../../base/address.ts";
import { isLoopback } from "./candidate.ts";

/** `type` is `MapRequest.EndpointTypes`. */
export interface LocalEndpoint {
  readonly endpoint: string;
  readonly type: number;
}

export const ENDPOINT_TYPE = { local: 1, stun: 2, portMapped: 3, stunLocalPort: 4, configured: 5 } as const;

/** Old enough to ask STUN again before we tell a peer. */
const FRESH_MS = 27_000;
/** NATs keep a mapping for about that long; a peer may still use it. */
const REMEMBERED_MS = 310_000;
const MOST_PER_ADDRESS = 6;
const MOST_LOCAL = 32;

/** The addresses that peers may reach us at: upstream `magicsock.go:determineEndpoints`. */
export class OwnEndpoints {
  #addresses: readonly string[] = [];
  #port = 0;
  #seen: string[] = [];
  readonly #seenAt: Map<string, number> = new Map();
  #askedAt: number = -Infinity;
  #list: readonly LocalEndpoint[] = [];

  get list(): readonly LocalEndpoint[] {
    return this.#list;
  }

  get port(): number {
    return this.#port;
  }

  get hasIpv6(): boolean {
    return this.#addresses.some((address) => address.includes(":"));
  }

  get hasOnlyLoopback(): boolean {
    return this.#addresses.every((address) => isLoopback(parseAddress(address)!));
  }

  isFresh(now: number): boolean {
    return now - this.#askedAt <= FRESH_MS;
  }

  /** Whether `endpoint` is this very socket. */
  isOurs(address: string, port: number): boolean {
    return port === this.#port && this.#addresses.includes(address);
  }

  parsed(endpoint: string): AddressPort[] {
    const parsed = parseAddressPort(endpoint);
    return parsed === undefined ? [] : [parsed];
  }

  /** True when something changed. */
  setLocal(addresses: readonly string[], port: number, allowLoopback: boolean): boolean {
    const usable = addresses.filter((text) => {
      const bytes = parseAddress(text);
      return bytes !== undefined && !(bytes.length === 16 && bytes[0] === 0xfe && (bytes[1]! & 0xc0) === 0x80);
    });
    const routed = usable.filter((text) => !isLoopback(parseAddress(text)!));
    const kept = (allowLoopback || routed.length === 0 ? usable : routed).slice(0, MOST_LOCAL);
    if (port === this.#port && kept.join() === this.#addresses.join()) return false;
    this.#addresses = kept;
    this.#port = port;
    this.#seen = []; // what STUN said of the former network
    this.#seenAt.clear();
    this.#askedAt = -Infinity;
    this.#rebuild();
    return true;
  }

  /** What STUN servers saw. True when the list changed. */
  learned(seenV4: readonly string[], seenV6: readonly string[], now: number): boolean {
    this.#askedAt = now;
    this.#seen = [...seenV4, ...seenV6];
    for (const endpoint of this.#seen) {
      this.#seenAt.delete(endpoint);
      this.#seenAt.set(endpoint, now);
    }
    const perAddress = new Map<string, number>();
    for (const [endpoint, at] of [...this.#seenAt].reverse()) {
      const { address } = parseAddressPort(endpoint)!;
      const count = (perAddress.get(address) ?? 0) + 1;
      perAddress.set(address, count);
      if (now - at > REMEMBERED_MS || count > MOST_PER_ADDRESS) this.#seenAt.delete(endpoint);
    }
    const before = this.#list.map(({ endpoint, type }) => `${type} ${endpoint}`).join();
    this.#rebuild();
    return before !== this.#list.map(({ endpoint, type }) => `${type} ${endpoint}`).join();
  }

  #rebuild(): void {
    const list = new Map<string, number>();
    const add = (endpoint: string, type: number): void => {
      if (!list.has(endpoint)) list.set(endpoint, type);
    };
    for (const endpoint of this.#seen) add(endpoint, ENDPOINT_TYPE.stun);
    const firstV4 = this.#seen.map((text) => parseAddressPort(text)!).find(({ address }) => !address.includes(":"));
    const isVarying = this.#seen.filter((text) => !text.startsWith("[")).length > 1;
    if (firstV4 !== undefined && isVarying) {
      // A router that forwards our fixed port would show here (upstream EndpointSTUN4LocalPort).
      add(formatAddressPort({ address: firstV4.address, port: this.#port }), ENDPOINT_TYPE.stunLocalPort);
    }
    for (const endpoint of this.#seenAt.keys()) add(endpoint, ENDPOINT_TYPE.stun);
    for (const address of this.#addresses) add(formatAddressPort({ address, port: this.#port }), ENDPOINT_TYPE.local);
    this.#list = [...list].map(([endpoint, type]) => ({ endpoint, type }));
  }
}
