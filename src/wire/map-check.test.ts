import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { gunzipSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { mapNode } from "../../test/suites/network-map.ts";
import { Fault } from "../base/fault.ts";
import { applyMapResponse, keyExpiryMs } from "./map-apply.ts";
import { checkMapResponse } from "./map-check.ts";
import type { MapResponse, Node } from "./tailcfg.ts";

const self = mapNode(1, {
  Name: "gate.tail.test.",
  Key: `nodekey:${"a".repeat(64)}`,
  Addresses: ["100.64.0.1/32", "fd7a:115c:a1e0::1/128"],
});
const peer = (ID: number, more: object = {}): Node => ({
  ...self,
  ID,
  StableID: `n${ID}`,
  Name: `p${ID}.tail.test.`,
  ...more,
});
const check = (message: unknown) => checkMapResponse(message as MapResponse);

describe("CC-5 of a hostile map the rest is applied", () => {
  test.each<[string, object]>([
    ["a whole network as its address", { Addresses: ["0.0.0.0/0"] }],
    ["no addresses", { Addresses: null }],
    ["an address that is none", { Addresses: ["100.64.0.300/32"] }],
    ["a line break in its name", { Name: "x\r\nTailscale-User-Login: admin" }],
    ["an escape sequence in its name", { Name: "\u001b[2Jx.tail.test." }],
    ["a name of 300 bytes", { Name: "x".repeat(300) }],
    ["no number", { ID: "7" }],
    ["number 0", { ID: 0 }],
    ["a number that is no whole one", { ID: 1.5 }],
    ["a key that is no text", { Key: { toString: "x" } }],
    ["an expiry that is no text", { KeyExpiry: 7 }],
    ["an expiry that no clock knows, which must not pass for never", { KeyExpiry: "soon" }],
    ["a capability that nests 70 deep", { CapMap: { a: [JSON.parse(`${"[".repeat(70)}${"]".repeat(70)}`)] } }],
    ["tags that are no list", { Tags: "tag:admin" }],
    ["endpoints that are no texts", { Endpoints: [{}] }],
    ["a relay below zero", { HomeDERP: -1 }],
    ["capabilities that are no record", { CapMap: ["x"] }],
    ["a hostinfo with services that are none", { Hostinfo: { Services: [7] } }],
  ])("a peer with %s is left out, its neighbour is not", (_, more) => {
    const { response, rejected } = check({ Node: self, Peers: [peer(2, more), peer(3), null, 7] });
    expect(response.Peers?.map(({ ID }) => ID)).toEqual([3]);
    expect(rejected).toEqual({ Peers: 3 });
  });

  test("null is what Go writes for nothing", () => {
    const empty = {
      AllowedIPs: null,
      Endpoints: null,
      Tags: null,
      CapMap: { x: null },
      Hostinfo: null,
      PrimaryRoutes: null,
    };
    const message = {
      Node: self,
      Peers: [peer(2, empty)],
      DNSConfig: null,
      PacketFilters: { base: null },
      DERPMap: { Regions: null },
    };
    expect(check(message).rejected).toEqual({});
  });

  test("a peer whose expiry or disco key is null is a peer without: it once ended the whole map", () => {
    const { response, rejected } = check({ Node: self, Peers: [peer(2, { KeyExpiry: null, DiscoKey: null })] });
    expect(rejected).toEqual({});
    expect(response.Peers).toEqual([peer(2)]);
    expect(keyExpiryMs(response.Peers![0]!)).toBe(Infinity);
    const patched = check({ PeersChangedPatch: [{ NodeID: 2, KeyExpiry: null, Online: true }] }).response;
    expect(patched.PeersChangedPatch).toEqual([{ NodeID: 2, Online: true }]);
  });

  test("rules, regions, profiles and names that are none are left out", () => {
    const { response, rejected } = check({
      Node: self,
      PacketFilter: [{ SrcIPs: "*" }, { SrcIPs: ["*"], DstPorts: [] }],
      PacketFilters: { a: [7], b: "x", c: null },
      DERPMap: {
        Regions: { 1: { RegionID: 1, Nodes: [{ RegionID: 1, HostName: "a\nb" }] }, 2: { RegionID: 2, Nodes: null } },
      },
      UserProfiles: [{ ID: 1 }, { ID: 2, LoginName: "bob" }],
      DNSConfig: { ExtraRecords: [{ Name: 7 }] },
      PeersRemoved: [1, "2"],
    });
    expect(rejected).toEqual({
      PacketFilter: 1,
      PacketFilters: 2,
      DERPMap: 1,
      UserProfiles: 1,
      DNSConfig: 1,
      PeersRemoved: 1,
    });
    expect(response).toMatchObject({
      PacketFilter: [{ SrcIPs: ["*"] }],
      PacketFilters: { a: [], c: null },
      UserProfiles: [{ ID: 2 }],
    });
    expect(Object.keys(response.DERPMap?.Regions ?? {})).toEqual(["2"]);
    expect(response.PeersRemoved).toBeUndefined();
  });

  test("whatever stands in its members, a message is applied or refused by a Fault", () => {
    const members = [
      "Node",
      "Peers",
      "PeersChanged",
      "PeersChangedPatch",
      "PeersRemoved",
      "PacketFilter",
      "PacketFilters",
    ];
    members.push(
      "DERPMap",
      "DNSConfig",
      "UserProfiles",
      "Health",
      "OnlineChange",
      "PeerSeenChange",
      "ControlTime",
      "Domain",
    );
    const value = fc.oneof(
      fc.jsonValue({ maxDepth: 3 }),
      fc.array(
        fc.record({ ID: fc.jsonValue(), NodeID: fc.integer(), Addresses: fc.jsonValue(), SrcIPs: fc.jsonValue() }),
      ),
    );
    const message = fc.dictionary(fc.constantFrom(...members), value as fc.Arbitrary<unknown>);
    const first = applyMapResponse(undefined, { Node: self, Peers: [peer(2)] }, "");
    fc.assert(
      fc.property(message, fc.boolean(), (found, isFirst) => {
        const { response } = check(found);
        try {
          applyMapResponse(isFirst ? undefined : first, response, "2026-01-01T00:00:00Z");
        } catch (thrown) {
          expect(thrown).toBeInstanceOf(Fault);
        }
      }),
      { numRuns: 300 },
    );
  });

  test("100,000 peers are taken", () => {
    const Peers = Array.from({ length: 100_000 }, (_, i) =>
      peer(i + 2, { Addresses: [`100.64.${(i >> 8) & 255}.${i & 255}/32`] }),
    );
    expect(check({ Node: self, Peers }).rejected).toEqual({});
  });
});

const corpus = path.resolve(import.meta.dirname, "../../../shared/corpora/stock/maps.jsonl.gz");
test("a server that writes null for empty lists of its DNS settings does not end the program", () => {
  const { response, rejected } = check({
    Node: self,
    DNSConfig: { Resolvers: null, FallbackResolvers: null, Routes: { "a.b": null }, Domains: null, ExtraRecords: null },
  });
  expect(rejected).toEqual({});
  expect(response.DNSConfig).toEqual({ Routes: { "a.b": null } });
});

test.skipIf(!existsSync(corpus))("nothing of what stock servers say is rejected", () => {
  const lines = gunzipSync(readFileSync(corpus)).toString("utf8").trim().split("\n");
  expect(lines.length).toBeGreaterThan(10);
  for (const line of lines) {
    const { map } = JSON.parse(line) as { map: MapResponse };
    expect(check(map).rejected).toEqual({});
  }
});
