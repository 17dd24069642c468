import type { Clock } from "../base/clock.ts";
import { messageOf } from "../base/fault.ts";
import type { DerpMap, PingResponse } from "../wire/tailcfg.ts";
import type { DataPlane } from "./data-plane.ts";
import { type PingKind, ping } from "./pings.ts";

const WITHIN_MS = 10_000;
const KINDS: readonly PingKind[] = ["disco", "TSMP", "ICMP", "peerapi"];

/** Pings a peer because the server wants to know (`tailcfg.PingRequest`). Whoever is no peer of ours is not pinged. */
export async function pingForServer(
  plane: DataPlane,
  clock: Clock,
  derpMap: DerpMap | undefined,
  { ip, type }: { readonly ip: string; readonly type: string },
): Promise<PingResponse> {
  const said = { Type: type, IP: ip, NodeIP: ip, NodeName: plane.nodeAt(ip)?.Name.split(".")[0] ?? "" };
  const kind = KINDS.find((known) => known.toLowerCase() === type.toLowerCase());
  if (kind === undefined) return { ...said, Err: "unknown type of ping" };
  try {
    const { path, latencyMs, peerApiPort } = await ping(
      plane,
      clock,
      { name: ip, address: ip },
      { kind, timeoutMs: WITHIN_MS },
    );
    const region = /^derp (\d+)$/.exec(path)?.[1];
    return {
      ...said,
      LatencySeconds: latencyMs / 1000,
      ...(peerApiPort === undefined ? {} : { PeerAPIPort: peerApiPort }),
      ...(kind === "disco" ? wayOf(path, region, derpMap) : {}),
    };
  } catch (thrown) {
    return { ...said, Err: messageOf(thrown) };
  }
}

function wayOf(path: string, region: string | undefined, derpMap: DerpMap | undefined): Partial<PingResponse> {
  if (region === undefined) return { Endpoint: path };
  return { DERPRegionID: Number(region), DERPRegionCode: derpMap?.Regions?.[region]?.RegionCode ?? "" };
}
