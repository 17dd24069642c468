import { Fault } from "../../base/fault.ts";
import type { Place } from "../../config/node-serve-config.ts";
import { findTcp, foldHost } from "../../proxy/serve-lookup.ts";
import { DOOR_REQUIRED } from "../../wire/funnel.ts";
import { wildcardOf } from "../../wire/host-name.ts";
import type { NetworkMap } from "../../wire/network-map.ts";
import type { ServeConfig } from "../../wire/serve-config.ts";
import { type SiteParts, splitSite } from "../../wire/site.ts";

/** Does the network's policy demand a door before whatever this node makes public? Whatever values it has: in doubt it does. */
export function demandsDoors(map: NetworkMap | undefined): boolean {
  const { CapMap = {} } = map?.self ?? {};
  return Object.hasOwn(CapMap, DOOR_REQUIRED);
}

export function doorDemanded(place: string): Fault {
  return new Fault(
    "GATEWAY_DOOR_DEMANDED",
    `Cannot make ${place} public: the network's policy demands a door before it (${DOOR_REQUIRED}), and there is none`,
    { hint: "sallyport funnel --door NAME puts one there; only HTTPS has doors (docs/doors.md)." },
  );
}

type HasDoor = (place: Place) => boolean;

/** What a visitor would come to without passing a door: `name:443/path`, or `name:8443` where nothing has doors. */
export function openPlaces(config: ServeConfig, hasDoor: HasDoor): readonly string[] {
  const open = Object.entries(config.AllowFunnel ?? {}).filter(([, isOpen]) => isOpen);
  return open.flatMap(([site]) => {
    const mounts = mountsOf(config, site);
    return mounts.length === 0 ? [site] : mounts.filter((place) => !hasDoor(place)).map(textOf);
  });
}

/**
 * `config` with nothing public but names and ports where some mount has a door. What else is mounted there is refused
 * request by request (`RouteRules.visitorsNeedDoor`).
 */
export function withoutOpenSites(config: ServeConfig, hasDoor: HasDoor): ServeConfig {
  const kept = Object.entries(config.AllowFunnel ?? {}).map(
    ([site, isOpen]) => [site, isOpen && mountsOf(config, site).some(hasDoor)] as const,
  );
  return { ...config, AllowFunnel: Object.fromEntries(kept) };
}

/** Every mount that `site`, a name or wildcard and a port, brings visitors to; none for what is no HTTPS. */
function mountsOf(config: ServeConfig, site: string): readonly Place[] {
  const { name: host, port } = foldedParts(site);
  if (findTcp(config, port)?.HTTPS !== true) return [];
  const all = Object.entries(config.Web ?? {}).flatMap(([key, { Handlers }]) => {
    const { name, port: itsPort } = foldedParts(key);
    return itsPort === port ? [{ name, mounts: Object.keys(Handlers ?? {}) }] : [];
  });
  const isMeant = host.startsWith("*") ? (name: string) => name === host || wildcardOf(name) === host : undefined;
  const exact = all.filter(({ name }) => isMeant?.(name) ?? name === host);
  const sites = exact.length > 0 ? exact : all.filter(({ name }) => name === wildcardOf(host));
  // Under a wildcard, what is asked for is the very name.
  const nameAt = (name: string): string => (isMeant === undefined ? host : name);
  return sites.flatMap(({ name, mounts }) => mounts.map((mount) => ({ name: nameAt(name), port, mount })));
}

function foldedParts(site: string): SiteParts {
  const { name, port } = splitSite(site);
  return { name: foldHost(name), port };
}

const textOf = ({ name, port, mount }: Place): string => `${name}:${port}${mount === "/" ? "" : mount}`;
