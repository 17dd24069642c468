import { systemClock } from "../../base/clock.ts";
import { type Log, silentLog } from "../../base/log.ts";
import { systemRandom } from "../../base/random.ts";
import { txtPublisher } from "../../mesh/control/node-requests.ts";
import type { MeshNode } from "../../mesh/node.ts";
import type { ServeConfig } from "../../wire/serve-config.ts";
import type { GatewayOptions } from "../gateway-options.ts";
import { certDomainsOf, servedNames, visitedNames } from "./certificate-plan.ts";
import { Certificates } from "./certificates.ts";

/** The capability by which names below ours lead to us (upstream `tailcfg.NodeAttrDNSSubdomainResolve`). */
const SUBDOMAINS = "dns-subdomain-resolve";

/** What is served just now, and which of it in public. */
export interface Served {
  readonly name: () => string;
  readonly config: () => ServeConfig;
  readonly publicConfig: () => ServeConfig;
}

/** Certificates for what `node` serves, by whatever ways the operator and the server give. */
export function nodeCertificates(options: GatewayOptions, node: MeshNode, served: Served): Certificates {
  const { clock = systemClock, random = systemRandom, store } = options;
  const log: Log = (options.log ?? silentLog).with("certificates");
  const certDomains = (): readonly string[] => certDomainsOf(node.map?.dns.CertDomains);
  const visited = (): readonly string[] => visitedNames(served.publicConfig(), node.map?.self.CapMap);
  const certificates: Certificates = new Certificates({
    ...{ store, clock, log },
    facts: () => ({
      ownName: served.name().toLowerCase(),
      certDomains: certDomains(),
      ownWildcard: node.map?.self.CapMap?.[SUBDOMAINS] !== undefined,
      served: servedNames(served.config()),
      visited: visited(),
    }),
    open: async (settings) => {
      const { openCertificateSources } = await import("./certificate-sources.ts"); // only who has public names pays
      return openCertificateSources(settings, {
        control: { names: certDomains, set: txtPublisher(node) },
        isVisited: (name) => visited().includes(name),
        watched: { names: () => certificates.names, held: () => certificates.all, store },
        ...{ clock, random, log },
        ...(options.certificateFolder === undefined ? {} : { folder: options.certificateFolder }),
      });
    },
    ...(options.certificates === undefined ? {} : { settings: options.certificates }),
  });
  return certificates;
}
