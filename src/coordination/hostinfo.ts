import { formatPrefix, maskedPrefix, parseAddressPort, parsePrefix } from "../base/address.ts";
import type { Hostinfo } from "../wire/tailcfg.ts";

const LARGEST_HOSTINFO = 64 * 1024;
const MOST_ENDPOINTS = 64;
const MOST_ROUTES = 1024;
const MOST_ITEMS = 256;

type Check = (value: unknown) => unknown;

const text: Check = (value) => (typeof value === "string" ? value : undefined);
const flag: Check = (value) => (typeof value === "boolean" ? value : undefined);
const number: Check = (value) => (typeof value === "number" && Number.isFinite(value) ? value : undefined);
const integer: Check = (value) => (Number.isSafeInteger(value) ? value : undefined);
const list =
  (item: Check, most: number = MOST_ITEMS): Check =>
  (value) => {
    if (!Array.isArray(value)) return undefined;
    const items = value.slice(0, most).map(item);
    return items.filter((entry) => entry !== undefined);
  };
const object =
  (members: Readonly<Record<string, Check>>): Check =>
  (value) => {
    if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
    const kept: [string, unknown][] = [];
    for (const [name, check] of Object.entries(members)) {
      const checked = Object.hasOwn(value, name) ? check((value as Record<string, unknown>)[name]) : undefined;
      if (checked !== undefined) kept.push([name, checked]);
    }
    return Object.fromEntries(kept);
  };
const latencies: Check = (value) => {
  if (typeof value !== "object" || value === null) return undefined;
  const entries = Object.entries(value).slice(0, MOST_ITEMS);
  return Object.fromEntries(entries.filter(([name, seconds]) => name.length < 32 && number(seconds) !== undefined));
};
const route: Check = (value) => {
  const prefix = typeof value === "string" ? parsePrefix(value) : undefined;
  if (prefix === undefined) return undefined;
  const masked = formatPrefix(maskedPrefix(prefix));
  return masked === formatPrefix(prefix) ? masked : undefined;
};
const port: Check = (value) =>
  Number.isInteger(value) && Number(value) >= 0 && Number(value) < 65536 ? value : undefined;
const service: Check = (value) => {
  const kept = object({ Proto: text, Port: port, Description: text })(value) as Record<string, unknown> | undefined;
  return kept?.["Proto"] === undefined || kept["Port"] === undefined ? undefined : kept;
};

const NET_INFO = object({
  MappingVariesByDestIP: flag,
  WorkingIPv6: flag,
  OSHasIPv6: flag,
  WorkingUDP: flag,
  WorkingICMPv4: flag,
  HavePortMap: flag,
  UPnP: flag,
  PMP: flag,
  PCP: flag,
  PreferredDERP: integer,
  LinkType: text,
  DERPLatency: latencies,
  FirewallMode: text,
});

const texts = `IPNVersion FrontendLogID BackendLogID OS OSVersion Env Distro DistroVersion DistroCodeName App Package
DeviceModel Hostname Machine GoArch GoArchVar GoVersion Cloud ServicesHash ExitNodeID`.split(/\s+/);
const flags = `Container Desktop ShieldsUp ShareeNode NoLogsNoSupport WireIngress IngressEnabled AllowsUpdate Userspace
UserspaceRouter AppConnector StateEncrypted PeerRelay RemoteConfig SallyportDoors`.split(/\s+/);

/** Every member that a Go client would decode, with its type: one wrong type would spoil the maps of all its peers. */
const HOSTINFO = object({
  ...Object.fromEntries(texts.map((name) => [name, text])),
  ...Object.fromEntries(flags.map((name) => [name, flag])),
  RoutableIPs: list(route, MOST_ROUTES),
  RequestTags: list(text),
  WoLMACs: list(text),
  sshHostKeys: list(text),
  Services: list(service),
  NetInfo: NET_INFO,
  Location: object({
    Country: text,
    CountryCode: text,
    City: text,
    CityCode: text,
    Latitude: number,
    Longitude: number,
    Priority: integer,
  }),
});

/** What may be kept and passed on of a node's own description; undefined for something that is none. */
export function checkedHostinfo(value: unknown): Hostinfo | undefined {
  const checked = HOSTINFO(value) as Hostinfo | undefined;
  if (checked === undefined || JSON.stringify(checked).length > LARGEST_HOSTINFO) return undefined;
  return checked;
}

/** A missing measurement never means "forget it" (control-protocol appendix D, 5). */
export function mergedHostinfo(before: Hostinfo, after: Hostinfo): Hostinfo {
  const netInfo = after.NetInfo ?? before.NetInfo;
  return netInfo === undefined ? after : { ...after, NetInfo: netInfo };
}

/** Valid, usable by others, each once. */
export function checkedEndpoints(value: unknown): readonly string[] {
  if (!Array.isArray(value)) return [];
  const kept = new Set<string>();
  for (const endpoint of value) {
    if (kept.size === MOST_ENDPOINTS) break;
    if (typeof endpoint !== "string" || endpoint.length > 64 || endpoint.includes("%")) continue;
    if (/^\[fe[89ab][0-9a-f]:/i.test(endpoint)) continue;
    if (parseAddressPort(endpoint) !== undefined) kept.add(endpoint);
  }
  return [...kept];
}

const keyForm = (prefix: string): RegExp => new RegExp(`^${prefix}:[0-9a-fA-F]{64}$`);
const FORMS: Readonly<Record<"nodekey" | "discokey" | "mkey", RegExp>> = {
  nodekey: keyForm("nodekey"),
  discokey: keyForm("discokey"),
  mkey: keyForm("mkey"),
};

/** The key in lower case; undefined for none, the zero key, or anything else. */
export function checkedKey(kind: keyof typeof FORMS, value: unknown): string | undefined {
  if (typeof value !== "string" || !FORMS[kind].test(value) || /:0+$/.test(value)) return undefined;
  return value.toLowerCase();
}

/** Unix ms; undefined for the zero time, none, or nonsense. */
export function checkedTime(value: unknown): number | undefined {
  if (typeof value !== "string" || value.startsWith("0001-")) return undefined;
  const ms = Date.parse(value);
  return Number.isNaN(ms) ? undefined : ms;
}

export function isRoute(value: string): boolean {
  return route(value) !== undefined;
}
