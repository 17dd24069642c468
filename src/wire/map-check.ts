import { parsePrefix } from "../base/address.ts";
import type { DerpMap, DnsConfig, MapResponse } from "./tailcfg.ts";

/** What of a message was not what it has to be, by member, and how often. */
export type Rejected = Readonly<Record<string, number>>;

type Check = (value: unknown) => boolean;

// Go's servers write null for an empty slice, map or pointer: `maybe` takes it for absent, as everything behind does.
const maybe =
  (check: Check): Check =>
  (value) =>
    value === undefined || value === null || check(value);
const isText: Check = (value) => typeof value === "string";
const isFlag: Check = (value) => typeof value === "boolean";
const isWhole: Check = (value) => Number.isSafeInteger(value);
const isId: Check = (value) => Number.isSafeInteger(value) && (value as number) > 0;
const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const listOf =
  (check: Check): Check =>
  (value) =>
    Array.isArray(value) && value.every(check);
const recordOf =
  (check: Check): Check =>
  (value) =>
    isObject(value) && Object.values(value).every(check);
const shapeOf = (members: Readonly<Record<string, Check>>): Check => {
  const entries = Object.entries(members);
  return (value) => isObject(value) && entries.every(([name, check]) => check(value[name]));
};

/** An expiry that nobody can read must not pass for "never". */
const isTime: Check = (value) => value === "" || (typeof value === "string" && !Number.isNaN(Date.parse(value)));

/** What is read without recursion here is written again elsewhere, with it. */
const DEEPEST = 64;
function isShallow(value: unknown, left: number = DEEPEST): boolean {
  if (typeof value !== "object" || value === null) return true;
  if (left === 0) return false;
  for (const name in value) if (!isShallow((value as Record<string, unknown>)[name], left - 1)) return false;
  return true;
}
const itemOf = (members: Readonly<Record<string, Check>>): Check => {
  const check = shapeOf(members);
  return (value) => check(value) && isShallow(value);
};

/** A name goes into headers, certificates, logs and terminals. */
const isName: Check = (value) => typeof value === "string" && value.length <= 255 && /^[!-~]*$/.test(value);
/** One address: a node that owned a whole network could speak for everybody in it. */
const isOneAddress: Check = (value) => {
  const prefix = typeof value === "string" ? parsePrefix(value) : undefined;
  return prefix !== undefined && prefix.bits === prefix.address.length * 8;
};
const isRegionNumber: Check = (value) => Number.isSafeInteger(value) && (value as number) >= 0;

const isNode: Check = itemOf({
  ID: isId,
  StableID: isName,
  Name: isName,
  User: isWhole,
  Key: isText,
  KeyExpiry: maybe(isTime),
  DiscoKey: maybe(isText),
  Addresses: listOf(isOneAddress),
  AllowedIPs: maybe(listOf(isText)),
  PrimaryRoutes: maybe(listOf(isText)),
  Endpoints: maybe(listOf(isText)),
  HomeDERP: maybe(isRegionNumber),
  DERP: maybe(isText),
  Hostinfo: maybe(
    shapeOf({ Hostname: maybe(isText), OS: maybe(isText), Services: maybe(listOf(shapeOf({ Proto: isText }))) }),
  ),
  Online: maybe(isFlag),
  LastSeen: maybe(isText),
  Tags: maybe(listOf(isText)),
  CapMap: maybe(recordOf(maybe(Array.isArray))),
  Expired: maybe(isFlag),
  IsWireGuardOnly: maybe(isFlag),
  IsJailed: maybe(isFlag),
});

const isPatch: Check = itemOf({
  NodeID: isId,
  DERPRegion: maybe(isRegionNumber),
  CapMap: maybe(recordOf(maybe(Array.isArray))),
  Endpoints: maybe(listOf(isText)),
  Key: maybe(isText),
  DiscoKey: maybe(isText),
  Online: maybe(isFlag),
  LastSeen: maybe(isText),
  KeyExpiry: maybe(isTime),
});

const isRule: Check = itemOf({
  SrcIPs: maybe(listOf(isText)),
  DstPorts: maybe(listOf(isObject)),
  IPProto: maybe(listOf(isWhole)),
  CapGrant: maybe(
    listOf(
      shapeOf({
        Dsts: maybe(listOf(isText)),
        CapMap: maybe(recordOf(maybe(Array.isArray))),
        Caps: maybe(listOf(isText)),
      }),
    ),
  ),
});

const isProfile: Check = shapeOf({
  ID: isWhole,
  LoginName: isText,
  DisplayName: maybe(isText),
  ProfilePicURL: maybe(isText),
  Groups: maybe(listOf(isText)),
});

