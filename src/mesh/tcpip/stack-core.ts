import type { AddressBytes } from "../../base/address.ts";
import type { Random } from "../../base/random.ts";
import type { PacketWriter } from "./segment-writer.ts";

/** What was refused, for metrics. */
export interface NetstackCounters {
  malformed: number;
  checksum: number;
  /** Pieces of packets, put together or not. */
  fragments: number;
  notOurs: number;
  /** From another peer than the one the connection belongs to. */
  wrongPeer: number;
  backlogFull: number;
  tooManyConnections: number;
  udpUnserved: number;
  udpTooLong: number;
  rateLimited: number;
  /** Handlers that threw. */
  userFailed: number;
}

/** What the services use of the stack. */
export interface StackCore {
  readonly writer: PacketWriter;
  readonly counters: NetstackCounters;
  readonly random: Random;
  now(): number;
  output(packet: Uint8Array, peer: number, now: number): void;
  /** Outside of `input` and `poll`: have `poll` called. */
  wake(): void;
  /** The address at `offset` as we keep it, never to be changed; `undefined`: it is not ours. */
  ownAddress(slab: Uint8Array, offset: number, length: number): AddressBytes | undefined;
  isOurs(slab: Uint8Array, offset: number, length: number): boolean;
  sourceFor(remote: AddressBytes): AddressBytes | undefined;
}
