import fc from "fast-check";
import { expect, test } from "vitest";
import { formatAddressPort, parseAddressPort } from "../../base/address.ts";
import { toHex } from "../../base/bytes.ts";
import { createBatch, PACKET, type PacketBatch, STRIDE } from "../../base/packet.ts";
import { type Path, PathTable } from "../../base/path-table.ts";
import { seededRandom } from "../../base/random.ts";
import { boxKey, openBox, sealBox } from "../../crypto/box.ts";
import { generatePrivateKey, publicKeyOf } from "../../crypto/keys.ts";
import {
  type DiscoMessage,
  decodeDiscoFrame,
  decodeDiscoMessage,
  encodeDiscoFrame,
  encodeDiscoMessage,
} from "../../wire/disco.ts";
import { decodeStunRequest, encodeStunAnswer } from "../../wire/stun.ts";
import type { DerpMap, NetInfo } from "../../wire/tailcfg.ts";
import { Paths, type PathsOptions } from "./paths.ts";

type NatKind = "none" | "full cone" | "restricted" | "port-restricted" | "symmetric";

const STUN_SERVERS = ["198.51.100.1:3478", "198.51.100.2:3478"];
const HOP_MS = 10;
const RELAY_MS = 40;
const MAP: DerpMap = {
  Regions: Object.fromEntries(
    [1, 2].map((id) => [
      id,
      {
        RegionID: id,
        RegionCode: `r${id}`,
        RegionName: `R${id}`,
        Nodes: [{ Name: `${id}a`, RegionID: id, HostName: `r${id}.example`, IPv4: `198.51.100.${id}` }],
      },
    ]),
  ),
};

function batchOf(datagram: Uint8Array, path: number): PacketBatch {
  const batch = createBatch(1, datagram.length);
  batch.slab.set(datagram);
  batch.at[PACKET.length] = datagram.length;
  batch.at[PACKET.path] = path;
  batch.count = 1;
  return batch;
}

/** Address translation as RFC 4787 sorts it: mapping by destination or not, filtering by address and port or not. */
class Nat {
  readonly kind: NatKind;
  readonly address: string;
  readonly #mappings: Map<string, { port: number; inside: string; contacted: Set<string> }> = new Map();
  #port = 20_000;

  constructor(kind: NatKind, address: string) {
    this.kind = kind;
    this.address = address;
  }

  out(inside: string, to: string): string {
    const key = this.kind === "symmetric" ? `${inside} ${to}` : inside;
    const mapping = this.#mappings.get(key) ?? { port: this.#port++, inside, contacted: new Set() };
    this.#mappings.set(key, mapping);
    mapping.contacted.add(to).add(to.split(":")[0]!);
    return `${this.address}:${mapping.port}`;
  }

  /** Where a datagram from `from` to our `port` goes; `undefined` = dropped. */
  in(port: number, from: string): string | undefined {
    const mapping = [...this.#mappings.values()].find((one) => one.port === port);
    if (mapping === undefined) return undefined;
    const wanted = this.kind === "full cone" ? undefined : this.kind === "restricted" ? from.split(":")[0]! : from;
    return wanted === undefined || mapping.contacted.has(wanted) ? mapping.inside : undefined;
  }
}

class World {
  now = 0;
  isUdpBlocked = false;
  readonly #events: { at: number; order: number; run: () => void }[] = [];
  readonly hosts: Host[] = [];

  later(ms: number, run: () => void): void {
    this.#events.push({ at: this.now + ms, order: this.#events.length, run });
  }

