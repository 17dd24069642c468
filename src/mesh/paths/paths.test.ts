import { expect, test } from "vitest";
import { playedPeer } from "../../../test/suites/disco-peer.ts";
import { HOP_MS, Host, type Kind, MAP, pair, RELAY_MS, World } from "../../../test/suites/disco-world.ts";
import { toHex } from "../../base/bytes.ts";
import { createBatch, PACKET, STRIDE } from "../../base/packet.ts";
import type { Path } from "../../base/path-table.ts";
import { encodeStunAnswer } from "../../wire/stun.ts";

const KINDS: readonly Kind[] = ["none", "full cone", "restricted", "port-restricted", "symmetric"];
const hard = (kind: Kind) => kind === "symmetric";
const isImpossible = (a: Kind, b: Kind) =>
  (hard(a) && (hard(b) || b === "port-restricted")) || (hard(b) && a === "port-restricted");

test.each(KINDS.flatMap((a) => KINDS.map((b) => [a, b] as const)))("NAT %s and %s", (kindA, kindB) => {
  const { world, a, b } = pair(kindA, kindB);
  a.talk(20_000);
  b.talk(20_000);
  world.run(15_000);
  const wanted = isImpossible(kindA, kindB) ? "derp" : "udp";
  expect([a.kind(world.now), b.kind(world.now)]).toEqual([wanted, wanted]);
});

test("NetInfo tells the home, latencies and whether the NAT varies", () => {
  const { a, b } = pair("symmetric", "full cone");
  expect(a.info).toMatchObject({
    MappingVariesByDestIP: true,
    WorkingUDP: true,
    DERPLatency: { "1-v4": 0.02, "2-v4": 0.02 },
  });
  expect(b.info).toMatchObject({ MappingVariesByDestIP: false });
  expect([1, 2]).toContain(a.paths.homeRegion);
  expect(b.endpoints).toEqual(["203.0.113.2:20000", "10.0.2.2:41641"]);
});

test("a way that is silent because the peer has nothing to say is asked, and kept", () => {
  const { world, a } = pair("none", "none");
  a.talk(30_000);
  world.run(2000);
  for (let i = 0; i < 200; i++) {
    world.run(100);
    expect(a.kind(world.now)).toBe("udp");
  }
});

test("the second packet goes directly: a ping that comes through is answered by one of ours", () => {
  const { world, a } = pair("port-restricted", "port-restricted");
  a.paths.sent(0, world.now);
  // Through the relay to the peer, its ping, our ping, its pong.
  world.run(RELAY_MS + 3 * HOP_MS + 5);
  expect(a.kind(world.now)).toBe("udp");
});

test("a way belongs to the peer that the relay names, or whose address it is; strangers cost little", () => {
  const { host, world, nodeKey } = playedPeer(["192.0.2.9:5000"]);
  const at = (path: Path) => host.paths.ownerOf(host.table.intern(path), world.now);
  expect(at({ kind: "derp", region: 1, nodeKey: toHex(nodeKey) })).toBe(0);
  expect(at({ kind: "derp", region: 1, nodeKey: "ab" })).toBe(-1);
  expect(at({ kind: "udp", address: "192.0.2.9", port: 5000 })).toBe(0);
  for (let i = 0; i < 30; i++) expect(at({ kind: "udp", address: "192.0.2.8", port: i + 1 })).toBe(-1);
  expect(at({ kind: "udp", address: "192.0.2.9", port: 5000 })).toBe(-1);
  world.run(1000);
  expect(at({ kind: "udp", address: "192.0.2.9", port: 5000 })).toBe(0);
});

test("a session that sends nothing stops pinging after 45 s", () => {
  const { world, a, b } = pair("none", "none");
  a.talk(1000);
  world.run(60_000);
  const isPing = ({ to }: Host["sent"][number]) => to.kind === "udp" && to.port === 41641;
  const before = a.sent.filter(isPing).length;
  world.run(120_000);
  expect(a.sent.filter(isPing).length).toBe(before);
  expect(b.kind(world.now)).toBe("derp");
});

