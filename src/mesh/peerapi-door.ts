import type { AddressBytes } from "../base/address.ts";
import type { Conn, Listener } from "../base/conn.ts";
import type { DataPlane } from "./data-plane.ts";
import { peerApiPort } from "./peerapi.ts";

/** Where peers reach our peerapi: each address has a port of its own, which peers work out or read in our Hostinfo. */
export class PeerApiDoor {
  readonly #plane: DataPlane;
  #accept: ((conn: Conn) => void) | undefined;
  #listeners: readonly Listener[] = [];

  constructor(plane: DataPlane) {
    this.#plane = plane;
  }

  get isServed(): boolean {
    return this.#accept !== undefined;
  }

  serve(accept: (conn: Conn) => void): void {
    this.#accept = accept;
  }

  /** Follows our addresses. True: there is news to tell the server. */
  open(addresses: readonly AddressBytes[]): boolean {
    const accept = this.#accept;
    if (accept === undefined) return false;
    const { netstack, filter, tsmp } = this.#plane;
    const places = addresses.map((address) => ({ address, port: peerApiPort(address) }));
    const ports = [...new Set(places.map(({ port }) => port))];
    if (ports.join() === this.#listeners.map(({ port }) => port).join()) return false;
    for (const listener of this.#listeners) listener.close();
    this.#listeners = ports.map((port) => netstack.listenTcp(port, accept));
    filter.setPeerApi(places);
    tsmp.hasPeerApi = true;
    return true;
  }
}
