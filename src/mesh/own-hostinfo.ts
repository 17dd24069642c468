import { hostname as systemHostname } from "node:os";
import type { AddressBytes } from "../base/address.ts";
import type { Hostinfo, HostService, NetInfo } from "../wire/tailcfg.ts";
import { servicesHash, type VipService } from "./hosted-services.ts";
import { peerApiPort } from "./peerapi.ts";

/** What is asked of the server, rather than told it. */
export interface OwnWish {
  readonly hostname: string | undefined;
  /** `on`: some port is public. `off`: none is, but the configuration names some (control-protocol.md 6.3). */
  readonly ingress: "on" | "off" | undefined;
  /** We keep to the policy where it demands a door before what is public. */
  readonly hasDoors?: boolean;
  /** Services to host, by name. */
  readonly services?: readonly VipService[];
  /** What else stands among our host's services: claims, or what an ingress has to let (`src/wire/claims.ts`). */
  readonly hostServices?: readonly HostService[];
}

export interface HostFacts extends OwnWish {
  readonly tags: readonly string[] | undefined;
  readonly backendLogId: string;
  readonly netInfo: NetInfo;
  /** Our addresses that answer peerapi. */
  readonly peerApi: readonly AddressBytes[];
}

/** What we tell the coordination server about this machine (control-protocol.md 5.5). */
export function ownHostinfo(facts: HostFacts): Hostinfo {
  const { hostname, ingress, services = [], hostServices = [], tags, backendLogId, netInfo, peerApi } = facts;
  return {
    IPNVersion: "1.80.0-sallyport",
    BackendLogID: backendLogId, // upstream's servers and Headscale refuse a node without one
    OS: process.platform === "darwin" ? "macOS" : process.platform,
    Hostname: hostname ?? systemHostname(),
    GoArch: process.arch === "x64" ? "amd64" : process.arch,
    ...(tags === undefined ? {} : { RequestTags: tags }),
    Services: [
      ...peerApi.map((address) => ({
        Proto: address.length === 4 ? "peerapi4" : "peerapi6",
        Port: peerApiPort(address),
      })),
      ...hostServices,
    ],
    ...(ingress === "on" ? { IngressEnabled: true } : {}),
    ...(ingress === "off" ? { WireIngress: true } : {}),
    ...(services.length === 0 ? {} : { ServicesHash: servicesHash(services) }),
    NetInfo: netInfo,
    Userspace: true,
    App: "sallyport",
    ...(facts.hasDoors === true ? { SallyportDoors: true } : {}),
  };
}
