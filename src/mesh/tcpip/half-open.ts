import type { TcpAccept, TcpConnection } from "./connection.ts";

const BACKLOG_PER_LISTENER = 1024;
const MOST_HALF_OPEN = 8192; // upstream's limit on Linux
const PEER_SHARE = 2 / 3; // of the half-open ones, also upstream's

/** Connections whose SYN was answered and nothing more: bounded for each port and each peer, so that a flood of SYNs leaves room. */
export class HalfOpen {
  #size = 0;
  readonly #byPeer: Map<number, number> = new Map();
  readonly #byPort: Map<number, number> = new Map();

  isFull(port: number, peer: number): boolean {
    if (this.#size >= MOST_HALF_OPEN) return true;
    const ofPort = this.#byPort.get(port) ?? 0;
    const ofPeer = this.#byPeer.get(peer) ?? 0;
    return ofPort >= BACKLOG_PER_LISTENER || ofPeer >= BACKLOG_PER_LISTENER * PEER_SHARE;
  }

  add(connection: TcpConnection, accept: TcpAccept): void {
    connection.accept = accept;
    this.#size++;
    bump(this.#byPeer, connection.seenPeer, 1);
    bump(this.#byPort, connection.key.localPort, 1);
  }

  /** Who asked for it; `undefined`: it was not half open. */
  take(connection: TcpConnection): TcpAccept | undefined {
    const { accept } = connection;
    if (accept === undefined) return undefined;
    connection.accept = undefined;
    this.#size--;
    bump(this.#byPeer, connection.seenPeer, -1);
    bump(this.#byPort, connection.key.localPort, -1);
    return accept;
  }
}

function bump(counts: Map<number, number>, key: number, by: number): void {
  const count = (counts.get(key) ?? 0) + by;
  if (count > 0) counts.set(key, count);
  else counts.delete(key);
}
