import type { Hostinfo } from "../wire/tailcfg.ts";
import type { SiteRules } from "../wire/visitor-rules.ts";

/** What the coordination server keeps. Times are Unix milliseconds. Records are values: changed by replacement only. */

export interface User {
  readonly id: number;
  /** Unique; shown as the login name. */
  readonly login: string;
  readonly displayName: string;
  readonly profilePicture?: string;
  /** Whom an OIDC provider calls so. Unique: nobody else is ever taken for this user (matrix CS-5). */
  readonly identity?: OidcIdentity;
  /** For the policy's autogroups of that name. Absent: a member and nothing else. */
  readonly role?: UserRole;
  readonly created: number;
}

export type UserRole = (typeof USER_ROLES)[number];

export const USER_ROLES = ["owner", "admin", "it-admin", "network-admin", "billing-admin", "auditor"] as const;

export interface OidcIdentity {
  readonly issuer: string;
  readonly subject: string;
}

export interface AuthKey {
  /** The readable part of the key; finds the record. */
  readonly id: string;
  /** Hex of the salt, then hex of SHA-256(salt ‖ secret). The secret has 256 random bits, so a slow hash adds nothing. */
  readonly salt: string;
  readonly hash: string;
  readonly userId?: number;
  readonly tags: readonly string[];
  readonly reusable: boolean;
  readonly ephemeral: boolean;
  /** Nodes that it lets in need nobody's approval. */
  readonly preapproved?: boolean;
  readonly created: number;
  readonly expires?: number;
  readonly revoked?: number;
  readonly lastUsed?: number;
  readonly uses: number;
}

export interface NodeRecord {
  readonly id: number;
  /** `mkey:…`; empty for a WireGuard-only member, who never speaks to us. */
  readonly machineKey: string;
  /** `nodekey:…`. */
  readonly nodeKey: string;
  /** `discokey:…`. */
  readonly discoKey?: string;
  /** Absent for a tagged node. */
  readonly userId?: number;
  readonly tags: readonly string[];
  /** First label of the name. */
  readonly name: string;
  /** An administrator chose the name: host name changes leave it alone. */
  readonly nameFixed: boolean;
  readonly ipv4: string;
  readonly ipv6: string;
  readonly created: number;
  readonly expires?: number;
  readonly ephemeral: boolean;
  /** Which key let it in. */
  readonly authKeyId?: string;
  readonly lastSeen?: number;
  readonly hostinfo: Hostinfo;
  readonly endpoints: readonly string[];
  readonly homeDerp: number;
  readonly capability: number;
  readonly approvedRoutes: readonly string[];
  /** Set for a WireGuard-only member: ids of the gateways that carry it. */
  readonly gateways?: readonly number[];
  /** What it hosts, as it said when it was asked; for which hash of its own that was. */
  readonly services?: readonly HostedService[];
  readonly servicesHash?: string;
  /** Names of services that it may host. */
  readonly approvedServices?: readonly string[];
  /** A relay that takes no new visitors. */
  readonly isDraining?: boolean;
  /** A relay that has been away since it was seen last: no restart of the server makes one of before of it. */
  readonly isLost?: boolean;
  /** A relay that takes visitors at these addresses of its machine; absent: at all of them. */
  readonly visitedAt?: readonly string[];
  /** What it asks for the visitors of its public names. */
  readonly visitorRules?: readonly SiteRules[];
  /** What of it is public, as it says; absent: all that leads to it (stock clients say nothing). */
  readonly publicSites?: readonly string[];
  /** For postures: `custom:tier`, as an administrator said, or the node where the policy lets it. */
  readonly attributes?: NodeAttributes;
  /** Joined while new devices need an approval, and has none: it learns of nobody, and nobody of it. */
  readonly isUnapproved?: boolean;
}

export interface HostedService {
  /** `svc:web`. */
  readonly name: string;
  /** `tcp:443`; `*`: all. */
  readonly ports: readonly string[];
  /** It takes callers now. */
  readonly isActive: boolean;
}

export type AttributeValue = string | number | boolean;

export type NodeAttributes = Readonly<Record<string, AttributeValue>>;

export interface LogEntry {
  readonly at: number;
  /** Login of the administrator, `node:<id>` or `server`. */
  readonly by: string;
  /** `user.create`, `node.expire`, … */
  readonly action: string;
  readonly target: string;
  readonly detail?: string;
}

/** An address that may not be given out before `until`. */
export interface RestingAddress {
  readonly ipv4: string;
  readonly until: number;
}

export interface CoordinationState {
  readonly users: readonly User[];
  readonly authKeys: readonly AuthKey[];
  readonly nodes: readonly NodeRecord[];
  readonly resting: readonly RestingAddress[];
  readonly settings: ReadonlyMap<string, string>;
}

export type Change =
  | { readonly put: "user"; readonly value: User }
  | { readonly put: "authKey"; readonly value: AuthKey }
  | { readonly put: "node"; readonly value: NodeRecord }
  | { readonly put: "resting"; readonly value: RestingAddress }
  | { readonly put: "setting"; readonly name: string; readonly value: string }
  | { readonly remove: "user" | "node"; readonly id: number }
  | { readonly remove: "authKey"; readonly id: string }
  | { readonly remove: "resting"; readonly ipv4: string }
  /** Counts one use; the whole commit fails with `COORDINATION_KEY_USED` when a one-use key was used already. */
  | { readonly use: "authKey"; readonly id: string; readonly at: number }
  | { readonly append: "log"; readonly value: LogEntry };
