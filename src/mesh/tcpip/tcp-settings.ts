import type { CongestionControl } from "./congestion.ts";
import type { Keepalive } from "./keepalive.ts";
import type { TcpMemory } from "./memory.ts";
import type { TcpWriter } from "./tcp-writer.ts";

/** What all connections of a stack share. */
export interface TcpSettings {
  readonly tcp: TcpWriter;
  readonly keepalive: Keepalive;
  readonly congestion: CongestionControl;
  readonly memory: TcpMemory;
  /** How often the loop was held up so far: acknowledgments that waited in the socket meanwhile say nothing about the path. */
  readonly stalls: number;
}
