import { type AddressPort, formatAddressPort } from "../base/address.ts";

/** As RFC 4787 sorts them: mapping by destination or not, filtering by nothing, address, or address and port. */
export type NatKind = "full cone" | "restricted" | "port-restricted" | "symmetric";

interface Mapping {
  readonly port: number;
  readonly inside: AddressPort;
  readonly contacted: Set<string>;
}

const FIRST_PORT = 20_000;
const LAST_PORT = 60_000;

/** Translates the UDP addresses of what is behind it. */
export class Nat {
  readonly kind: NatKind;
  /** The address that the outside sees. */
  readonly address: string;
  readonly #byInside: Map<string, Mapping> = new Map();
  readonly #byPort: Map<number, Mapping> = new Map();
  #port = FIRST_PORT;

  constructor(kind: NatKind, address: string) {
    this.kind = kind;
    this.address = address;
  }

  /** Where a datagram from `inside` to `to` seems to come from. */
  out(inside: AddressPort, to: AddressPort): AddressPort {
    const target = formatAddressPort(to);
    const key = this.kind === "symmetric" ? `${formatAddressPort(inside)} ${target}` : formatAddressPort(inside);
    const mapping = this.#byInside.get(key) ?? this.#map(key, inside);
    mapping.contacted.add(target).add(to.address);
    return { address: this.address, port: mapping.port };
  }

  /** Where a datagram from `from` to our `port` goes; `undefined` = dropped. */
  in(port: number, from: AddressPort): AddressPort | undefined {
    const mapping = this.#byPort.get(port);
    if (mapping === undefined || this.kind === "full cone") return mapping?.inside;
    const wanted = this.kind === "restricted" ? from.address : formatAddressPort(from);
    return mapping.contacted.has(wanted) ? mapping.inside : undefined;
  }

  /** As after a restart of the router: what comes in is dropped, what goes out gets new ports. */
  forget(): void {
    this.#byInside.clear();
    this.#byPort.clear();
  }

  #map(key: string, inside: AddressPort): Mapping {
    if (this.#port > LAST_PORT) {
      this.forget(); // a router's table is no larger either
      this.#port = FIRST_PORT;
    }
    const mapping: Mapping = { port: this.#port++, inside, contacted: new Set() };
    this.#byInside.set(key, mapping);
    this.#byPort.set(mapping.port, mapping);
    return mapping;
  }
}
