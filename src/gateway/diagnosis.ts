import { toHex } from "../base/bytes.ts";
import type { Log } from "../base/log.ts";
import { systemRandom } from "../base/random.ts";
import type { MeshNode } from "../mesh/node.ts";
import { type NetcheckDocument, ZERO_TIME } from "../wire/ipn.ts";
import type { Gateway } from "./gateway.ts";
import { statusDocument, suffixOf, VERSION } from "./status-document.ts";

/** What `sallyport netcheck` shows. */
export function netcheckDocument(node: MeshNode): NetcheckDocument {
  const { netInfo, homeRegion, connectedRegions, endpoints } = node.networkReport;
  const latencies = netInfo.DERPLatency ?? {};
  const measured = (family: "v4" | "v6"): boolean => Object.keys(latencies).some((key) => key.endsWith(family));
  const ipv4 = measured("v4") ? endpoints.find((endpoint) => !endpoint.startsWith("[")) : undefined;
  const ipv6 = measured("v6") ? endpoints.find((endpoint) => endpoint.startsWith("[")) : undefined;
  const regions = Object.values(node.map?.derpMap.Regions ?? {}).flatMap((region) => {
    if (region == null) return [];
    const { RegionID: id, RegionCode: code, RegionName: name } = region;
    const seconds = Math.min(latencies[`${id}-v4`] ?? Infinity, latencies[`${id}-v6`] ?? Infinity);
    const latency = seconds === Infinity ? {} : { latencyMs: seconds * 1000 };
    return [{ id, code, name, ...latency, isHome: id === homeRegion, isConnected: connectedRegions.includes(id) }];
  });
  return {
    udp: netInfo.WorkingUDP === true,
    ...(ipv4 === undefined ? {} : { ipv4 }),
    ...(ipv6 === undefined ? {} : { ipv6 }),
    ...(netInfo.MappingVariesByDestIP == null ? {} : { mappingVariesByDestIp: netInfo.MappingVariesByDestIP }),
    endpoints,
    regions,
  };
}

/** `ipn.LoginProfile`: the one account that a gateway has. */
export function profileDocument({ node, preferences }: Gateway): unknown {
  const { map } = node;
  if (map === undefined) return undefined;
  const user = map.users.get(map.self.User);
  return {
    ID: map.self.StableID,
    Name: user?.LoginName ?? "",
    NetworkProfile: { MagicDNSName: suffixOf(map.self.Name), DomainName: map.domain, DisplayName: "" },
    Key: `profile-${map.self.StableID}`,
    UserProfile: { ID: map.self.User, LoginName: user?.LoginName ?? "", DisplayName: user?.DisplayName ?? "" },
    NodeID: map.self.StableID,
    LocalUserID: "",
    ControlURL: preferences.now.ControlURL,
    Created: map.self.Created ?? ZERO_TIME,
  };
}

/** Everything that helps to find a fault, and no key, no header, no target of what is served. */
export function bugReport(gateway: Gateway, wall: number): Readonly<Record<string, unknown>> {
  const { node, preferences } = gateway;
  const served = gateway.storedServeConfig;
  return {
    time: new Date(wall).toISOString(),
    version: VERSION,
    node: process.version,
    platform: `${process.platform} ${process.arch}`,
    uptimeSeconds: Math.round(process.uptime()),
    memoryBytes: process.memoryUsage().rss,
    means: node.means,
    state: node.state.kind,
    health: node.health,
    hostname: preferences.now.Hostname,
    netcheck: netcheckDocument(node),
    counters: node.counters,
    served: { tcp: Object.keys(served?.TCP ?? {}), web: Object.keys(served?.Web ?? {}).length },
    status: statusDocument(node, true),
  };
}

const LONGEST_NOTE = 1000;

/** A mark in the log, and what it is; `wall`: Unix ms. */
export function markLog(log: Log, wall: number, note: string): string {
  const time = new Date(wall).toISOString().replace(/[-:]|\.\d+/g, "");
  const mark = `BUG-${toHex(systemRandom(32))}-${time}`;
  log.info("bugreport", { mark, note: note.slice(0, LONGEST_NOTE) });
  return mark;
}