  run(ms: number): void {
    const end = this.now + ms;
    for (;;) {
      this.#events.sort((a, b) => a.at - b.at);
      const next = Math.min(
        this.#events[0]?.at ?? Infinity,
        ...this.hosts.map(({ paths }) => Math.max(paths.deadline, this.now)),
      );
      if (next > end) break;
      this.now = next;
      while (this.#events[0] !== undefined && this.#events[0].at <= next) this.#events.shift()!.run();
      for (const { paths } of this.hosts) paths.poll(this.now);
    }
    this.now = end;
  }

  udp(from: Host, to: string, datagram: Uint8Array): void {
    if (this.isUdpBlocked) return;
    const seen = from.nat === undefined ? from.socket : from.nat.out(from.socket, to);
    this.later(HOP_MS, () => {
      if (STUN_SERVERS.includes(to)) {
        const tx = decodeStunRequest(datagram)!;
        const answer = encodeStunAnswer(tx, parseAddressPort(seen)!)!;
        this.later(HOP_MS, () => this.arrive(seen, to, answer));
      } else {
        this.arrive(to, seen, datagram);
      }
    });
  }

  arrive(to: string, from: string, datagram: Uint8Array): void {
    const [address, port] = to.split(":");
    const nat = this.hosts.find((host) => host.nat?.address === address)?.nat;
    const inside = nat === undefined ? to : nat.in(Number(port), from);
    const host = this.hosts.find(({ socket }) => socket === inside);
    host?.receive({ kind: "udp", ...parseAddressPort(from)! }, datagram);
  }
}

class Host {
  readonly paths: Paths;
  readonly table: PathTable = new PathTable();
  readonly nodeKey: Uint8Array;
  readonly discoPrivate: Uint8Array;
  readonly nat: Nat | undefined;
  readonly socket: string;
  readonly world: World;
  readonly sent: { readonly to: Path; readonly datagram: Uint8Array; readonly at: number }[] = [];
  endpoints: readonly string[] = [];
  info: NetInfo | undefined;

  constructor(world: World, seed: number, kind: NatKind, options: Partial<PathsOptions> = {}, map: DerpMap = MAP) {
    const random = seededRandom(seed);
    this.world = world;
    this.discoPrivate = generatePrivateKey(random);
    this.nodeKey = publicKeyOf(generatePrivateKey(random));
    this.nat = kind === "none" ? undefined : new Nat(kind, `203.0.113.${seed}`);
    const address = kind === "none" ? `192.0.2.${seed}` : `10.0.${seed}.2`;
    this.socket = `${address}:41641`;
    this.paths = new Paths({
      discoPrivateKey: this.discoPrivate,
      nodePublicKey: this.nodeKey,
      random,
      table: this.table,
      send: (path, datagram) => this.send(this.table.get(path)!, datagram.slice()),
      onEndpoints: (endpoints) => {
        this.endpoints = endpoints.map(({ endpoint }) => endpoint);
      },
      onNetInfo: (info) => {
        this.info = info;
      },
      ...options,
    });
    world.hosts.push(this);
    this.paths.setLocalAddresses([address], 41641, world.now);
    this.paths.setDerpMap(map, world.now);
  }

  send(to: Path, datagram: Uint8Array): void {
    this.sent.push({ to, datagram, at: this.world.now });
    if (to.kind === "udp") {
      this.world.udp(this, formatAddressPort(to), datagram);
      return;
    }
    const peer = this.world.hosts.find(({ nodeKey }) => toHex(nodeKey) === to.nodeKey);
    const from: Path = { kind: "derp", region: to.region, nodeKey: toHex(this.nodeKey) };
    this.world.later(RELAY_MS, () => peer?.receive(from, datagram));
  }

  receive(from: Path, datagram: Uint8Array): void {
    this.paths.input(batchOf(datagram, this.table.intern(from)), this.world.now);
  }

  know(peer: Host, index: number = 0, endpoints: readonly string[] = peer.endpoints): void {
    const { nodeKey } = peer;
    const discoKey = publicKeyOf(peer.discoPrivate);
    this.paths.setPeer({ index, nodeKey, discoKey, endpoints, homeDerp: 1, isWireGuardOnly: false }, this.world.now);
  }

  /** Sends data every 500 ms. */
  talk(ms: number): void {
    this.paths.sent(0, this.world.now);
    if (ms > 500) this.world.later(500, () => this.talk(ms - 500));
  }

