import type { OwnWish } from "../../mesh/own-hostinfo.ts";
import { claimServices } from "../../wire/claims.ts";
import { foldPattern } from "../../wire/host-name.ts";
import { leasedPort, type ServeConfig } from "../../wire/serve-config.ts";
import { splitSite } from "../../wire/site.ts";

/** What is asked of the server for this configuration; `ownName` is what the server gives by itself. */
export function funnelWish(
  config: ServeConfig,
  ownName: string,
  serial?: string,
): Pick<OwnWish, "ingress" | "hostServices"> {
  const { AllowFunnel = {} } = config;
  const wishes = Object.values(AllowFunnel);
  return {
    ingress: wishes.length === 0 ? undefined : wishes.includes(true) ? "on" : "off",
    hostServices: claimServices(claimsIn(config, ownName), serial),
  };
}

/** Domains of the operator's own, and raw ports that something is served on. */
export function claimsIn({ AllowFunnel = {}, TCP = {} }: ServeConfig, ownName: string): readonly string[] {
  const claims = Object.entries(AllowFunnel).flatMap(([key, isOn]) => {
    if (!isOn) return [];
    const port = leasedPort(key);
    if (port !== undefined) return (TCP[port]?.TCPForward ?? "") === "" ? [] : [String(port)];
    const name = foldPattern(splitSite(key).name);
    return name === undefined || name === ownName.toLowerCase() ? [] : [name];
  });
  return [...new Set(claims)].toSorted();
}
