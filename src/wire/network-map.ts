import type { DerpMap, DnsConfig, FilterRule, Node, UserProfile } from "./tailcfg.ts";

/** What a node knows of its mesh: the sum of the messages of one map stream. Immutable; each message makes a new one. */
export interface NetworkMap {
  readonly self: Node;
  readonly peers: ReadonlyMap<number, Node>;
  readonly users: ReadonlyMap<number, UserProfile>;
  readonly derpMap: DerpMap;
  readonly dns: DnsConfig;
  /** All named filters, concatenated in order of their names. */
  readonly packetFilter: readonly FilterRule[];
  readonly domain: string;
  readonly health: readonly string[];
}
