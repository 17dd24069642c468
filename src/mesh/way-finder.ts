import type { Datapath } from "./datapath.ts";
import type { Paths } from "./paths/paths.ts";

const HANDSHAKE_INITIATION = 1;

/**
 * Sends WireGuard's datagrams by the best way that there is. A first handshake may be due before any is known: it waits for
 * one instead of for WireGuard's 5 s.
 */
export class WayFinder {
  readonly #paths: Pick<Paths, "best" | "second" | "sent">;
  readonly #datapath: Pick<Datapath, "sendDatagram">;
  /** The newest of each peer. */
  readonly #waiting: Map<number, Uint8Array> = new Map();

  constructor(paths: Pick<Paths, "best" | "second" | "sent">, datapath: Pick<Datapath, "sendDatagram">) {
    this.#paths = paths;
    this.#datapath = datapath;
  }

  send(peer: number, datagram: Uint8Array, now: number): void {
    this.#paths.sent(peer, now);
    const best = this.#paths.best(peer, now);
    if (best < 0) {
      if (datagram[0] === HANDSHAKE_INITIATION) this.#waiting.set(peer, datagram.slice());
      return;
    }
    this.#waiting.delete(peer);
    this.#datapath.sendDatagram(best, datagram);
    const second = this.#paths.second(peer, now);
    if (second >= 0) this.#datapath.sendDatagram(second, datagram);
  }

  /** Does anything wait for a way? */
  get isAwaited(): boolean {
    return this.#waiting.size > 0;
  }

  /** What waits and has a way by now goes; what waits for nobody any more is forgotten. */
  retry(isPeer: (peer: number) => boolean, now: number): void {
    for (const [peer, datagram] of this.#waiting) {
      if (!isPeer(peer)) this.#waiting.delete(peer);
      else if (this.#paths.best(peer, now) >= 0) this.send(peer, datagram, now);
    }
  }

  forget(): void {
    this.#waiting.clear();
  }
}