test("loopback is for nodes that have nothing else, or by the setting", () => {
  const world = new World();
  const [a, b] = [3, 4].map((seed) => new Host(world, seed, "none"));
  for (const [host, port] of [
    [a!, 1],
    [b!, 2],
  ] as const)
    host.paths.setLocalAddresses(["127.0.0.1"], port, 0);
  expect(a!.endpoints).toEqual(["127.0.0.1:1"]);
  a!.know(b!, 0, ["127.0.0.1:2"]);
  a!.paths.sent(0, 0);
  world.run(10);
  expect(a!.sent.some(({ to }) => to.kind === "udp" && to.address === "127.0.0.1")).toBe(true);
});

test("WireGuard stays in the batch, in order; disco, STUN and relay datagrams leave it", () => {
  const { world, host, seal, nodeKey } = playedPeer();
  const ping = seal({ kind: "ping", tx: new Uint8Array(12), nodeKey });
  const stun = encodeStunAnswer(new Uint8Array(12), { address: "1.2.3.4", port: 5 })!;
  const wg = (n: number) => Uint8Array.of(4, 0, 0, 0, n, ...new Uint8Array(27));
  const datagrams = [wg(1), ping, wg(2), stun, Uint8Array.of(0, 0, 0x7a, 0x12, 0, 0, 1, 0), wg(3)];
  const batch = createBatch(8, 2048);
  for (const [i, datagram] of datagrams.entries()) {
    batch.slab.set(datagram, i * 256);
    batch.at[i * STRIDE + PACKET.offset] = i * 256;
    batch.at[i * STRIDE + PACKET.length] = datagram.length;
    batch.at[i * STRIDE + PACKET.path] = host.table.intern({ kind: "udp", address: "192.0.2.9", port: 5000 });
  }
  batch.count = datagrams.length;
  host.paths.input(batch, world.now);
  const left = Array.from({ length: batch.count }, (_, i) => batch.slab[batch.at[i * STRIDE + PACKET.offset]! + 4]);
  expect(left).toEqual([1, 2, 3]);
});

test("CLI ping: answered over DERP and on every candidate, with latencies", () => {
  const { world, a, b } = pair("none", "symmetric");
  const got: string[] = [];
  a.paths.ping(0, world.now, ({ path, latencyMs }) => void got.push(`${a.table.get(path)?.kind} ${latencyMs}`));
  world.run(3000);
  expect(got).toContain("derp 80");
  b.paths.sent(0, world.now);
  world.run(4000);
  a.paths.ping(0, world.now, ({ path, latencyMs }) => void got.push(`${a.table.get(path)?.kind} ${latencyMs}`));
  world.run(1000);
  expect(got).toContain("udp 20");
});

test("a WireGuard-only peer has no DERP, and roams to where it was authenticated", () => {
  const { world, host, nodeKey } = playedPeer();
  const peer = {
    index: 3,
    nodeKey,
    discoKey: undefined,
    endpoints: ["192.0.2.7:51820"],
    homeDerp: 0,
    isWireGuardOnly: true,
  };
  host.paths.setPeer(peer, world.now);
  expect(host.table.get(host.paths.best(3, world.now))).toMatchObject({ address: "192.0.2.7" });
  host.paths.authenticated(3, host.table.intern({ kind: "udp", address: "192.0.2.8", port: 9 }), world.now);
  expect(host.table.get(host.paths.best(3, world.now))).toMatchObject({ address: "192.0.2.8" });
  expect(host.table.get(host.paths.best(3, world.now))).toEqual({ kind: "udp", address: "192.0.2.8", port: 9 });
});

test("without UDP the home is a fixed region of the map", () => {
  const world = new World();
  world.isUdpBlocked = true;
  const host = new Host(world, 1, "none");
  world.run(10_000);
  expect(host.info).toMatchObject({ WorkingUDP: false, PreferredDERP: host.paths.homeRegion });
  expect([1, 2]).toContain(host.paths.homeRegion);
});

test("the only region is home at once: nothing is measured first", () => {
  const world = new World();
  world.isUdpBlocked = true;
  const host = new Host(world, 1, "none", {}, { Regions: { 2: MAP.Regions![2]! } });
  expect(host.info).toEqual({ PreferredDERP: 2 });
  expect(host.paths.homeRegion).toBe(2);
});
