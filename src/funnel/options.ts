import type { Socket } from "node:net";
import type { AddressPort } from "../base/address.ts";
import type { Clock } from "../base/clock.ts";
import type { Conn } from "../base/conn.ts";
import type { Log } from "../base/log.ts";
import type { LeaseTable } from "./lease-table.ts";
import type { NameTable } from "./public-names.ts";

export interface IngressOptions {
  readonly names: () => NameTable;
  /** Raw ports. @default none */
  readonly leases?: () => LeaseTable;
  /** Opens a connection to a node's peerapi. */
  readonly dial: (target: AddressPort, signal: AbortSignal) => Promise<Conn>;
  /** Who asks for one of these names is not for us: the program that shares our port. */
  readonly own?: OwnNames;
  readonly clock: Clock;
  readonly log: Log;
  readonly limits?: Partial<IngressLimits>;
}

export interface OwnNames {
  readonly has: (serverName: string | undefined) => boolean;
  /** All bytes are still in the socket. */
  readonly accept: (socket: Socket) => void;
}

export interface IngressLimits {
  /** For a whole hello, from the first moment on. */
  readonly helloMs: number;
  /** For the node's answer. */
  readonly answerMs: number;
  /** Visitors whose hello is not whole; when there are more, the oldest goes. */
  readonly pending: number;
  readonly visitorPending: number;
  /** All visitors. */
  readonly open: number;
  readonly visitorOpen: number;
  readonly visitorConnectionsPerSecond: number;
  /** Of one name. */
  readonly nameOpen: number;
  readonly nameConnectionsPerSecond: number;
  /** Of one connection, in each direction. */
  readonly bytesPerSecond: number;
}

export const INGRESS_LIMITS: IngressLimits = {
  helloMs: 10_000,
  answerMs: 10_000,
  pending: 1000,
  visitorPending: 64,
  open: 32_768,
  visitorOpen: 1024,
  visitorConnectionsPerSecond: 1000,
  nameOpen: 16_384,
  nameConnectionsPerSecond: 5000,
  bytesPerSecond: Number.POSITIVE_INFINITY,
};

export type IngressEvent =
  | "delivered"
  /** The same for all of them: no name, no such name, not on this port, not for this visitor. */
  | "unknown_name"
  /** The name is public, the node is away. */
  | "away"
  | "no_hello"
  | "over_limit"
  | "own_name"
  | "redirected";
