import type { NetInfo, Node } from "../wire/tailcfg.ts";
import type { DataPlane } from "./data-plane.ts";

export interface PeerStatus {
  readonly node: Node;
  readonly isDirect: boolean;
  /** `ip:port` of the direct path, or `derp <region>`. */
  readonly path: string | undefined;
  readonly rxBytes: number;
  readonly txBytes: number;
  /** A WireGuard session stands: packets went or came within the last minutes. */
  readonly isActive: boolean;
  /** Unix ms. */
  readonly lastHandshakeWall: number | undefined;
}

/** What this node knows of the network under it. */
export interface NetworkReport {
  readonly netInfo: NetInfo;
  /** 0 = none yet. */
  readonly homeRegion: number;
  readonly connectedRegions: readonly number[];
  /** `ip:port` where others may find us, best first. */
  readonly endpoints: readonly string[];
}

export type Counters = Readonly<Record<string, Readonly<Record<string, number>>>>;

export function peerStatusOf(plane: DataPlane): PeerStatus[] {
  const { peers, wireguard, paths, table } = plane;
  return [...peers.all].map(({ index, node }) => {
    const statistics = wireguard.statistics(index, plane.now());
    const best = paths.best(index, plane.now());
    return {
      node,
      isDirect: table.get(best)?.kind === "udp",
      path: best < 0 ? undefined : plane.describePath(best),
      rxBytes: statistics?.rxBytes ?? 0,
      txBytes: statistics?.txBytes ?? 0,
      isActive: statistics?.hasSession === true,
      lastHandshakeWall: statistics?.lastHandshakeWall,
    };
  });
}

/** What was counted where packets go, for whoever looks for a fault. */
export function countersOf({ datapath, wireguard, netstack, filter }: DataPlane): Counters {
  return {
    datapath: { ...datapath.counters },
    wireguardDrops: { ...wireguard.drops },
    netstack: {
      ...netstack.counters,
      connections: netstack.connections,
      timeWait: netstack.timeWait,
      heldBytes: netstack.heldBytes,
    },
    filter: { dropped: filter.dropped },
  };
}
