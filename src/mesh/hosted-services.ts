import { createHash } from "node:crypto";
import { type Prefix, parseAddress, parsePrefix } from "../base/address.ts";
import type { Node } from "../wire/tailcfg.ts";

/** A service that this node hosts or would host, in the server's words (upstream `tailcfg.VIPService`). */
export interface VipService {
  /** `svc:web`. */
  readonly Name: string;
  /** `tcp:443`; null: nothing is configured yet. */
  readonly Ports: readonly string[] | null;
  /** It takes callers now. */
  readonly Active: boolean;
}

const SERVICE_HOST = "service-host";

/** Tells the server that there is news to ask about; empty: no service (upstream `ipn/ipnlocal/local.go:vipServiceHash`). */
export function servicesHash(services: readonly VipService[]): string {
  if (services.length === 0) return "";
  return createHash("sha256")
    .update(`${JSON.stringify(services)}\n`)
    .digest("hex");
}

/** Address → service, for those that the server has approved here; read once of each node. */
export function serviceAddresses(self: Node): ReadonlyMap<string, string> {
  let addresses = known.get(self);
  if (addresses === undefined) {
    addresses = approvedIn(self);
    known.set(self, addresses);
  }
  return addresses;
}

const known: WeakMap<Node, ReadonlyMap<string, string>> = new WeakMap();

/** The capability has exactly one value. */
function approvedIn({ CapMap }: Node): ReadonlyMap<string, string> {
  const values = CapMap?.[SERVICE_HOST] ?? [];
  const [hosted] = values.length === 1 ? values : [];
  if (typeof hosted !== "object" || hosted === null) return new Map();
  return new Map(
    Object.entries(hosted).flatMap(([name, addresses]) =>
      (Array.isArray(addresses) ? addresses : [])
        .filter((address): address is string => typeof address === "string" && parseAddress(address) !== undefined)
        .map((address) => [address, name]),
    ),
  );
}

export function servicePrefixes(self: Node): Prefix[] {
  return [...serviceAddresses(self).keys()].flatMap((address) => parsePrefix(address) ?? []);
}