const isRegion: Check = shapeOf({
  RegionID: isId,
  RegionCode: maybe(isName),
  RegionName: maybe(isText),
  Nodes: maybe(
    listOf(
      shapeOf({
        Name: maybe(isText),
        RegionID: isId,
        HostName: isName,
        CertName: maybe(isText),
        IPv4: maybe(isText),
        IPv6: maybe(isText),
        STUNPort: maybe(isWhole),
        DERPPort: maybe(isWhole),
      }),
    ),
  ),
});

const isResolver: Check = shapeOf({ Addr: isText });

/** Members that are taken whole or not at all. */
const whole: Readonly<Record<string, Check>> = {
  Node: isNode,
  PeersRemoved: listOf(isId),
  PeerSeenChange: recordOf(isFlag),
  OnlineChange: recordOf(isFlag),
  Domain: isName,
  Health: listOf(isText),
  ControlTime: isText,
  PingRequest: isObject,
};

/** Lists that lose what is wrong in them. */
const lists: Readonly<Record<string, Check>> = {
  Peers: isNode,
  PeersChanged: isNode,
  PeersChangedPatch: isPatch,
  PacketFilter: isRule,
  UserProfiles: isProfile,
};

/** The message without what is not of its form, so that whatever applies it can rely on the types (CC-5). */
export function checkMapResponse(message: MapResponse): {
  readonly response: MapResponse;
  readonly rejected: Rejected;
} {
  const rejected: Record<string, number> = {};
  const reject = (name: string, count = 1) => {
    if (count > 0) rejected[name] = (rejected[name] ?? 0) + count;
  };
  const kept: Record<string, unknown> = { ...message };
  for (const [name, check] of Object.entries(whole)) {
    if (kept[name] === undefined || kept[name] === null) continue;
    if (check(kept[name])) kept[name] = withoutNulls(kept[name]);
    else {
      reject(name);
      delete kept[name];
    }
  }
  for (const [name, check] of Object.entries(lists)) {
    if (kept[name] === undefined || kept[name] === null) continue;
    const found: unknown[] | undefined = Array.isArray(kept[name]) ? kept[name] : undefined;
    const good = found?.filter((item) => check(item)).map(withoutNulls);
    if (good === undefined) delete kept[name];
    else kept[name] = good;
    reject(name, good === undefined ? 1 : found!.length - good.length);
  }
  if (kept["PacketFilters"] != null) kept["PacketFilters"] = namedFilters(kept["PacketFilters"], reject);
  if (kept["DERPMap"] != null) kept["DERPMap"] = derpMap(kept["DERPMap"], reject);
  if (kept["DNSConfig"] != null) kept["DNSConfig"] = dnsConfig(kept["DNSConfig"], reject);
  return { response: kept, rejected };
}

/** Null is absent: whatever reads a member later need not know it. */
function withoutNulls(value: unknown): unknown {
  if (!isObject(value)) return value;
  for (const name in value) {
    if (value[name] === null) return Object.fromEntries(Object.entries(value).filter(([, member]) => member !== null));
  }
  return value;
}

type Reject = (name: string, count?: number) => void;

function namedFilters(value: unknown, reject: Reject): Record<string, unknown> | undefined {
  if (!isObject(value)) {
    reject("PacketFilters");
    return undefined;
  }
  const filters: Record<string, unknown> = Object.create(null);
  for (const [name, rules] of Object.entries(value)) {
    if (rules === null) filters[name] = null;
    else if (!Array.isArray(rules)) reject("PacketFilters");
    else {
      filters[name] = rules.filter(isRule);
      reject("PacketFilters", rules.length - (filters[name] as unknown[]).length);
    }
  }
  return filters;
}

function derpMap(value: unknown, reject: Reject): DerpMap | undefined {
  if (!isObject(value) || !maybe(isObject)(value["Regions"]) || !maybe(isObject)(value["HomeParams"])) {
    reject("DERPMap");
    return undefined;
  }
  const regions = Object.entries(value["Regions"] ?? {});
  const good = regions.filter(([, region]) => region === null || isRegion(region));
  reject("DERPMap", regions.length - good.length);
  return { ...value, Regions: value["Regions"] == null ? null : (Object.fromEntries(good) as DerpMap["Regions"]) };
}

function dnsConfig(value: unknown, reject: Reject): DnsConfig | undefined {
  const isGood = shapeOf({
    Resolvers: maybe(listOf(isResolver)),
    FallbackResolvers: maybe(listOf(isResolver)),
    Routes: maybe(recordOf(maybe(listOf(isResolver)))),
    Domains: maybe(listOf(isText)),
    CertDomains: maybe(listOf(isText)),
    ExtraRecords: maybe(listOf(shapeOf({ Name: isText, Type: maybe(isText), Value: isText }))),
  });
  if (isGood(value)) return withoutNulls(value) as DnsConfig;
  reject("DNSConfig");
  return undefined;
}
