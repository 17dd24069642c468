import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { gunzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { mapNode } from "../../test/suites/network-map.ts";
import { seededRandom } from "../base/random.ts";
import { applyMapResponse } from "./map-apply.ts";
import type { NetworkMap } from "./network-map.ts";
import type { FilterRule, MapResponse, Node } from "./tailcfg.ts";

const NOW = "2026-01-01T00:00:00Z";
const rule = (source: string): FilterRule => ({ SrcIPs: [source] });

const node = (id: number, more: Partial<Node> = {}): Node => mapNode(id, { Key: `nodekey:${id}`, ...more });

function run(...messages: MapResponse[]): NetworkMap {
  let map: NetworkMap | undefined;
  for (const message of messages) map = applyMapResponse(map, message, NOW);
  return map!;
}

const FIRST: MapResponse = { Node: node(1), Peers: [node(2), node(3)], PacketFilter: [rule("*")] };

test("the first message must have our own node", () => {
  expect(() => run({ Peers: [node(2)] })).toThrow(expect.objectContaining({ code: "CONTROL_NO_SELF" }));
});

const peerCases: [string, MapResponse[], Record<number, Partial<Node>>][] = [
  ["nothing", [{}], { 2: {}, 3: {} }],
  ["an empty list says nothing", [{ Peers: [] }], { 2: {}, 3: {} }],
  ["a list replaces and suppresses the rest", [{ Peers: [node(4)], PeersRemoved: [4] }], { 4: {} }],
  ["removed and changed", [{ PeersRemoved: [2, 9], PeersChanged: [node(5, { Cap: 7 })] }], { 3: {}, 5: { Cap: 7 } }],
  ["seen", [{ PeerSeenChange: { 2: true, 9: true } }], { 2: { LastSeen: NOW }, 3: {} }],
  ["online", [{ OnlineChange: { 3: true, 9: true } }], { 2: {}, 3: { Online: true } }],
  ["patch", [{ PeersChangedPatch: [{ NodeID: 2, DERPRegion: 9, Key: "k" }] }], { 2: { HomeDERP: 9, Key: "k" }, 3: {} }],
  [
    "patch with zero values",
    [{ PeersChangedPatch: [{ NodeID: 2, DERPRegion: 0, Cap: 0, Key: "" }] }],
    { 2: {}, 3: {} },
  ],
  ["patch of a stranger", [{ PeersChangedPatch: [{ NodeID: 77, Online: true }] }], { 2: {}, 3: {} }],
  [
    "old news of a departure",
    [
      { PeersChangedPatch: [{ NodeID: 2, LastSeen: "2026-01-02T00:00:00Z" }] },
      { PeersChangedPatch: [{ NodeID: 2, DiscoKey: "d", Online: false, LastSeen: "2026-01-01T00:00:00Z" }] },
    ],
    { 2: { LastSeen: "2026-01-02T00:00:00Z" }, 3: {} },
  ],
];

test.each(peerCases)("peers: %s", (_name, messages, expected) => {
  const { peers } = run(FIRST, ...messages);
  const wanted = Object.entries(expected).map(([id, more]) => [Number(id), node(Number(id), more)]);
  expect([...peers]).toEqual(wanted);
});

const filterCases: [string, MapResponse[], string[]][] = [
  ["none at all denies", [{ PacketFilters: { "*": null } }], []],
  ["sorted by name", [{ PacketFilters: { z: [rule("z")], a: [rule("a")] } }], ["a", "*", "z"]],
  ["null deletes one", [{ PacketFilters: { a: [rule("a")] } }, { PacketFilters: { base: null } }], ["a"]],
  ["star clears first", [{ PacketFilters: { b: [rule("b")], "*": null } }], ["b"]],
  ["PacketFilter is base", [{ PacketFilter: [rule("x")] }, { PacketFilters: { base: [rule("y")] } }], ["y"]],
  ["an empty list denies", [{ PacketFilter: [] }], []],
  ["absent keeps", [{ Domain: "d" }], ["*"]],
];

test.each(filterCases)("filters: %s", (_name, messages, expected) => {
  expect(run(FIRST, ...messages).packetFilter.flatMap(({ SrcIPs }) => SrcIPs)).toEqual(expected);
});

test("no filter in the first message denies", () => {
  expect(run({ Node: node(1) }).packetFilter).toEqual([]);
});

test("DERP regions: null keeps, a null region goes; health and domain", () => {
  const region = { RegionID: 1, RegionCode: "a", RegionName: "A", Nodes: [] };
  const map = run(
    { ...FIRST, DERPMap: { Regions: { 1: region } }, Health: ["bad"], Domain: "d" },
    { DERPMap: { Regions: null, HomeParams: { RegionScore: { 1: 2 } } }, Domain: "" },
  );
  expect(map.derpMap).toEqual({ Regions: { 1: region }, HomeParams: { RegionScore: { 1: 2 } } });
  expect([map.health, map.domain]).toEqual([["bad"], "d"]);
  expect(applyMapResponse(map, { Health: [] }, NOW).health).toEqual([]);
  expect(applyMapResponse(map, { KeepAlive: true, Node: node(8) }, NOW)).toBe(map);
});

test("CC-4: random deltas sum up to the full map", () => {
  const random = seededRandom(4);
  const pick = (below: number) => (random(1)[0] ?? 0) % below;
  for (let round = 0; round < 2000; round++) {
    let map = applyMapResponse(undefined, { Node: node(1) }, NOW);
    const model = new Map<number, Node>();
    for (let step = 0; step < 20; step++) {
      const id = 2 + pick(12);
      const known = model.get(id);
      const kind = pick(4);
      let message: MapResponse;
      if (kind === 0) {
        message = { PeersRemoved: [id] };
        model.delete(id);
      } else if (kind === 1) {
        message = { PeersChanged: [node(id, { Cap: step })] };
        model.set(id, node(id, { Cap: step }));
      } else if (kind === 2) {
        message = { OnlineChange: { [id]: step % 2 === 0 } };
        if (known) model.set(id, { ...known, Online: step % 2 === 0 });
      } else {
        message = { PeersChangedPatch: [{ NodeID: id, DERPRegion: 1 + step }] };
        if (known) model.set(id, { ...known, HomeDERP: 1 + step });
      }
      map = applyMapResponse(map, message, NOW);
    }
    expect(map.peers).toEqual(model);
  }
});

const corpus = path.resolve(import.meta.dirname, "../../../shared/corpora/stock/maps.jsonl.gz");

test.skipIf(!existsSync(corpus))("every message of the stock capture is digested (skips without the corpus)", () => {
  const lines = gunzipSync(readFileSync(corpus)).toString("utf8").trim().split("\n");
  const maps = new Map<number, NetworkMap>();
  for (const line of lines) {
    const { node: id, map: message } = JSON.parse(line) as { node: number; map: MapResponse };
    // DERPMap comes with the first message of a stream only
    const previous = message.DERPMap != null && message.Node != null ? undefined : maps.get(id);
    const before = JSON.stringify(previous?.self);
    const map = applyMapResponse(previous, message, NOW);
    for (const peer of message.PeersChanged ?? []) expect(map.peers.get(peer.ID)).toEqual(peer);
    for (const gone of message.PeersRemoved ?? []) expect(map.peers.has(gone)).toBe(false);
    for (const user of message.UserProfiles ?? []) expect(map.users.get(user.ID)).toEqual(user);
    if (message.PacketFilters?.["base"] != null) expect(map.packetFilter).toEqual(message.PacketFilters["base"]);
    if (message.Node == null) expect(JSON.stringify(map.self)).toBe(before);
    expect(map.peers.has(map.self.ID)).toBe(false);
    maps.set(id, map);
  }
  expect(lines.length).toBeGreaterThan(300);
  expect(maps.size).toBeGreaterThanOrEqual(3);
});
