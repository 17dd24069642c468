import { toHex } from "../../base/bytes.ts";
import type { Path } from "../../base/path-table.ts";
import type { PeerPaths } from "./peer-paths.ts";

export type OnPong = (result: { readonly path: number; readonly latencyMs: number }) => void;

export interface SentPing {
  readonly peer: PeerPaths;
  readonly path: number;
  /** The path itself: its number may mean another one by the time of the pong. */
  readonly to: Path;
  readonly sentAt: number;
  readonly onPong: OnPong | undefined;
}

export const PING_TIMEOUT_MS = 5000;
/** Enough for 1,000 peers in discovery at once; the oldest is forgotten. */
const MOST_PINGS = 65_536;

/** Pings that wait for their pong. */
export class SentPings {
  /** By transaction, in order of sending, so also of timing out. */
  readonly #pings: Map<string, SentPing> = new Map();

  /** When the oldest one times out. */
  get deadline(): number {
    for (const { sentAt } of this.#pings.values()) return sentAt + PING_TIMEOUT_MS;
    return Infinity;
  }

  add(tx: Uint8Array, ping: SentPing): void {
    if (this.#pings.size >= MOST_PINGS) {
      for (const oldest of this.#pings.keys()) {
        this.#pings.delete(oldest);
        break;
      }
    }
    this.#pings.set(toHex(tx), ping);
  }

  /** The ping that a pong answers, once: only one of `peers`, only from where it was asked, and in time (DD-1). */
  take(tx: Uint8Array, peers: ReadonlySet<PeerPaths>, from: Path, now: number): SentPing | undefined {
    const key = toHex(tx);
    const ping = this.#pings.get(key);
    if (ping === undefined || !peers.has(ping.peer) || now >= ping.sentAt + PING_TIMEOUT_MS) return undefined;
    if (!isSamePath(ping.to, from)) return undefined;
    this.#pings.delete(key);
    return ping;
  }

  *takeTimedOut(now: number): Generator<SentPing> {
    for (const [tx, ping] of this.#pings) {
      if (now < ping.sentAt + PING_TIMEOUT_MS) return;
      this.#pings.delete(tx);
      yield ping;
    }
  }

  forget(peer: PeerPaths): void {
    for (const [tx, ping] of this.#pings) if (ping.peer === peer) this.#pings.delete(tx);
  }
}

function isSamePath(a: Path, b: Path): boolean {
  if (a === b) return true;
  if (a.kind === "udp") return b.kind === "udp" && a.port === b.port && a.address === b.address;
  return b.kind === "derp" && a.region === b.region && a.nodeKey === b.nodeKey;
}
