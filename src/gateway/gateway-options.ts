import type { Store } from "../base/store.ts";
import type { CertificatesConfig } from "../config/certificates.ts";
import type { MountRules } from "../config/mount-rules.ts";
import type { Place } from "../config/node-serve-config.ts";
import type { LimitsConfig } from "../config/request-limits.ts";
import type { MeshNodeOptions } from "../mesh/node.ts";
import type { Door } from "../proxy/doors/door.ts";
import type { ProxyOptions } from "../proxy/options.ts";
import type { ServeConfig } from "../wire/serve-config.ts";
import type { VisitorRulesOf } from "./funnel/told-rules.ts";

export interface GatewayOptions extends Omit<MeshNodeOptions, "store"> {
  readonly store: Store;
  /** Opens a connection to a backend. @default TCP or a unix socket */
  readonly dialBackend?: ProxyOptions["dialBackend"];
  /** How to come to certificates; absent = from the coordination server's ways where it offers them, else a local CA. */
  readonly certificates?: CertificatesConfig;
  /** Where they are kept; absent = not beyond the process. */
  readonly certificateFolder?: string;
  /** Files, folders and sockets that must never be served: the state folder, the admin socket, files with keys. */
  readonly protectedPaths?: readonly string[];
  /** What stands before mounts whose rules name it. */
  readonly doors?: readonly Door[];
  /** In force from the first request on, until the first declaration. */
  readonly rulesOf?: RulesOf;
  /** The same for visitors from the Internet. */
  readonly visitorRulesOf?: VisitorRulesOf;
  /** What a request may have of heads and bodies. */
  readonly limits?: LimitsConfig;
  /** What a file declares, in the place of what was stored. The node has no name yet: see `nodeServeConfig`. */
  readonly declared?: ServeConfig;
  /** Services of it that are to be hosted. */
  readonly advertised?: readonly string[];
  /** Tags and node keys of relays that may deliver Funnel visitors, where the server cannot say so (Headscale). */
  readonly trustedIngresses?: readonly string[];
  /** Visitors may come from this machine itself. For demos and tests. @default false */
  readonly allowsLoopbackVisitors?: boolean;
}

/** The rules of one mount of the node's own. */
export type RulesOf = (place: Place) => MountRules | undefined;

/** What a services file says beside upstream's configuration. */
export interface Declared {
  readonly rulesOf?: RulesOf;
  readonly visitorRulesOf?: VisitorRulesOf;
  readonly limits?: LimitsConfig;
  /** Services that are to be hosted. */
  readonly advertised?: readonly string[];
}
