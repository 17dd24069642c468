import { type Prefix, parsePrefix } from "../base/address.ts";
import { toHex } from "../base/bytes.ts";
import { parseKey } from "../crypto/keys.ts";
import type { NetworkMap } from "../wire/network-map.ts";
import type { Node } from "../wire/tailcfg.ts";
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
  /** A peer is gone, or has another key: whatever rests on it ends. */
  readonly onRemoved: (index: number) => void;
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

  apply(map: NetworkMap, now: number): void {
    const wanted = new Map<string, Node>();
    for (const node of map.peers.values()) {
      const key = usableKey(node);
      if (key !== undefined) wanted.set(toHex(key), node);
    }
    for (const entry of [...this.#byKey.values()]) {
      if (!wanted.has(entry.keyHex)) this.#remove(entry);
    }
    for (const [keyHex, node] of wanted) {
      const known = this.#byKey.get(keyHex);
      if (known?.node === node) continue; // untouched by this message
      this.#set(keyHex, node, known, now);
    }
  }

  #set(keyHex: string, node: Node, known: PeerEntry | undefined, now: number): void {
    const { wireguard, paths } = this.#parts;
    const nodeKey = parseKey("nodekey", node.Key)!;
    const allowedIps = allowedPrefixes(node);
    const index = known?.index ?? wireguard.addPeer({ publicKey: nodeKey, allowedIps }, now);
    if (known !== undefined) wireguard.updatePeer(index, { allowedIps });
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
  }

  #remove(entry: PeerEntry): void {
    this.#byKey.delete(entry.keyHex);
    this.#byIndex.delete(entry.index);
    this.#parts.wireguard.removePeer(entry.index);
    this.#parts.paths.removePeer(entry.index);
    this.#parts.onRemoved(entry.index);
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

/** Without accepted routes only a node's own addresses count (data-plane.md 1.9). */
export function allowedPrefixes(node: Node): Prefix[] {
  const allowed = node.AllowedIPs ?? node.Addresses;
  const own = new Set(node.Addresses);
  return allowed
    .filter((text) => own.has(text))
    .map((text) => parsePrefix(text))
    .filter((prefix) => prefix !== undefined);
}
