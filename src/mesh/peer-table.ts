import { type Prefix, parsePrefix } from "../base/address.ts";
import { toHex } from "../base/bytes.ts";
import { parseKey } from "../crypto/keys.ts";
import { keyExpiryMs } from "../wire/map-apply.ts";
import { isMeshAddress } from "../wire/mesh-address.ts";
import type { NetworkMap } from "../wire/network-map.ts";
import type { Node } from "../wire/tailcfg.ts";
import type { PacketFilter } from "./filter/filter.ts";
import type { Paths } from "./paths/paths.ts";
import type { WireGuard } from "./wireguard/device.ts";

/** A peer as the data plane knows it. */
export interface PeerEntry {
  readonly index: number;
  /** 32 bytes, hex. */
  readonly keyHex: string;
  readonly node: Node;
}

export interface PeerTableParts {
  readonly wireguard: WireGuard;
  readonly paths: Paths;
  readonly filter: PacketFilter;
  /** A peer goes, or has another key: whatever rests on it ends, and its resets still find the way. */
  readonly onRemoved: (index: number) => void;
  /** A peer's process is another one. Where the system under it does its TCP, its connections live on. */
  readonly onRestarted: (index: number) => void;
}

/** Keeps the tunnels and paths in step with the network map. */
export class PeerTable {
  readonly #parts: PeerTableParts;
  readonly #byKey: Map<string, PeerEntry> = new Map();
  readonly #byIndex: Map<number, PeerEntry> = new Map();

  constructor(parts: PeerTableParts) {
    this.#parts = parts;
  }

  byIndex(index: number): PeerEntry | undefined {
    return this.#byIndex.get(index);
  }

  byKey(keyHex: string): PeerEntry | undefined {
    return this.#byKey.get(keyHex);
  }

  get all(): Iterable<PeerEntry> {
    return this.#byKey.values();
  }

  /** `wall`: the server's time. Gives the instant (same time) at which the next key expires; `Infinity`: none does. */
  apply(map: NetworkMap, now: number, wall: number): number {
    const wanted = new Map<string, Node>();
    const taken = new Set(map.self.Addresses);
    for (const { Addresses } of map.peers.values()) for (const address of Addresses) taken.add(address);
    const own = new Set(map.self.Addresses);
    let nextExpiry = Infinity;
    for (const node of map.peers.values()) {
      const key = usableKey(node);
      const expiry = keyExpiryMs(node);
      if (key === undefined || expiry <= wall || node.Key === map.self.Key) continue;
      wanted.set(toHex(key), node);
      nextExpiry = Math.min(nextExpiry, expiry);
    }
    for (const entry of [...this.#byKey.values()]) {
      if (!wanted.has(entry.keyHex)) this.#remove(entry);
    }
    for (const [keyHex, node] of wanted) {
      const known = this.#byKey.get(keyHex);
      if (known?.node === node) continue; // untouched by this message
      this.#set(keyHex, node, allowedPrefixes(node, own, taken), known, now);
    }
    return nextExpiry;
  }

  clear(): void {
    for (const entry of [...this.#byKey.values()]) this.#remove(entry);
  }

  #set(keyHex: string, node: Node, allowedIps: Prefix[], known: PeerEntry | undefined, now: number): void {
    const { wireguard, paths, filter } = this.#parts;
    const nodeKey = parseKey("nodekey", node.Key)!;
    const index = known?.index ?? wireguard.addPeer({ publicKey: nodeKey, allowedIps }, now);
    // Upstream `wgengine/userspace.go:Reconfig`: a disco key lives as long as its process.
    const isRestarted = known !== undefined && known.node.DiscoKey !== node.DiscoKey;
    if (known !== undefined) {
      wireguard.updatePeer(index, { allowedIps });
      if (isRestarted) wireguard.forgetSessions(index, now);
    }
    if (node.IsJailed === true || known?.node.IsJailed === true) filter.setJailed(index, node.IsJailed === true);
    paths.setPeer(
      {
        index,
        nodeKey,
        discoKey: discoOf(node),
        endpoints: node.Endpoints ?? [],
        homeDerp: homeDerp(node),
        isWireGuardOnly: node.IsWireGuardOnly === true,
      },
      now,
    );
    const entry = { index, keyHex, node };
    this.#byKey.set(keyHex, entry);
    this.#byIndex.set(index, entry);
    if (isRestarted) this.#parts.onRestarted(index);
  }

  #remove(entry: PeerEntry): void {
    this.#byKey.delete(entry.keyHex);
    this.#byIndex.delete(entry.index);
    this.#parts.onRemoved(entry.index); // while it can still be told
    this.#parts.wireguard.removePeer(entry.index);
    this.#parts.paths.removePeer(entry.index);
    if (entry.node.IsJailed === true) this.#parts.filter.setJailed(entry.index, false);
  }
}

/** The key of a peer that can be spoken to; expired ones and those with no way to reach them cannot. */
function usableKey(node: Node): Uint8Array | undefined {
  if (node.Expired === true) return undefined;
  if (node.IsWireGuardOnly !== true && discoOf(node) === undefined && homeDerp(node) === 0) return undefined;
  const key = parseKey("nodekey", node.Key);
  return key?.some((byte) => byte !== 0) ? key : undefined;
}

function discoOf(node: Node): Uint8Array | undefined {
  const key = node.DiscoKey === undefined ? undefined : parseKey("discokey", node.DiscoKey);
  return key?.some((byte) => byte !== 0) ? key : undefined; // all zero = not set
}

/** The region, from the new member or from the legacy `127.3.3.40:<region>`. */
function homeDerp(node: Node): number {
  return node.HomeDERP ?? Number(/^127\.3\.3\.40:(\d+)$/.exec(node.DERP ?? "")?.[1] ?? 0);
}

/**
 * Without accepted routes only a node's own addresses count (data-plane.md 1.9), and those of services that it hosts:
 * single ones of the mesh that no node has. What is ours is nobody else's, whatever the server says.
 */
export function allowedPrefixes(node: Node, ours: ReadonlySet<string>, taken: ReadonlySet<string>): Prefix[] {
  const own = new Set(node.Addresses);
  return (node.AllowedIPs ?? node.Addresses).flatMap((text) => {
    const prefix = ours.has(text) ? undefined : parsePrefix(text);
    if (prefix === undefined) return [];
    return own.has(text) || (isOfMesh(prefix) && !taken.has(text)) ? [prefix] : [];
  });
}

function isOfMesh({ address, bits }: Prefix): boolean {
  return bits === 8 * address.length && isMeshAddress(address);
}
