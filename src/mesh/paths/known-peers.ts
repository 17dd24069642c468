import { formatAddressPort } from "../../base/address.ts";
import { equalBytes, fromHex, toHex } from "../../base/bytes.ts";
import type { Path } from "../../base/path-table.ts";
import type { DiscoMessage } from "../../wire/disco.ts";
import type { PeerPaths } from "./peer-paths.ts";

/** Strangers must not make us search all peers' addresses all the time. */
const LOOKUPS_PER_SECOND = 20;
const NOBODY: ReadonlySet<PeerPaths> = new Set();

/** The peers, found by whatever names them. */
export class KnownPeers {
  readonly #byIndex: Map<number, PeerPaths> = new Map();
  readonly #byNodeKey: Map<string, PeerPaths> = new Map();
  /** Several nodes can share a disco key (several profiles on one machine). */
  readonly #byDiscoKey: Map<string, Set<PeerPaths>> = new Map();
  #lookups: { readonly since: number; count: number } = { since: -Infinity, count: 0 };

  get(index: number): PeerPaths | undefined {
    return this.#byIndex.get(index);
  }

  get all(): Iterable<PeerPaths> {
    return this.#byIndex.values();
  }

  add(peer: PeerPaths): void {
    this.#byIndex.set(peer.index, peer);
    this.#byNodeKey.set(peer.nodeKeyHex, peer);
    if (!peer.hasDisco) return;
    const sharing = this.#byDiscoKey.get(peer.discoKeyHex) ?? new Set();
    this.#byDiscoKey.set(peer.discoKeyHex, sharing.add(peer));
  }

  remove(index: number): PeerPaths | undefined {
    const peer = this.#byIndex.get(index);
    if (peer === undefined) return undefined;
    this.#byIndex.delete(index);
    if (this.#byNodeKey.get(peer.nodeKeyHex) === peer) this.#byNodeKey.delete(peer.nodeKeyHex);
    const sharing = this.#byDiscoKey.get(peer.discoKeyHex);
    sharing?.delete(peer);
    if (sharing?.size === 0) this.#byDiscoKey.delete(peer.discoKeyHex);
    return peer;
  }

  /** All that hold a disco key. */
  sharing(discoKey: Uint8Array): ReadonlySet<PeerPaths> {
    return this.#byDiscoKey.get(toHex(discoKey)) ?? NOBODY;
  }

  /** The one of `sharing` that a message is from. A node key in a ping alone proves nothing: it must be bound to the disco key. */
  senderOf(sharing: ReadonlySet<PeerPaths>, way: Path, message: DiscoMessage): PeerPaths | undefined {
    const named = message.kind === "ping" ? message.nodeKey : undefined;
    const relayed = way.kind === "derp" ? fromHex(way.nodeKey) : undefined;
    if (way.kind === "derp" && relayed === undefined) return undefined;
    const fitting = [...sharing].filter(
      (peer) =>
        (named === undefined || equalBytes(peer.nodeKey, named)) &&
        (relayed === undefined || equalBytes(peer.nodeKey, relayed)),
    );
    return fitting.length === 1 ? fitting[0] : undefined;
  }

  /** The peer whose way this is, as far as that can be told without a proof. */
  ownerOf(way: Path, now: number): PeerPaths | undefined {
    if (way.kind === "derp") return this.#byNodeKey.get(way.nodeKey); // the relay vouches for it
    if (now - this.#lookups.since >= 1000) this.#lookups = { since: now, count: 0 };
    if (++this.#lookups.count > LOOKUPS_PER_SECOND) return undefined;
    const endpoint = formatAddressPort(way);
    for (const peer of this.#byIndex.values()) {
      if (peer.candidates.some((candidate) => candidate.endpoint === endpoint)) return peer;
    }
    return undefined;
  }
}
