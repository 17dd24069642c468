import { isIP } from "node:net";
import type { DerpMap, DerpNode } from "../wire/tailcfg.ts";

/** Regions 900 to 999 are for private use (tailcfg/derpmap.go). */
const REGION = 900;

export interface OwnDerp {
  /** Where it listens. */
  readonly address: string;
  readonly derpPort: number;
  readonly stunPort: number;
  /** Of its certificate, which is trusted for that alone. */
  readonly digest: string;
  /** Where DERP is spoken by HTTPS under the server's own name, too, with a certificate that everybody trusts. */
  readonly url?: string;
}

/**
 * One region with one relay, by two ways: the pinned port needs neither DNS nor a CA; the server's own name is there where nothing but
 * the port of all names is open, or where the address is one behind a translator. Clients try them in this order.
 */
export function ownDerpMap({ address, derpPort, stunPort, digest, url }: OwnDerp): DerpMap {
  const pinned: DerpNode = {
    ...{ Name: `${REGION}a`, RegionID: REGION, HostName: address, CertName: `sha256-raw:${digest}` },
    ...(address.includes(":") ? { IPv4: "none", IPv6: address } : { IPv4: address, IPv6: "none" }),
    ...{ DERPPort: derpPort, STUNPort: stunPort },
  };
  const byName = url === undefined ? [] : nodeByName(new URL(url), stunPort);
  const Nodes = [pinned, ...byName];
  return { Regions: { [REGION]: { RegionID: REGION, RegionCode: "own", RegionName: "Sallyport", Nodes } } };
}

function nodeByName({ protocol, hostname, port }: URL, stunPort: number): readonly DerpNode[] {
  if (protocol !== "https:" || isIP(hostname.replace(/^\[|\]$/g, "")) !== 0) return [];
  const DERPPort = port === "" ? 443 : Number(port);
  return [{ Name: `${REGION}b`, RegionID: REGION, HostName: hostname, DERPPort, STUNPort: stunPort }];
}
