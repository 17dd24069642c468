import type { NetworkMap } from "../../src/wire/network-map.ts";
import type { Node } from "../../src/wire/tailcfg.ts";

/** Node number `ID` of a map, at 100.64.0.`ID` where nothing else is said. */
export const mapNode = (ID: number, more: Partial<Node> = {}): Node => ({
  ID,
  StableID: `n${ID}`,
  Name: `n${ID}.tail.test.`,
  User: 1,
  Key: `nodekey:${ID.toString(16).padStart(64, "0")}`,
  Addresses: [`100.64.0.${ID}/32`],
  ...more,
});

/** As node 1 sees it, where nothing else is said. */
export const networkMap = (peers: readonly Node[], more: Partial<NetworkMap> = {}): NetworkMap => ({
  self: mapNode(1),
  peers: new Map(peers.map((peer) => [peer.ID, peer])),
  users: new Map(),
  derpMap: { Regions: {} },
  dns: {},
  packetFilter: [],
  domain: "",
  health: [],
  ...more,
});
