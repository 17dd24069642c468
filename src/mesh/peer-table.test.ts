import { beforeEach, describe, expect, test } from "vitest";
import { mapNode, networkMap } from "../../test/suites/network-map.ts";
import { parseAddress } from "../base/address.ts";
import { PathTable } from "../base/path-table.ts";
import { seededRandom } from "../base/random.ts";
import { chooseAead } from "../crypto/aead/choose.ts";
import { formatKey, generatePrivateKey, publicKeyOf } from "../crypto/keys.ts";
import type { NetworkMap } from "../wire/network-map.ts";
import type { Node } from "../wire/tailcfg.ts";
import { PacketFilter } from "./filter/filter.ts";
import { Paths } from "./paths/paths.ts";
import { PeerTable } from "./peer-table.ts";
import { WireGuard } from "./wireguard/device.ts";

const random = seededRandom(8);
const key = () => formatKey("nodekey", publicKeyOf(generatePrivateKey(random)));
const aead = await chooseAead();
const WALL = Date.UTC(2026, 0, 1);

const self = mapNode(1, {
  Name: "gw.tail.test.",
  Key: key(),
  Addresses: ["100.64.0.1/32", "fd7a:115c:a1e0::1/128"],
});
const peer = (ID: number, more: Partial<Node> = {}): Node => mapNode(ID, { Key: key(), HomeDERP: 1, ...more });
const mapOf = (...peers: Node[]): NetworkMap => networkMap(peers, { self });

let table: PeerTable;
let wireguard: WireGuard;
let removed: number[];
let restarted: number[];
let onRemoved: (index: number) => void;

beforeEach(() => {
  removed = [];
  restarted = [];
  onRemoved = (index) => removed.push(index);
  const privateKey = generatePrivateKey(random);
  wireguard = new WireGuard({ privateKey, random, wall: () => WALL, aead, send: () => {} });
  const paths = new Paths({
    discoPrivateKey: generatePrivateKey(random),
    nodePublicKey: publicKeyOf(privateKey),
    random,
    table: new PathTable(),
    send: () => {},
    onEndpoints: () => {},
    onNetInfo: () => {},
  });
  table = new PeerTable({
    wireguard,
    paths,
    filter: new PacketFilter(),
    onRestarted: (index) => restarted.push(index),
    onRemoved: (index) => onRemoved(index),
  });
});

const owner = (address: string) => {
  const bytes = parseAddress(address)!;
  return table.byIndex(wireguard.route(bytes, 0, bytes.length as 4 | 16))?.node.ID;
};

describe("CC-5 what the server says of a peer gives it no more than its own addresses", () => {
  test.each<[string, Partial<Node>, string]>([
    ["a default route", { AllowedIPs: ["100.64.0.2/32", "0.0.0.0/0"] }, "8.8.8.8"],
    ["a subnet route", { AllowedIPs: ["100.64.0.2/32", "10.0.0.0/8"], PrimaryRoutes: ["10.0.0.0/8"] }, "10.1.1.1"],
    ["an address of ours", { Addresses: ["100.64.0.2/32", "100.64.0.1/32"] }, "100.64.0.1"],
  ])("%s", (_, more, address) => {
    table.apply(mapOf(peer(2, more)), 0, WALL);
    expect([owner("100.64.0.2"), owner(address)]).toEqual([2, undefined]);
  });

  test.each<[string, string]>([
    ["another peer's", "100.64.0.3/32"],
    ["ours", "100.64.0.1/32"],
    ["one outside of the mesh", "10.1.1.1/32"],
    ["several at once", "100.64.0.8/31"],
  ])("an address that is %s is no service's", (_, prefix) => {
    const address = prefix.split("/")[0]!;
    const holder = address === "100.64.0.3" ? 3 : undefined;
    table.apply(mapOf(peer(3), peer(2, { AllowedIPs: ["100.64.0.2/32", prefix] })), 0, WALL);
    expect([owner("100.64.0.2"), owner(address)]).toEqual([2, holder]);
  });

  test("the address of a service is its host's, and goes with it to the next one", () => {
    const [first, second] = [peer(2), peer(3)];
    const hosting = (node: Node): Node => ({
      ...node,
      AllowedIPs: [...node.Addresses, "100.64.0.9/32", "fd7a:115c:a1e0::9/128"],
    });
    table.apply(mapOf(hosting(first), second), 0, WALL);
    expect([owner("100.64.0.9"), owner("fd7a:115c:a1e0::9")]).toEqual([2, 2]);
    table.apply(mapOf(first, hosting(second)), 0, WALL);
    expect([owner("100.64.0.9"), owner("100.64.0.2")]).toEqual([3, 2]);
    table.apply(mapOf(first, second), 0, WALL);
    expect(owner("100.64.0.9")).toBeUndefined();
  });

  test("a peer with our own key is none", () => {
    table.apply(mapOf(peer(2, { Key: self.Key }), peer(3)), 0, WALL);
    expect([...table.all].map(({ node }) => node.ID)).toEqual([3]);
  });
});