  kind(now: number): string {
    return this.table.get(this.paths.best(0, now))?.kind ?? "none";
  }
}

function pair(a: NatKind, b: NatKind): { world: World; a: Host; b: Host } {
  const world = new World();
  const hosts = { world, a: new Host(world, 1, a), b: new Host(world, 2, b) };
  world.run(4000); // STUN
  hosts.a.know(hosts.b);
  hosts.b.know(hosts.a);
  return hosts;
}

const KINDS: readonly NatKind[] = ["none", "full cone", "restricted", "port-restricted", "symmetric"];
const hard = (kind: NatKind) => kind === "symmetric";
const isImpossible = (a: NatKind, b: NatKind) =>
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

test("DD-12: direct, then DERP when UDP goes away, then direct again; while unsure both ways", () => {
  const { world, a, b } = pair("full cone", "port-restricted");
  a.talk(90_000);
  b.talk(90_000);
  world.run(5000);
  expect(a.kind(world.now)).toBe("udp");
  world.isUdpBlocked = true;
  const cutAt = world.now;
  let both = false;
  while (a.kind(world.now) === "udp" && world.now - cutAt < 20_000) world.run(100);
  both = a.paths.second(0, world.now) >= 0;
  expect(world.now - cutAt).toBeLessThan(6600); // the trust in an address after its last pong
  expect(both).toBe(true);
  world.run(15_000);
  expect(a.paths.second(0, world.now)).toBe(-1);
  world.isUdpBlocked = false;
  world.run(9000);
  expect([a.kind(world.now), b.kind(world.now)]).toEqual(["udp", "udp"]);
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

/** A host whose peer is played by the test. */
function alone(endpoints: readonly string[] = ["192.0.2.9:5000"]) {
  const world = new World();
  const host = new Host(world, 1, "none");
  const random = seededRandom(99);
  const discoPrivate = generatePrivateKey(random);
  const nodeKey = publicKeyOf(generatePrivateKey(random));
  const discoKey = publicKeyOf(discoPrivate);
  const key = boxKey(discoPrivate, publicKeyOf(host.discoPrivate))!;
  const setPeer = (list: readonly string[]) =>
    host.paths.setPeer(
      { index: 0, nodeKey, discoKey, endpoints: list, homeDerp: 1, isWireGuardOnly: false },
      world.now,
    );
  world.run(4000);
  setPeer(endpoints);
  const seal = (message: DiscoMessage): Uint8Array => {
    const nonce = random(24);
    return encodeDiscoFrame({ senderKey: discoKey, nonce, box: sealBox(key, nonce, encodeDiscoMessage(message)) });
  };
  const say = (message: DiscoMessage, from: string) =>
    host.receive({ kind: "udp", ...parseAddressPort(from)! }, seal(message));
  const sayByDerp = (message: DiscoMessage) =>
    host.receive({ kind: "derp", region: 1, nodeKey: toHex(nodeKey) }, seal(message));
  const heard = () =>
    host.sent.flatMap(({ to, datagram, at }) => {
      const frame = decodeDiscoFrame(datagram);
      const plain = frame === undefined ? undefined : openBox(key, frame.nonce, frame.box);
      const message = plain === undefined ? undefined : decodeDiscoMessage(plain);
      return message === undefined ? [] : [{ to, message, at }];
    });
  const pings = () =>
    heard().flatMap(({ to, message, at }) => (message.kind === "ping" ? [{ to, tx: message.tx, at }] : []));
  return { world, host, nodeKey, discoPrivate, seal, say, sayByDerp, heard, pings, setPeer };
}

const pongTo = (tx: Uint8Array): DiscoMessage => ({ kind: "pong", tx, source: { address: "192.0.2.1", port: 41641 } });

test("DD-1: only the right pong, from where it was asked, in time, moves the path", () => {
  const here = alone();
  const { world, host, say, pings } = here;
  host.paths.sent(0, world.now);
  world.run(10);
  const { tx } = pings()[0]!;
  const random = seededRandom(5);
  for (let i = 0; i < 10_000; i++) say(pongTo(random(12)), "192.0.2.9:5000");
  say(pongTo(tx), "192.0.2.9:5001");
  say(pongTo(tx), "192.0.2.10:5000");
  here.sayByDerp(pongTo(tx));
  expect(host.kind(world.now)).toBe("derp");
  world.run(5000);
  say(pongTo(tx), "192.0.2.9:5000");
  expect(host.kind(world.now)).toBe("derp");
  host.paths.sent(0, world.now);
  world.run(10);
  say(pongTo(pings().at(-1)!.tx), "192.0.2.9:5000");
  expect(host.kind(world.now)).toBe("udp");
  world.run(6000);
  say(pongTo(tx), "192.0.2.9:5000"); // twice: prolongs nothing
  world.run(600);
  expect(host.kind(world.now)).toBe("derp");
});

test("DD-2: strangers, keys of other nodes and broken boxes get no answer", () => {
  const { world, host, nodeKey, say, seal, heard } = alone();
  const pongs = () => heard().filter(({ message }) => message.kind === "pong").length;
  const tx = new Uint8Array(12).fill(1);
  say({ kind: "ping", tx, nodeKey: new Uint8Array(32).fill(9) }, "192.0.2.9:5000");
  const from = { kind: "udp", address: "192.0.2.9", port: 5000 } as const;
  const ping = seal({ kind: "ping", tx, nodeKey });
  for (let i = 6; i < ping.length; i++) {
    const broken = ping.slice();
    broken[i]! ^= 4;
    host.receive(from, broken);
  }
  host.receive({ kind: "derp", region: 1, nodeKey: toHex(new Uint8Array(32).fill(8)) }, ping);
  world.run(1000);
  expect(pongs()).toBe(0);
  host.receive(from, ping);
  expect(pongs()).toBe(1);
});

test("DD-3: a list of 1,000 addresses is 32 candidates, none of them forbidden, five a second", () => {
  const forbidden = [
    "127.0.0.1:1",
    "224.0.0.1:1",
    "0.0.0.0:1",
    "169.254.169.254:80",
    "192.0.2.1:41641",
    "255.255.255.255:9",
    "[::1]:1",
    "[ff02::1]:1",
    "[fe80::1]:1",
    "[fd7a:115c:a1e0::1]:1",
    "8.8.8.8:0",
    "100.100.100.100:53",
  ];
  const many = Array.from({ length: 1000 }, (_, i) => `8.8.${i >> 8}.${i & 255}:${1 + i}`);
  const here = alone([...forbidden, ...many]);
  const { world, host, pings, sayByDerp } = here;
  const startedAt = world.now;
  host.talk(30_000);
  sayByDerp({ kind: "callMeMaybe", endpoints: [...forbidden, ...many].map((text) => parseAddressPort(text)!) });
  world.run(30_000);
  const asked = new Set(pings().map(({ to }) => (to.kind === "udp" ? formatAddressPort(to) : "derp")));
  expect(asked.size).toBeGreaterThan(4);
  expect(asked.size).toBeLessThanOrEqual(32);
  for (const endpoint of forbidden) expect(asked.has(endpoint)).toBe(false);
  expect(pings().length).toBeLessThanOrEqual(5 + (5 * (world.now - startedAt)) / 1000);
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

test("DD-4: a peer whose disco key is of low order has no disco, and DERP still works", () => {
  const { world, host, nodeKey } = alone();
  const peer = {
    index: 0,
    nodeKey,
    discoKey: new Uint8Array(32),
    endpoints: ["192.0.2.9:1"],
    homeDerp: 1,
    isWireGuardOnly: false,
  };
  host.paths.setPeer(peer, world.now);
  host.paths.sent(0, world.now);
  world.run(1000);
  expect(host.kind(world.now)).toBe("derp");
});

test("WireGuard stays in the batch, in order; disco, STUN and relay datagrams leave it", () => {
  const { world, host, seal, nodeKey } = alone();
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
  const { world, host, nodeKey } = alone();
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
  expect(host.paths.describe(3, world.now)).toEqual({ direct: "192.0.2.8:9" });
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

test("DD-5: no datagram makes it throw, sealed or not", () => {
  const { world, host, seal, discoPrivate } = alone();
  const path = host.table.intern({ kind: "udp", address: "192.0.2.9", port: 5000 });
  const key = boxKey(discoPrivate, publicKeyOf(host.discoPrivate))!;
  const head = seal({ kind: "callMeMaybe", endpoints: [] });
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(3), (bytes, way) => {
      const nonce = head.subarray(38, 62);
      const sealed = encodeDiscoFrame({ senderKey: head.subarray(6, 38), nonce, box: sealBox(key, nonce, bytes) });
      const datagram = [
        bytes,
        sealed,
        Uint8Array.of(...head.subarray(0, 62), ...bytes),
        Uint8Array.of(1, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, ...bytes),
      ][way]!;
      host.paths.input(
        batchOf(datagram, way === 1 ? host.table.intern({ kind: "derp", region: 1, nodeKey: "zz" }) : path),
        world.now,
      );
    }),
    { numRuns: 3000 },
  );
});
