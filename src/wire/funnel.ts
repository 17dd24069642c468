import { formatAddress, parseAddress } from "../base/address.ts";
import { capabilityValues } from "./capabilities.ts";
import { foldSite } from "./site.ts";
import type { CapMap } from "./tailcfg.ts";
import { checkedSiteRules, type SiteRules } from "./visitor-rules.ts";

/** The peer capability without which nobody may deliver visitors to a node (upstream `tailcfg.PeerCapabilityIngress`). */
export const INGRESS_CAPABILITY: string = "https://tailscale.com/cap/ingress";
/** The node attribute of a node that may have a public name (upstream `tailcfg.NodeAttrFunnel`). */
export const FUNNEL_ATTRIBUTE: string = "funnel";
/** The whole key says which ports may be public: `…?ports=443,8080-8090` (upstream `tailcfg.CapabilityFunnelPorts`). */
export const FUNNEL_PORTS: string = "https://tailscale.com/cap/funnel-ports";

/** Ours: the node attribute, given by policy, that makes a node an ingress. */
export const RELAY_ATTRIBUTE: string = "sallyport.dev/ingress";
/** Ours: what an ingress is told of a peer, in the peer's `CapMap`: the names that visitors may ask for. */
export const PUBLIC_NAMES: string = "sallyport.dev/public-names";

/** Ours: the node attribute, given by policy, of a node that may make public only what stands behind a door. */
export const DOOR_REQUIRED: string = "sallyport.dev/door-required";

/** Ours: the member of a map request by which a relay says that it takes no new visitors. */
export const DRAINING: "sallyport.dev/draining" = "sallyport.dev/draining";

/** Ours: the member of a map request in which a gateway says what of it is public, as sites (`name:port`). Absent: all that leads to it. */
export const PUBLIC_SITES: "sallyport.dev/public-sites" = "sallyport.dev/public-sites";
export const MOST_PUBLIC_SITES = 256;

/** Undefined: nothing was said. What cannot be understood makes nothing public. */
export function checkedPublicSites(value: unknown): readonly string[] | undefined {
  if (value === undefined || value === null) return undefined;
  if (!Array.isArray(value) || value.length > MOST_PUBLIC_SITES) return [];
  return value.filter((site) => typeof site === "string" && foldSite(site) === site);
}

/** Ours: the member of a map request in which a relay says at which addresses of its machine it takes visitors. Absent: at all. */
export const VISITED_AT: "sallyport.dev/visited-at" = "sallyport.dev/visited-at";
const MOST_VISITED = 16;

/** In their one form. */
export function checkedVisitedAt(value: unknown): readonly string[] {
  if (!Array.isArray(value) || value.length > MOST_VISITED) return [];
  return value.flatMap((text) => (typeof text === "string" ? (addressOf(text) ?? []) : []));
}

/** Ours: where visitors come in, as the server's operator says it, in the `CapMap` of a node that may be public. */
export const INGRESS_ADDRESSES: string = "sallyport.dev/ingress-addresses";

/** The addresses of the ingresses; empty where the server does not know them. */
export function ingressAddresses(capMap: CapMap | undefined): readonly string[] {
  const values = capabilityValues(capMap, INGRESS_ADDRESSES) ?? [];
  return values.filter((value) => typeof value === "string").flatMap((text) => addressOf(text) ?? []);
}

/** In its one form. */
function addressOf(text: string): string | undefined {
  const bytes = parseAddress(text);
  return bytes === undefined ? undefined : formatAddress(bytes);
}

/** One value of `PUBLIC_NAMES`. */
export interface PublicNameClaim {
  /** Lower case, without a dot at its end. */
  readonly name: string;
  readonly ports: readonly number[];
  /** What its owner asks for its visitors. */
  readonly rules?: readonly SiteRules[];
  /** Of a wildcard: names below it that other nodes hold, whether these are here or not (FN-14). */
  readonly except?: readonly string[];
}

const MOST_CLAIMS = 256;
const MOST_PORTS = 64;

/** A peer's public names, without what is not of their form: the server is believed, but never more than is there. */
export function publicNameClaims(capMap: CapMap | undefined): readonly PublicNameClaim[] {
  const values = capabilityValues(capMap, PUBLIC_NAMES) ?? [];
  return values.slice(0, MOST_CLAIMS).flatMap((value) => {
    if (typeof value !== "object" || value === null || !("name" in value) || !("ports" in value)) return [];
    const { name, ports } = value;
    if (typeof name !== "string" || !Array.isArray(ports)) return [];
    const rules = "rules" in value ? { rules: checkedSiteRules(value.rules) } : {};
    const except = "except" in value && Array.isArray(value.except) ? { except: value.except.filter(isText) } : {};
    return [{ name, ports: ports.slice(0, MOST_PORTS).filter(isPort), ...rules, ...except }];
  });
}

const isText = (value: unknown): value is string => typeof value === "string";
const isPort = (value: unknown): value is number =>
  Number.isInteger(value) && Number(value) > 0 && Number(value) < 65536;

/** The key that allows these ports. */
export function funnelPortsKey(ports: readonly number[]): string {
  return `${FUNNEL_PORTS}?ports=${ports.join()}`;
}

/** Which ports a node may make public (upstream `ipn/serve.go:CheckFunnelPort`): the first key of the form counts. */
export function isFunnelPort(capMap: CapMap | undefined, port: number): boolean {
  const prefix = `${FUNNEL_PORTS}?ports=`;
  const key = Object.keys(capMap ?? {}).find((name) => name.startsWith(prefix));
  if (key === undefined) return false;
  return key
    .slice(prefix.length)
    .split(",")
    .some((part) => {
      const [first = "", last = first, more] = part.split("-");
      if (more !== undefined || !/^\d{1,5}$/.test(first) || !/^\d{1,5}$/.test(last)) return false;
      return Number(first) <= port && port <= Number(last);
    });
}