describe("CC-9 a peer whose key has run out", () => {
  test("is no peer, and its connections are cut; the next expiry is told", () => {
    const [soon, later, never] = [
      peer(2, { KeyExpiry: new Date(WALL + 1000).toISOString() }),
      peer(3, { KeyExpiry: new Date(WALL + 5000).toISOString() }),
      peer(4),
    ];
    const map = mapOf(soon, later, never);
    expect(table.apply(map, 0, WALL)).toBe(WALL + 1000);
    expect(table.apply(map, 0, WALL + 999)).toBe(WALL + 1000);
    expect(removed).toEqual([]);
    expect(table.apply(map, 0, WALL + 1000)).toBe(WALL + 5000);
    expect([removed, owner("100.64.0.2"), owner("100.64.0.3")]).toEqual([[0], undefined, 3]);
    expect(table.apply(map, 0, WALL + 5000)).toBe(Infinity);
  });

  test("is one again once it was renewed", () => {
    const expired = peer(2, { Expired: true });
    table.apply(mapOf(expired), 0, WALL);
    expect(owner("100.64.0.2")).toBeUndefined();
    table.apply(mapOf({ ...expired, Expired: false }), 0, WALL);
    expect(owner("100.64.0.2")).toBe(2);
  });
});

test("a peer with a new key is another peer: what rested on the old one is cut", () => {
  const old = peer(2);
  table.apply(mapOf(old), 0, WALL);
  table.apply(mapOf({ ...old, Key: key() }), 0, WALL);
  expect([removed, owner("100.64.0.2")]).toEqual([[0], 2]);
});

test("cleared, nobody is left, and the same map brings them back", () => {
  const map = mapOf(peer(2), peer(3));
  table.apply(map, 0, WALL);
  table.clear();
  expect([removed, owner("100.64.0.2")]).toEqual([[0, 1], undefined]);
  table.apply(map, 0, WALL);
  expect([owner("100.64.0.2"), owner("100.64.0.3")]).toEqual([2, 3]);
});

test("IP-17 a peer whose disco key is another one was started anew; other news of it say nothing of the kind", () => {
  const disco = (digit: string): string => `discokey:${digit.repeat(64)}`;
  const one = peer(2, { DiscoKey: disco("a") });
  table.apply(mapOf(one), 0, WALL);
  table.apply(mapOf({ ...one, Endpoints: ["192.0.2.1:1"] }), 1, WALL);
  expect(restarted).toEqual([]);
  table.apply(mapOf({ ...one, DiscoKey: disco("b") }), 2, WALL);
  expect(restarted).toEqual([table.byKey(one.Key.slice("nodekey:".length))!.index]);
});

test("FN-8 a peer that goes is told of the end of its connections while the tunnel to it stands", () => {
  const routes: boolean[] = [];
  onRemoved = () => routes.push(wireguard.route(parseAddress("100.64.0.2")!, 0, 4) >= 0);
  table.apply(mapOf(peer(2)), 0, WALL);
  table.apply(mapOf(), 1, WALL);
  expect([routes, owner("100.64.0.2")]).toEqual([[true], undefined]);
});
