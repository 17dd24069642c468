import type { Duplex } from "node:stream";
import type { Clock } from "../../base/clock.ts";
import type { Fault } from "../../base/fault.ts";
import type { Log } from "../../base/log.ts";
import type { Random } from "../../base/random.ts";
import type { NetworkMap } from "../../wire/network-map.ts";
import type { Hostinfo, MapResponse, PingResponse } from "../../wire/tailcfg.ts";
import type { SiteRules } from "../../wire/visitor-rules.ts";

export type ControlState =
  | { readonly kind: "connecting" }
  | { readonly kind: "needs-login"; readonly url?: string; readonly reason: string }
  | { readonly kind: "running" }
  /** `untilMs` by the monotonic clock. What is known of the mesh stays in force meanwhile. */
  | { readonly kind: "backing-off"; readonly untilMs: number; readonly fault: Fault }
  | { readonly kind: "expired" }
  /** The server does not know this node any more: somebody deleted it there. */
  | { readonly kind: "removed" }
  | { readonly kind: "logged-out" }
  /** The person who runs this node took it off the mesh for a while; its keys stay good. */
  | { readonly kind: "stopped" }
  | { readonly kind: "closed" };

/** A request that the server sent for the node's own handler ("control to node"). */
export interface C2nRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
}

export interface C2nResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array | string;
}

/** What is told beside the description: for the server and its relays alone. */
export interface FunnelWish {
  /** For visitors of our public names. */
  readonly visitorRules?: readonly SiteRules[];
  /** A relay that takes no new visitors, before it ends. */
  readonly isDraining?: boolean;
  /** Of a relay, where it takes visitors; absent: at every address of this machine. */
  readonly visitedAt?: readonly string[];
  /** What of us is public; absent: it is not known yet. */
  readonly publicSites?: readonly string[] | undefined;
}

export interface ControlClientOptions {
  readonly serverUrl: string;
  /** Private; proves which device we are. */
  readonly machineKey: Uint8Array;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Opens the byte stream to the server; default: node:net or node:tls by the URL's scheme. */
  readonly connect?: (url: URL, signal: AbortSignal) => Promise<Duplex>;
  readonly hostinfo: () => Hostinfo;
  /** Told with it, in members of our own. */
  readonly funnelWish?: () => FunnelWish;
  readonly authKey?: string;
  readonly nodeKey: () => { readonly private: Uint8Array; readonly old?: Uint8Array };
  /** The server has taken this node key: it is in force from now on, with the one before it as `old`. */
  readonly adoptNodeKey: (privateKey: Uint8Array) => Promise<void>;
  /** Public. */
  readonly discoKey: Uint8Array;
  readonly endpoints: () => readonly { readonly endpoint: string; readonly type: number }[];
  readonly onAuthUrl: (url: string) => void;
  /** The server does not take this node, in its own words; it is asked again. */
  readonly onRefused?: (reason: string) => void;
  readonly onMap: (map: NetworkMap, response: MapResponse) => void;
  readonly onState: (state: ControlState) => void;
  readonly onC2n?: (request: C2nRequest) => Promise<C2nResponse>;
  /** A ping of a peer of ours that the server wants; `type` as in `PingRequest`. */
  readonly onPing?: (wanted: { readonly ip: string; readonly type: string }) => Promise<PingResponse>;
  /** `mkey:…` of the server as remembered from before; another key at the same URL is refused. */
  readonly knownServerKey?: string | undefined;
  /** The server's key, to be remembered. */
  readonly onServerKey?: (key: string) => void;
  /** Of the text forms in requests: `nlpub:…`; absent = none. */
  readonly lockKey?: string;
  readonly debugFlags?: readonly string[];
}

/** What a person wants who logs a node in again. */
export interface LoginWish {
  readonly authKey?: string;
  /** A new node key. @default without an auth key */
  readonly isRenewal?: boolean;
}
