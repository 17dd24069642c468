import type { Duplex } from "node:stream";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { UdpIo } from "../base/packet.ts";
import type { PathTable } from "../base/path-table.ts";
import type { Random } from "../base/random.ts";
import type { Store } from "../base/store.ts";
import type { DerpRegion } from "../wire/tailcfg.ts";
import type { FunnelWish } from "./control/control-state.ts";
import type { ForwardDns } from "./dns/magic-dns.ts";
import type { OwnWish } from "./own-hostinfo.ts";
import type { Keepalive } from "./tcpip/keepalive.ts";
import type { UdpKind } from "./udp/udp-io.ts";

export interface MeshNodeOptions {
  /** URL of the coordination server. */
  readonly controlUrl: string;
  readonly authKey?: string;
  readonly hostname?: string;
  /** Whoever uses this node keeps to `sallyport.dev/door-required`. @default false */
  readonly hasDoors?: boolean;
  /** Stay off the mesh until `resume`. @default false */
  readonly isPaused?: boolean;
  readonly store: Store;
  /** UDP port; 0 = any. @default 0 */
  readonly port?: number;
  readonly log?: Log;
  readonly clock?: Clock;
  readonly random?: Random;
  /** A person must open this URL to let the node in. */
  readonly onAuthUrl?: (url: string) => void;
  /** The server does not take this node, in its own words; it is asked again. */
  readonly onRefused?: (reason: string) => void;
  /** Opens the stream to the coordination server; the network of the test internet plugs in here. */
  readonly connect?: (url: URL, signal: AbortSignal) => Promise<Duplex>;
  /** The same for a DERP region, up to the end of the HTTP upgrade. */
  readonly connectDerp?: (region: DerpRegion, signal: AbortSignal) => Promise<Duplex>;
  /** What a person does to let it in again, said where it is out. @default `sallyport up`, in words */
  readonly remedy?: string;
  /** When TCP inside the tunnels asks whether the other end is still there. @default after 2 h, as upstream */
  readonly keepalive?: Keepalive;
  /** What TCP's buffers inside the tunnels may hold together. @default 256 MiB, and at most an eighth of the machine's memory */
  readonly tcpMemoryBytes?: number;
  /** How UDP is spoken. @default the fastest that works here */
  readonly udp?: UdpKind;
  /** In place of the system's UDP. */
  readonly openUdp?: (table: PathTable) => Promise<UdpIo>;
  /** Addresses of this machine's interfaces, for direct paths. */
  readonly localAddresses?: () => readonly string[];
  readonly tags?: readonly string[];
  /** What is asked of the server from the first word on; `tell` changes it. */
  readonly wish?: Partial<Omit<OwnWish, "hostname">> & FunnelWish;
  /** Asks elsewhere for what WireGuard-only members want to know beside the mesh's names. @default refused */
  readonly forwardDns?: ForwardDns;
}
