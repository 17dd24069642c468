import type { AddressBytes } from "../base/address.ts";
import { equalBytes, toHex } from "../base/bytes.ts";
import type { Random } from "../base/random.ts";
import { IPV4, IPV6 } from "../wire/ip.ts";
import { encodeTsmpPing, encodeTsmpReject, pongFor, readTsmpPong, TSMP_PING_BYTES } from "../wire/tsmp.ts";
import { peerApiPort } from "./peerapi.ts";

const REJECTS_PER_SECOND = 100;
const MOST_PINGS = 256;

export interface TsmpOptions {
  readonly random: Random;
  /** Sends an inner packet; `peer` -1 = route by destination. */
  readonly output: (packet: Uint8Array, peer: number, now: number) => void;
}

export type OnTsmpPong = (latencyMs: number, peerApiPort: number) => void;

/** Our end of Tailscale's in-tunnel messages: answers pings, sends our own, and says why a SYN was not let in. */
export class TsmpService {
  /** Whether we answer peerapi: pongs tell its port. */
  hasPeerApi = false;
  readonly #options: TsmpOptions;
  #addresses: readonly AddressBytes[] = [];
  readonly #pings: Map<string, { readonly sentAt: number; readonly peer: number; readonly onPong: OnTsmpPong }> =
    new Map();
  #rejects = { second: -1, count: 0 };

  constructor(options: TsmpOptions) {
    this.#options = options;
  }

  setAddresses(addresses: readonly AddressBytes[]): void {
    this.#addresses = addresses;
  }

  /** A packet of protocol 99, before the filter as upstream does (`net/tstun/wrap.go`). Its source is the peer's. */
  input(slab: Uint8Array, offset: number, length: number, peer: number, now: number): void {
    const destination = this.#ours(slab, offset, length);
    if (destination === undefined) return;
    const pong = pongFor(slab, offset, length, this.hasPeerApi ? peerApiPort(destination) : 0);
    if (pong !== undefined) {
      this.#options.output(pong, peer, now);
      return;
    }
    const answer = readTsmpPong(slab, offset, length);
    if (answer === undefined) return;
    const key = toHex(answer.data);
    const ping = this.#pings.get(key);
    if (ping === undefined || ping.peer !== peer) return;
    this.#pings.delete(key);
    ping.onPong(now - ping.sentAt, answer.peerApiPort);
  }

  /** False: we have no address of that family. The oldest of too many pings is forgotten. */
  ping(destination: AddressBytes, peer: number, now: number, onPong: OnTsmpPong): boolean {
    const source = this.#addresses.find((address) => address.length === destination.length);
    if (source === undefined) return false;
    if (this.#pings.size >= MOST_PINGS)
      for (const oldest of [...this.#pings.keys()].slice(0, 1)) this.#pings.delete(oldest);
    const data = this.#options.random(TSMP_PING_BYTES);
    this.#pings.set(toHex(data), { sentAt: now, peer, onPong });
    this.#options.output(encodeTsmpPing(source, destination, data), peer, now);
    return true;
  }

  /** At most 100 a second: a port scan must not make us a source of traffic. */
  reject(packet: Uint8Array, peer: number, reason: "acl" | "shields", now: number): void {
    const second = Math.floor(now / 1000);
    if (this.#rejects.second !== second) this.#rejects = { second, count: 0 };
    if (this.#rejects.count++ >= REJECTS_PER_SECOND) return;
    const answer = encodeTsmpReject(packet, reason);
    if (answer !== undefined) this.#options.output(answer, peer, now);
  }

  /** The address of ours that a packet is for. */
  #ours(slab: Uint8Array, offset: number, length: number): AddressBytes | undefined {
    const isV4 = slab[offset]! >> 4 === 4;
    const [at, size] = isV4 ? [IPV4.destination, 4] : [IPV6.destination, 16];
    if (length < at + size) return undefined;
    const destination = slab.subarray(offset + at, offset + at + size);
    return this.#addresses.find((address) => equalBytes(address, destination));
  }
}
