import fc from "fast-check";
import { expect, test } from "vitest";
import type { AddressPort } from "../../src/base/address.ts";
import { Fault } from "../../src/base/fault.ts";
import { MapCallers } from "../../src/identity/map-callers.ts";
import { MagicDns } from "../../src/mesh/dns/magic-dns.ts";
import { compileRule } from "../../src/mesh/filter/rule.ts";
import { allowedPrefixes } from "../../src/mesh/peer-table.ts";
import { capabilitiesOf } from "../../src/wire/capabilities.ts";
import { applyMapResponse, keyExpiryMs } from "../../src/wire/map-apply.ts";
import { checkMapResponse } from "../../src/wire/map-check.ts";
import type { NetworkMap } from "../../src/wire/network-map.ts";
import type { MapResponse } from "../../src/wire/tailcfg.ts";
import { expectUnpolluted, FUZZ_TIMEOUT_MS, holds, NASTY, pathsIn, withValue } from "./fuzzing.ts";

const timeout = FUZZ_TIMEOUT_MS;
const NOW = "2026-01-01T00:00:00Z";
const key = (digit: string): string => `nodekey:${digit.repeat(64)}`;
const node = {
  ...{ ID: 1, StableID: "n1", Name: "gate.tail.test.", User: 1, Key: key("a"), KeyExpiry: NOW },
  ...{ DiscoKey: `discokey:${"b".repeat(64)}`, Addresses: ["100.64.0.1/32", "fd7a:115c:a1e0::1/128"] },
  ...{ AllowedIPs: ["100.64.0.1/32"], PrimaryRoutes: ["10.0.0.0/8"], Endpoints: ["192.0.2.1:1"], HomeDERP: 1 },
  Hostinfo: {
    Hostname: "gate",
    OS: "linux",
    Services: [{ Proto: "peerapi4", Port: 1 }],
    NetInfo: { PreferredDERP: 1 },
  },
  ...{ DERP: "127.3.3.40:1", Online: true, LastSeen: NOW, Tags: ["tag:a"], CapMap: { https: null, a: [{ b: 1 }] } },
  ...{ Expired: false, IsWireGuardOnly: false, IsJailed: false, Created: NOW, Unknown: { to: ["us"] } },
};
const rule = {
  ...{ SrcIPs: ["*", "cap:x", "100.64.0.0/10"], IPProto: [6] },
  DstPorts: [{ IP: "*", Ports: { First: 0, Last: 65535 } }],
  CapGrant: [{ Dsts: ["100.64.0.1/32"], CapMap: { "a.test/b": [{ role: "x" }] }, Caps: ["c.test/d"] }],
};
/** Every member that we read, well formed. */
const WHOLE = {
  Node: node,
  Peers: [{ ...node, ID: 2, Key: key("c"), Addresses: ["100.64.0.2/32"] }],
  PeersChanged: [{ ...node, ID: 3, Key: key("d"), Addresses: ["100.64.0.3/32"] }],
  PeersChangedPatch: [
    {
      ...{ NodeID: 2, DERPRegion: 1, Cap: 100, CapMap: { a: null }, Endpoints: ["192.0.2.1:1"], Key: key("e") },
      ...{ DiscoKey: `discokey:${"d".repeat(64)}`, Online: false, LastSeen: NOW, KeyExpiry: NOW },
    },
  ],
  ...{
    PeersRemoved: [3],
    PeerSeenChange: { 2: true },
    OnlineChange: { 2: true },
    KeepAlive: false,
    Domain: "tail.test",
  },
  ...{ PacketFilter: [rule], PacketFilters: { base: [rule], "*": null }, Health: ["x"], ControlTime: NOW },
  DERPMap: {
    HomeParams: { RegionScore: { 1: 1 } },
    Regions: {
      1: {
        ...{ RegionID: 1, RegionCode: "a", RegionName: "A" },
        Nodes: [{ Name: "1a", RegionID: 1, HostName: "relay.test", IPv4: "192.0.2.2", STUNPort: 3478, DERPPort: 443 }],
      },
    },
  },
  DNSConfig: {
    ...{ Resolvers: [{ Addr: "192.0.2.1" }], Routes: { "a.b": [{ Addr: "192.0.2.1" }], "c.d": null }, Proxied: true },
    ...{ Domains: ["tail.test"], CertDomains: ["gate.tail.test"], ExtraRecords: [{ Name: "x.y", Value: "192.0.2.1" }] },
  },
  UserProfiles: [{ ID: 1, LoginName: "ada@example.com", DisplayName: "Ada", ProfilePicURL: "", Groups: ["g"] }],
  PingRequest: { URL: "/x", Types: "c2n", Payload: "" },
};
const FIRST = applyMapResponse(undefined, WHOLE as unknown as MapResponse, NOW);

/** Everything that a new map is given to. */
function digest(map: NetworkMap): void {
  const nodes = [map.self, ...map.peers.values()];
  for (const one of nodes) {
    expect(Number.isNaN(keyExpiryMs(one))).toBe(false);
    allowedPrefixes(one, new Set(map.self.Addresses), new Set());
    JSON.stringify(one); // as the local interface shows it
  }
  const dns = new MagicDns();
  dns.setMap(map);
  for (const name of ["gate", "x.y", "__proto__"]) dns.lookup(name);
  for (const one of map.packetFilter) compileRule(one);
  const destination: AddressPort = { address: "100.64.0.1", port: 443 };
  const callers = new MapCallers((from, to) => capabilitiesOf(map.packetFilter, from, to));
  callers.setMap(map);
  for (const { Key, Addresses } of nodes) {
    const source = { address: Addresses[0]?.split("/")[0] ?? "", port: 1 };
    const caller = callers.of({ kind: "mesh", nodeKey: Key, source, destination }, 0);
    if (!(caller instanceof Fault)) JSON.parse(callers.capabilities(caller, destination.address, ["*"]) ?? "{}");
  }
}

/** As the control client does with what came off the wire; a Fault ends the stream, anything else the process. */
function take(message: unknown): void {
  const { response } = checkMapResponse(message as MapResponse);
  for (const previous of [undefined, FIRST]) {
    try {
      digest(applyMapResponse(previous, response, NOW));
    } catch (thrown) {
      if (!(thrown instanceof Fault)) throw thrown;
    }
  }
}

const where = fc.constantFrom(...pathsIn(WHOLE));

test("CC-5 whatever stands in the place of any member, it is left out or the map is refused", { timeout }, () => {
  const property = fc.property(where, fc.constantFrom(...NASTY), (path, value) => {
    take(withValue(WHOLE, path, value));
    expectUnpolluted();
  });
  holds(property, 1000);
});

test("CC-5 any member beside any other, also one called __proto__", { timeout }, () => {
  const name = fc.constantFrom("__proto__", "constructor", "toString", "hasOwnProperty", "then", "7");
  const change = fc.tuple(where, name, fc.constantFrom(...NASTY.slice(0, -1)));
  const property = fc.property(fc.array(change, { minLength: 1, maxLength: 4 }), (changes) => {
    let message: unknown = WHOLE;
    for (const [path, added, value] of changes) {
      if (typeof path.at(-1) === "string") message = withValue(message, [...path.slice(0, -1), added], value);
    }
    take(message);
    expectUnpolluted();
  });
  holds(property, 300);
});
