import { hostname as systemHostname } from "node:os";
import type { AddressBytes } from "../base/address.ts";
import type { Hostinfo, NetInfo } from "../wire/tailcfg.ts";
import { peerApiPort } from "./peerapi.ts";

export interface HostFacts {
  readonly hostname: string | undefined;
  readonly tags: readonly string[] | undefined;
  readonly backendLogId: string;
  readonly netInfo: NetInfo;
  /** Our addresses that answer peerapi. */
  readonly peerApi: readonly AddressBytes[];
}

/** What we tell the coordination server about this machine (control-protocol.md 5.5). */
export function ownHostinfo({ hostname, tags, backendLogId, netInfo, peerApi }: HostFacts): Hostinfo {
  return {
    IPNVersion: "1.80.0-sallyport",
    BackendLogID: backendLogId, // upstream's servers and Headscale refuse a node without one
    OS: process.platform === "darwin" ? "macOS" : process.platform,
    Hostname: hostname ?? systemHostname(),
    GoArch: process.arch === "x64" ? "amd64" : process.arch,
    ...(tags === undefined ? {} : { RequestTags: tags }),
    Services: peerApi.map((address) => ({
      Proto: address.length === 4 ? "peerapi4" : "peerapi6",
      Port: peerApiPort(address),
    })),
    NetInfo: netInfo,
    Userspace: true,
    App: "sallyport",
  };
}
