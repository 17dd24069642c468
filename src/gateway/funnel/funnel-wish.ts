import type { FunnelWish } from "../../mesh/control/control-client.ts";
import type { OwnWish } from "../../mesh/own-hostinfo.ts";
import { claimServices, isPortClaim } from "../../wire/claims.ts";
import { MOST_PUBLIC_SITES } from "../../wire/funnel.ts";
import { foldPattern } from "../../wire/host-name.ts";
import { leasedPort, type ServeConfig } from "../../wire/serve-config.ts";
import { foldSite, splitSite } from "../../wire/site.ts";

/** What is asked of the server for this configuration; `ownName` is what the server gives by itself. */
export function funnelWish(
  config: ServeConfig,
  ownName: string,
  serial?: string,
): Pick<OwnWish, "ingress" | "hostServices"> & FunnelWish {
  const { AllowFunnel = {} } = config;
  const wishes = Object.values(AllowFunnel);
  return {
    ingress: wishes.length === 0 ? undefined : wishes.includes(true) ? "on" : "off",
    hostServices: claimServices(claimsIn(config, ownName), serial),
    publicSites: wishes.includes(true) ? sitesIn(config) : undefined,
  };
}

/** What visitors may ask for by a name. Undefined where that cannot be said: our own name is not known yet, or it is too much. */
function sitesIn({ AllowFunnel = {} }: ServeConfig): readonly string[] | undefined {
  const opened = Object.entries(AllowFunnel).flatMap(([key, isOn]) =>
    isOn && leasedPort(key) === undefined ? [key] : [],
  );
  const sites = opened.map(foldSite);
  const isSaid = sites.every((site) => site !== undefined) && sites.length <= MOST_PUBLIC_SITES;
  return isSaid ? sites.toSorted() : undefined;
}

/** Domains of the operator's own, and raw ports that something is served on. */
export function claimsIn({ AllowFunnel = {}, TCP = {} }: ServeConfig, ownName: string): readonly string[] {
  const claims = Object.entries(AllowFunnel).flatMap(([key, isOn]) => {
    const claim = isOn ? claimOf(key, ownName) : undefined;
    const isServed = claim === undefined || !isPortClaim(claim) || (TCP[Number(claim)]?.TCPForward ?? "") !== "";
    return claim === undefined || !isServed ? [] : [claim];
  });
  return [...new Set(claims)].toSorted();
}

/** What an entry of `AllowFunnel` wants of the network. Undefined: nothing, it is under the node's own name. */
export function claimOf(key: string, ownName: string): string | undefined {
  const port = leasedPort(key);
  if (port !== undefined) return String(port);
  const name = foldPattern(splitSite(key).name);
  return name === ownName.toLowerCase() ? undefined : name;
}
